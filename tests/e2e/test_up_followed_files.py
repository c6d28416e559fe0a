"""A live `peerauth up` whose documents are written again, and someone who never stops dialling a STRICT port."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from rigs.clients import loopback
from rigs.mesh_on_this_machine import DOCUMENTED_BIND, EXAMPLE, Hammer, hammering, policy
from rigs.up_process import Up, peerauth_up

pytestmark = pytest.mark.envoy

EGRESS = loopback(250)
TIMES = 2
REWRITES = {
    "a slow shell": "(sleep .5; cat good) > pol/a.yaml",
    "half of it, and later the rest": "{ head -5 good; sleep .3; tail -n +6 good; } > pol/a.yaml",
    "unlinked, and written 50 ms later": "rm pol/a.yaml; sleep .05; cat good > pol/a.yaml",
    "cp": "cp good pol/a.yaml",
    "python": f"{sys.executable} -c \"print(open('good').read(), end='')\" > pol/a.yaml",
    "sed -i": "sed -i s/nothing/else/ pol/a.yaml",
    "another folder in its place": "cp -r pol new; mv pol old; mv new pol; rm -r old",
    "rsync": "rsync --inplace --ignore-times good pol/a.yaml",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """pol/ with the example's workloads and a.yaml, which closes finance, and `good` with the same bytes."""
    (tmp_path / "pol").mkdir()
    (tmp_path / "pol" / "mesh.yaml").write_text((EXAMPLE / "mesh.yaml").read_text().replace(DOCUMENTED_BIND, EGRESS))
    good = policy("foo", "STRICT") + "---\n" + policy("foo", "STRICT", app="finance", ports={9000: "STRICT"})
    for file in (tmp_path / "good", tmp_path / "pol" / "a.yaml"):
        file.write_text(good)
    return tmp_path


async def shell(command: str, folder: Path) -> None:
    process = await asyncio.create_subprocess_shell(command, cwd=folder)
    assert await process.wait() == 0


async def everything_before_is_decided(up: Up, folder: Path, name: str) -> None:
    """A removal waits as long as anything that loosens: when this one is followed, so is all that came before it."""
    marker = folder / "pol" / f"{name}.yaml"
    marker.write_text(policy("foo", "STRICT", app="web", ports={8080: "STRICT"}))
    await up.says("web  STRICT -> STRICT, 8080 STRICT")
    up.out.clear()
    marker.unlink()
    await up.says("web  STRICT -> STRICT")
    up.out.clear()


def answered(hammers: list[Hammer]) -> int:
    return sum(hammer.outcomes["answered"] for hammer in hammers)


async def test_writing_a_strict_file_again_lets_nobody_in(tmp_path: Path, folder: Path) -> None:
    async with peerauth_up(tmp_path / "state", str(folder / "pol"), "--apps") as up:
        address = await up.address()
        async with hammering((address, 8080), (address, 9000)) as hammers:
            await asyncio.gather(*(hammer.more(5, "refused") for hammer in hammers))
            got_in: dict[str, int] = {}
            for how, command in REWRITES.items():
                if how != "rsync" or shutil.which("rsync"):
                    before = answered(hammers)
                    for _ in range(TIMES):
                        await shell(command, folder)
                    await everything_before_is_decided(up, folder, "marker")
                    got_in[how] = answered(hammers) - before
            assert not any(got_in.values()), got_in
            assert up.err == []

            (folder / "pol" / "a.yaml").write_text("")
            await up.says("it has become empty", on=up.err)
            await asyncio.gather(*(hammer.more(5, "refused") for hammer in hammers))
            assert answered(hammers) == 0

            (folder / "pol" / "a.yaml").unlink()
            await asyncio.gather(*(hammer.more(1, "answered") for hammer in hammers))


async def test_a_pipe_that_appears_is_named_and_holds_up_neither_what_tightens_nor_the_end(
    tmp_path: Path, folder: Path
) -> None:
    (folder / "pol" / "a.yaml").write_text(policy("foo", "PERMISSIVE"))
    async with peerauth_up(tmp_path / "state", str(folder / "pol"), "--apps") as up:
        await up.address()
        os.mkfifo(folder / "pol" / "pipe.yaml")
        await up.says("is a pipe, not a file", on=up.err)
        (folder / "pol" / "a.yaml").write_text(policy("foo", "STRICT"))
        await up.says("foo/finance  PERMISSIVE -> STRICT")
        (folder / "pol" / "a.yaml").write_text(policy("foo", "PERMISSIVE"))
        assert "pipe.yaml" in await up.says("lets in more than before", on=up.err)
        (folder / "pol" / "pipe.yaml").unlink()
        await up.says("foo/finance  STRICT -> PERMISSIVE")
        await up.says("pipe.yaml is followed again")
        os.mkfifo(folder / "pol" / "pipe.yaml")
        up.process.send_signal(signal.SIGTERM)
        assert await up.ends() == 0
