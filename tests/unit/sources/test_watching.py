"""Followed paths: every edit of what is read arrives, however it was made, and whatever was exchanged for it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from peerauth.errors import SourceError
from peerauth.model.diagnostic import Diagnostic
from peerauth.model.mesh import MeshConfig
from peerauth.model.peerauth import Mode
from peerauth.model.schema.faults import SYNTAX, UNREADABLE
from peerauth.model.world import World
from peerauth.sources import watching
from rigs.followed import first_of, followed
from samples.manifests import policy


def namespaces(*names: str) -> str:
    return "---\n".join(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n" for name in names)


def say(path: Path, *names: str) -> Path:
    """Replaces a file the way rsync does: a new one, with the time of its original, is renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.swp")
    draft.write_text(namespaces(*names))
    os.utime(draft, (0, 0))
    draft.rename(path)
    return path


@pytest.fixture(autouse=True)
def by_events_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is found is found because it is watched, not because everything is compared now and then."""
    monkeypatch.setattr(watching, "COMPARE_SECONDS", 3600.0)


async def test_a_file_replaced_by_renaming_is_followed_again_and_again(tmp_path: Path) -> None:
    path = say(tmp_path / "a.yaml", "one")
    async with followed(path) as found:
        for names in (["two"], ["two", "three"], ["four"]):
            say(path, *names)
            await found.until_names(*names)


async def test_files_and_folders_that_come_and_go_are_followed(tmp_path: Path) -> None:
    say(tmp_path / "a.yaml", "a")
    async with followed(tmp_path) as found:
        say(tmp_path / "sub" / "deep" / "b.yaml", "b")
        await found.until_names("a", "b")
        with (tmp_path / "sub" / "deep" / "b.yaml").open("a") as file:
            file.write("---\n" + namespaces("c"))
        await found.until_names("a", "b", "c")
        (tmp_path / "a.yaml").unlink()
        await found.until_names("b", "c")


async def test_a_path_that_is_gone_keeps_what_it_said_is_named_and_followed_when_it_is_back(tmp_path: Path) -> None:
    path = say(tmp_path / "a.yaml", "one")
    async with followed(path) as found:
        path.unlink()
        assert "does not exist" in (await found.until_held(UNREADABLE.code)).message
        assert found.names() == ["one"]
        say(path, "two")
        await found.until_names("two")
        assert found.mended == [str(path)]


async def test_an_edit_with_errors_is_told_once_and_what_was_said_stays(tmp_path: Path) -> None:
    path, other = say(tmp_path / "a.yaml", "one"), say(tmp_path / "b.yaml", "other")
    async with followed(tmp_path) as found:
        draft = tmp_path / "draft"
        draft.write_text("a: [")
        os.utime(draft, (0, 0))
        draft.rename(path)
        await found.until_held(SYNTAX.code)
        say(other, "other", "more")
        await found.until_names("one", "other", "more")
        assert [each.code for each in found.held] == [SYNTAX.code]
        say(path, "two")
        await found.until_names("two", "other", "more")
        assert found.mended == [str(path)]


async def test_what_changes_no_byte_is_no_change(tmp_path: Path) -> None:
    path = say(tmp_path / "a.yaml", "one")
    async with followed(path) as found:
        say(path, "one")
        say(tmp_path / "other.txt", "x")
        say(path, "two")
        await found.until_names("two")
        assert len(found.states) == 2


async def test_a_linked_folder_in_a_folder_is_followed_and_so_is_the_link(tmp_path: Path) -> None:
    say(tmp_path / "elsewhere" / "deep" / "a.yaml", "one")
    say(tmp_path / "third" / "deep" / "a.yaml", "three")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to("../elsewhere")
    async with followed(folder) as found:
        say(tmp_path / "elsewhere" / "deep" / "a.yaml", "two")
        await found.until_names("two")
        (folder / ".new").symlink_to("../third")
        (folder / ".new").rename(folder / "link")
        await found.until_names("three")
        say(tmp_path / "third" / "deep" / "a.yaml", "four")
        await found.until_names("four")


async def test_the_target_of_a_linked_file_is_followed_when_it_is_replaced(tmp_path: Path) -> None:
    target = say(tmp_path / "elsewhere" / "real.yaml", "one")
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "hop").symlink_to(target)
    (folder / "a.yaml").symlink_to("../hop")
    async with followed(folder) as found:
        say(target, "two")
        await found.until_names("two")
        other = say(tmp_path / "other" / "real.yaml", "three")
        (tmp_path / ".hop").symlink_to(other)
        (tmp_path / ".hop").rename(tmp_path / "hop")
        await found.until_names("three")
        say(other, "four")
        await found.until_names("four")


async def test_a_folder_that_is_exchanged_for_another_is_followed_from_then_on(tmp_path: Path) -> None:
    """`mv pol old; mv new pol`, with a parent in between that is exchanged as well."""
    folder = tmp_path / "parent" / "pol"
    say(folder / "a.yaml", "one")
    say(tmp_path / "parent" / "new" / "a.yaml", "two")
    async with followed(folder) as found:
        folder.rename(folder.with_name("old"))
        folder.with_name("new").rename(folder)
        await found.until_names("two")
        say(folder / "a.yaml", "three")
        await found.until_names("three")

        say(tmp_path / "successor" / "pol" / "a.yaml", "four")
        (tmp_path / "parent").rename(tmp_path / "predecessor")
        (tmp_path / "successor").rename(tmp_path / "parent")
        await found.until_names("four")
        say(folder / "a.yaml", "five")
        await found.until_names("five")


@pytest.mark.parametrize("what", ["folder", "file"])
async def test_an_argument_that_is_a_link_is_followed_when_it_is_swapped(tmp_path: Path, what: str) -> None:
    for name in ("one", "two"):
        say(tmp_path / name / "a.yaml", name)
    leads_to = "" if what == "folder" else "/a.yaml"
    link = tmp_path / "link"
    link.symlink_to(f"one{leads_to}")
    async with followed(link) as found:
        (tmp_path / "next").symlink_to(f"two{leads_to}")
        (tmp_path / "next").rename(link)
        await found.until_names("two")
        say(tmp_path / "two" / "a.yaml", "three")
        await found.until_names("three")
        say(tmp_path / "one" / "a.yaml", "nobody reads this")
        say(tmp_path / "two" / "a.yaml", "four")
        await found.until_names("four")


async def test_a_config_map_is_followed_as_kubernetes_mounts_it(tmp_path: Path) -> None:
    def project(number: int, *names: str) -> None:
        say(tmp_path / f"..{number}" / "a.yaml", *names)
        (tmp_path / "..data_tmp").symlink_to(f"..{number}")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    project(1, "one")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    async with followed(tmp_path) as found:
        for number, name in enumerate(("two", "three", "four"), 2):
            project(number, name)
            await found.until_names(name)


async def test_lost_notifications_are_made_up_for_by_comparing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "COMPARE_SECONDS", 0.05)
    monkeypatch.setattr(watching, "_folders_of", lambda tree: {})
    path = say(tmp_path / "a.yaml", "one")
    async with followed(tmp_path) as found:
        say(path, "two")
        await found.until_names("two")
        path.write_text(namespaces("six"))
        os.utime(path, (0, 0))
        await found.until_names("six")


async def test_what_the_mesh_cannot_be_changed_to_is_told_and_holds_up_no_other_file(tmp_path: Path) -> None:
    path, other = say(tmp_path / "a.yaml", "one"), say(tmp_path / "b.yaml", "other")
    refusal = UNREADABLE.at(message="not this one")
    wrong = "wrong"

    def accept(_: MeshConfig, world: World) -> list[Diagnostic]:
        return [refusal] if wrong in world.namespaces else []

    async with followed(tmp_path, accept=accept) as found:
        say(path, "one", "wrong")
        say(other, "other", "more")
        await found.until_names("one", "other", "more")
        await found.until(lambda: found.held == [refusal])
        say(path, "one", "right")
        await found.until_names("one", "right", "other", "more")
        assert found.held == [refusal]


async def test_a_file_that_is_being_written_is_waited_for_at_the_start(tmp_path: Path) -> None:
    path = say(tmp_path / "a.yaml", "one")
    with path.open("a") as file:
        start = asyncio.ensure_future(first_of(tmp_path))  # noqa: TID251
        done, _ = await asyncio.wait([start], timeout=0.2)
        assert not done
        file.write("---\n" + namespaces("two"))
    async with asyncio.timeout(20):
        (change,) = (await start).changes
        assert (change.source, len(change.objects)) == (f"file:{path}", 2)


async def test_a_file_that_stays_open_for_writing_is_refused_at_the_start_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "START_SECONDS", 0.0)
    path = say(tmp_path / "a.yaml", "one")
    with path.open("a"), pytest.raises(SourceError, match=f"{path} is open for writing") as raised:
        await first_of(tmp_path)
    assert str(path) in raised.value.hint


async def test_of_two_files_that_say_one_object_the_last_stands_wherever_paths_come_to_lead_to_them(
    tmp_path: Path,
) -> None:
    """`up FOLDER FOLDER/sub`: what the first leaves out is found by the second, and read after all of the first."""
    for name, mode in (("sub/a.yaml", "STRICT"), ("z.yaml", "PERMISSIVE")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(policy("foo/default", mode))
        os.utime(path, (0, 0))
    async with followed(tmp_path, tmp_path / "sub") as found:
        assert found.modes() == {"foo/default": Mode.PERMISSIVE}
        (tmp_path / ".new").write_text("sub/\n")
        (tmp_path / ".new").rename(tmp_path / ".peerauthignore")
        await found.until(lambda: found.modes() == {"foo/default": Mode.STRICT})
        (tmp_path / ".peerauthignore").unlink()
        await found.until(lambda: found.modes() == {"foo/default": Mode.PERMISSIVE})
        both = {f"file:{tmp_path / name}" for name in ("sub/a.yaml", "z.yaml")}
        assert [{change.source for change in step} for step in found.changes[1:]] == [both, both], (
            "one is heard at a time"
        )
