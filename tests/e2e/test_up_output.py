"""Nobody reads what `peerauth up` says: what it enforces, and that it can be stopped, must not depend on that."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from peerauth.local.running_mesh import RunningMesh, find
from rigs.clients import loopback
from rigs.mesh_on_this_machine import FINANCE, policy
from rigs.up_process import AT_MOST_S, PEERAUTH, SOCKETS, answered, eventually, example_documents, plaintext_is

pytestmark = pytest.mark.envoy

REFUSALS = 200
"""More lines than the pipe of these tests holds."""
IN_A_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"
)


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """The example's workloads, and a policy that opens one port of finance."""
    return example_documents(tmp_path / "documents", egress=loopback(251))


@contextlib.asynccontextmanager
async def up_writing_to(
    out: int, documents: Path, *arguments: str, through: tuple[str, ...] = (), stdin: int = asyncio.subprocess.DEVNULL
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A `peerauth up` whose both streams are a descriptor that this process closes in its place."""
    command = (sys.executable, *through, "-c", PEERAUTH, "up", str(documents), "--apps", *arguments)
    process = await asyncio.create_subprocess_exec(
        *command, stdin=stdin, stdout=out, stderr=out, start_new_session=bool(through)
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def running(process: asyncio.subprocess.Process) -> RunningMesh:
    """What a run tells other processes, once it does."""

    def told() -> list[RunningMesh]:
        return [mesh for mesh in find(SOCKETS) if mesh.pid == process.pid]

    await eventually(lambda: bool(told()) or process.returncode is not None)
    assert process.returncode is None, "the run ended at its start"
    return told()[0]


async def finance(process: asyncio.subprocess.Process) -> str:
    """Its address, once a port that is open answers there."""
    mesh = await running(process)
    address = next(each.addresses[0] for each in mesh.workloads if each.key == FINANCE)
    await plaintext_is(True, address, 8080)
    return address


async def ends(process: asyncio.subprocess.Process, number: signal.Signals) -> int:
    process.send_signal(number)
    async with asyncio.timeout(AT_MOST_S):
        return await process.wait()


async def an_edit_to_strict_is_enforced(address: str, documents: Path) -> None:
    """After so many refused connections that their lines have filled whatever they go to."""
    for _ in range(REFUSALS):
        assert not await answered(address, 9000)
    (documents / "policy.yaml").write_text(policy("foo", "STRICT", app="finance"))
    await plaintext_is(False, address, 8080)
    for _ in range(REFUSALS):
        assert not await answered(address, 8080)


def left_by(process: asyncio.subprocess.Process) -> list[RunningMesh]:
    """What is still told of a run."""
    said = [file.read_bytes() for file in SOCKETS.glob("*/mesh.json")]
    return [mesh for mesh in (msgspec.json.decode(each, type=RunningMesh) for each in said) if mesh.pid == process.pid]


def small_pipe() -> tuple[int, int]:
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    return ours, theirs


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_pipe_that_nobody_reads_holds_up_neither_an_edit_nor_the_end(
    tmp_path: Path, documents: Path, how: signal.Signals
) -> None:
    ours, theirs = small_pipe()
    async with up_writing_to(theirs, documents, "--state", str(tmp_path / "state")) as process:
        os.close(theirs)
        address = await finance(process)
        await an_edit_to_strict_is_enforced(address, documents)
        assert await ends(process, how) == 0
        assert not left_by(process)
    os.close(ours)


async def test_a_reader_who_is_gone_does_not_end_the_run(tmp_path: Path, documents: Path) -> None:
    ours, theirs = small_pipe()
    async with up_writing_to(theirs, documents, "--state", str(tmp_path / "state")) as process:
        os.close(theirs)
        os.close(ours)
        address = await finance(process)
        await an_edit_to_strict_is_enforced(address, documents)
        assert await ends(process, signal.SIGINT) == 0


async def test_a_terminal_that_nobody_reads_holds_nothing_up_and_closing_it_ends_the_run(
    tmp_path: Path, documents: Path
) -> None:
    """As after Ctrl-S; then the window is closed."""
    ours, theirs = pty.openpty()
    arguments = ("--state", str(tmp_path / "state"))
    through = ("-c", IN_A_TERMINAL, sys.executable)
    async with up_writing_to(theirs, documents, *arguments, through=through, stdin=theirs) as process:
        os.close(theirs)
        address = await finance(process)
        await an_edit_to_strict_is_enforced(address, documents)
        os.close(ours)
        async with asyncio.timeout(AT_MOST_S):
            assert await process.wait() == 0
        assert not left_by(process)


async def test_a_proof_is_written_whole_to_a_slow_reader_and_ctrl_c_ends_the_waiting(
    tmp_path: Path, documents: Path
) -> None:
    for reads in (True, False):
        ours, theirs = small_pipe()
        os.write(theirs, b"x" * 4096)  # all that it holds
        async with up_writing_to(theirs, documents, "--once", "--state", str(tmp_path / "state")) as process:
            os.close(theirs)
            await running(process)
            # Its mesh is gone when all is proved; what is left of it is the proof that waits to be read.
            await eventually(lambda: not any(mesh.pid == process.pid for mesh in find(SOCKETS)))
            assert process.returncode is None
            if reads:
                proof = b""
                while part := await asyncio.to_thread(os.read, ours, 65536):
                    proof += part
                async with asyncio.timeout(AT_MOST_S):
                    assert await process.wait() == 0
                assert proof[4096:].decode().startswith("3 sidecars")
                assert proof.decode().endswith("every one did what the policy says\n")
            else:
                assert await ends(process, signal.SIGINT) == 130
        os.close(ours)
