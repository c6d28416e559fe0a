"""Real writers of real files, as editors, shells and tools write: no state on the way is looser than both ends."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from peerauth.model.peerauth import Mode
from peerauth.model.schema.faults import SYNTAX, UNREADABLE
from peerauth.sources import followedfile
from rigs.followed import Followed, followed, modes_of
from samples.manifests import documents, namespace, pod, policy

STRICT = documents(policy("foo/default", "STRICT"), policy("foo/finance", "STRICT", app="finance"))
OPEN = documents(policy("foo/default", "PERMISSIVE"), policy("foo/finance", "DISABLE", app="finance"))
IN_A_WORD = STRICT.rindex("finance") + len("fin")
NAMES = {"foo/default", "foo/finance"}

REWRITES = {
    "slow shell": "(sleep .3; cat good) > pol/a.yaml",
    "truncated, then written": ": > pol/a.yaml; sleep .2; cat good > pol/a.yaml",
    "copied": "cp good pol/a.yaml",
    "tee": "cat good | tee pol/a.yaml >/dev/null",
    "half, then the rest": "{ head -9 good; sleep .3; tail -n +10 good; } > pol/a.yaml",
    "half, closed, then the rest": "head -9 good > pol/a.yaml; sleep .2; tail -n +10 good >> pol/a.yaml",
    "half a line, closed, then the rest": f"head -c {IN_A_WORD} good > pol/a.yaml; sleep 1.2; cp good pol/a.yaml",
    "unlinked, then written": "rm pol/a.yaml; sleep .05; cat good > pol/a.yaml",
    "moved away, then copied": "mv pol/a.yaml pol/a.bak; cp pol/a.bak pol/a.yaml",
    "sed -i": "sed -i s/nothing/else/ pol/a.yaml",
    "python": f"{sys.executable} -c \"print(open('good').read(), end='')\" > pol/a.yaml",
    "dd without truncating": "dd if=good of=pol/a.yaml conv=notrunc bs=50 status=none",
    "another folder": "mkdir new; cp good new/a.yaml; mv pol old; mv new pol",
    "rsync": "rsync -c --ignore-times good pol/a.yaml",
    "rsync in place": "rsync --inplace --ignore-times good pol/a.yaml",
    "git checkout": "cd pol && git init -q . && commit() { git -c user.name=a -c user.email=a@a commit -qam a; } && "
    "git add . && commit && git checkout -qb other && echo '# other' >> a.yaml && commit && "
    "git checkout -q - && git checkout -q other",
}


def missing(how: str) -> bool:
    """Whether a way of writing needs a tool that is not there."""
    tool = how.split(maxsplit=1)[0]
    return tool in {"rsync", "git"} and shutil.which(tool) is None


def made(folder: Path) -> Path:
    """pol/ with a mesh whose a.yaml is strict, and the file `good` with the same bytes."""
    (folder / "pol").mkdir(parents=True)
    (folder / "pol" / "mesh.yaml").write_text(documents(namespace(), pod("foo/finance"), pod("foo/web")))
    (folder / "pol" / "a.yaml").write_text(STRICT)
    (folder / "good").write_text(STRICT)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made(tmp_path)


async def shell(command: str, folder: Path) -> None:
    process = await asyncio.create_subprocess_shell(command, cwd=folder)
    assert await process.wait() == 0


async def settled(found: Followed, folder: Path) -> None:
    """Returns when an edit that comes after everything else is in force: what came before is decided by then."""
    marker = folder / "pol" / "zz.yaml"
    marker.write_text(namespace("settled"))
    await found.until(lambda: "settled" in found.names())
    marker.unlink()
    await found.until(lambda: "settled" not in found.names())


async def test_writing_the_same_again_changes_nothing_whoever_writes(tmp_path: Path) -> None:
    """All ways at once, each in a folder of its own: they take their time."""
    ways = {how: command for how, command in REWRITES.items() if not missing(how)}
    everything_strict = dict.fromkeys(NAMES, Mode.STRICT)

    async def states(command: str, folder: Path) -> list[object]:
        async with followed(made(folder) / "pol") as found:
            await shell(command, folder)
            await settled(found, folder)
        return [modes for state in found.states if (modes := modes_of(state)) != everything_strict]

    on_the_way = await asyncio.gather(*(states(ways[how], tmp_path / str(n)) for n, how in enumerate(ways)))
    assert {how: looser for how, looser in zip(ways, on_the_way, strict=True) if looser} == {}
    if left_out := [how for how in REWRITES if missing(how)]:
        pytest.skip(f"the rest held; not installed: {left_out}")


@pytest.mark.parametrize("how", ["slow shell", "unlinked, then written", "rsync in place"])
async def test_opening_and_closing_go_from_one_whole_state_to_the_other(folder: Path, how: str) -> None:
    if missing(how):
        pytest.skip("it is not installed")
    async with followed(folder / "pol") as found:
        (folder / "good").write_text(OPEN)
        await shell(REWRITES[how], folder)
        await found.until(lambda: found.modes()["foo/default"] is Mode.PERMISSIVE)
        (folder / "good").write_text(STRICT)
        await shell(REWRITES[how], folder)
        await found.until(lambda: found.modes()["foo/default"] is Mode.STRICT)
    assert all(modes_of(state).keys() == NAMES for state in found.states)
    seen = [modes_of(state)["foo/default"] for state in found.states]
    assert seen == [Mode.STRICT, Mode.PERMISSIVE, Mode.STRICT]


async def test_what_tightens_waits_for_nothing_and_a_rename_neither(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pol" / "a.yaml").write_text(OPEN)
    monkeypatch.setattr(followedfile, "SETTLE_SECONDS", 3600.0)
    async with followed(folder / "pol") as found:
        (folder / "pol" / "a.yaml").write_text(STRICT)
        await found.until(lambda: found.modes()["foo/default"] is Mode.STRICT)
        (folder / "open").write_text(OPEN)
        await shell("cp -p open pol/.a.swp; sleep .02; mv pol/.a.swp pol/a.yaml", folder)
        await found.until(lambda: found.modes()["foo/default"] is Mode.PERMISSIVE)


async def test_a_file_that_becomes_empty_takes_nothing_back_and_its_removal_does(folder: Path) -> None:
    async with followed(folder / "pol") as found:
        await shell(": > pol/a.yaml", folder)
        empty = await found.until_held("file-empty")
        assert (empty.origin.file, empty.hint) == (str(folder / "pol" / "a.yaml"), "remove the file to take it back")
        assert found.modes().keys() == NAMES
        await shell("rm pol/a.yaml", folder)
        await found.until(lambda: not found.modes())
        assert found.mended == [str(folder / "pol" / "a.yaml")]


async def test_a_file_that_stays_open_for_writing_is_named_and_followed_when_it_is_closed(folder: Path) -> None:
    async with followed(folder / "pol") as found:
        with (folder / "pol" / "a.yaml").open("w") as file:
            file.write(OPEN)
            file.flush()
            await found.until_held("file-in-writing")
            assert len(found.states) == 1
        await found.until(lambda: found.modes()["foo/default"] is Mode.PERMISSIVE)
        assert found.mended == [str(folder / "pol" / "a.yaml")]


async def test_an_end_that_is_cut_off_is_taken_back_but_not_without_a_word(folder: Path) -> None:
    async with followed(folder / "pol") as found:
        (folder / "pol" / "a.yaml").write_text(policy("foo/default", "STRICT"))
        await found.until(lambda: found.modes().keys() == {"foo/default"})
        assert [each.code for each in found.noted] == ["file-shorter"]


async def test_a_document_that_moves_into_a_broken_file_does_not_vanish(folder: Path) -> None:
    async with followed(folder / "pol") as found:
        (folder / "pol" / "b.yaml").write_text(policy("foo/finance", "STRICT", app="finance") + "---\na: [\n")
        (folder / "pol" / "a.yaml").write_text("# moved\n" + policy("foo/default", "STRICT"))
        waits = await found.until_held("file-waits")
        assert str(folder / "pol" / "b.yaml") in waits.message
        await found.until_held(SYNTAX.code)
        assert found.modes().keys() == NAMES
        (folder / "pol" / "b.yaml").write_text(policy("foo/finance", "STRICT", app="finance"))
        await found.until(lambda: len(found.mended) == 2)
        assert found.modes().keys() == NAMES


async def test_what_is_left_out_stays_out_while_the_file_that_says_so_is_written_again(folder: Path) -> None:
    ignore = folder / "pol" / ".peerauthignore"
    ignore.write_text("drafts/\n")
    (folder / "pol" / "drafts").mkdir()
    (folder / "pol" / "drafts" / "z.yaml").write_text(OPEN)
    async with followed(folder / "pol") as found:
        await shell(": > pol/.peerauthignore", folder)
        assert (await found.until_held(UNREADABLE.code)).origin.file == str(ignore)
        await shell("(sleep .2; echo drafts/) > pol/.peerauthignore", folder)
        await found.until(lambda: found.mended == [str(folder / "pol")])
        await settled(found, folder)
        assert all(modes_of(state)["foo/default"] is Mode.STRICT for state in found.states)
        ignore.unlink()
        await found.until(lambda: found.modes()["foo/default"] is Mode.PERMISSIVE)
