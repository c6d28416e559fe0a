"""Followed paths: what they say, again after every change of it, however the change was made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from peerauth.model.inventory import Namespace
from peerauth.model.schema.faults import SYNTAX, UNREADABLE
from peerauth.sources.files import Loaded
from peerauth.sources.watching import watch


def say(path: Path, *names: str) -> None:
    """Replaces a file the way editors do: a new one is renamed over it."""
    draft = path.with_name(f".{path.name}.swp")
    draft.write_text("---\n".join(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n" for name in names))
    draft.rename(path)


async def until(stream: AsyncIterator[Loaded], *names: str) -> Loaded:
    """The next value that has just these namespaces; writes that are seen half done come before it."""
    async with asyncio.timeout(20):
        async for loaded in stream:
            if [found.meta.name for found in loaded.objects if isinstance(found, Namespace)] == list(names):
                return loaded
    raise AssertionError("the stream ended")


async def test_a_file_replaced_by_renaming_is_followed_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    say(path, "one")
    stream = aiter(watch([str(path)]))
    await until(stream, "one")
    for names in (["two"], ["two", "three"], ["four"]):
        say(path, *names)
        await until(stream, *names)


async def test_files_and_folders_that_come_and_go_are_followed(tmp_path: Path) -> None:
    say(tmp_path / "a.yaml", "a")
    stream = aiter(watch([str(tmp_path)]))
    await until(stream, "a")
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    say(tmp_path / "sub" / "deep" / "b.yaml", "b")
    await until(stream, "a", "b")
    with (tmp_path / "sub" / "deep" / "b.yaml").open("a") as file:
        file.write("---\napiVersion: v1\nkind: Namespace\nmetadata: {name: c}\n")
    await until(stream, "a", "b", "c")
    (tmp_path / "a.yaml").unlink()
    await until(stream, "b", "c")


async def test_a_path_that_is_gone_is_a_fault_until_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    stream = aiter(watch([str(path)]))
    async with asyncio.timeout(20):
        assert [found.code for found in (await anext(stream)).diagnostics] == [UNREADABLE.code]
    say(path, "one")
    await until(stream, "one")
    path.unlink()
    async with asyncio.timeout(20):
        assert [found.code for found in (await anext(stream)).diagnostics] == [UNREADABLE.code]


async def test_an_edit_with_errors_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    say(path, "one")
    stream = aiter(watch([str(path)]))
    await until(stream, "one")
    draft = tmp_path / "draft"
    draft.write_text("a: [")
    draft.rename(path)
    async with asyncio.timeout(20):
        assert [found.code for found in (await anext(stream)).diagnostics] == [SYNTAX.code]


async def test_what_changes_no_byte_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    say(path, "one")
    stream = aiter(watch([str(path)]))
    await until(stream, "one")
    say(path, "one")
    say(tmp_path / "other.txt", "x")
    say(path, "two")
    async with asyncio.timeout(20):
        loaded = await anext(stream)
    assert [found.meta.name for found in loaded.objects if isinstance(found, Namespace)] == ["two"]
