"""A `peerauth up` in a process of its own, as its user runs it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from peerauth.agent.netns import sockets_of
from peerauth.local.running_mesh import RunningMesh, find
from peerauth.runtime import settings
from rigs.clients import Connection
from rigs.mesh_on_this_machine import DOCUMENTED_BIND, EXAMPLE, FINANCE, policy

PEERAUTH = "from peerauth.cli.main import main; main()"
SOCKETS = settings.from_environment().sockets
AT_MOST_S = 30


def example_documents(folder: Path, *, egress: str) -> Path:
    """The example's workloads in a new folder, whose clients listen at an address of their own, and a policy.yaml that
    opens one of two ports of finance.
    """
    folder.mkdir()
    (folder / "mesh.yaml").write_text((EXAMPLE / "mesh.yaml").read_text().replace(DOCUMENTED_BIND, egress))
    (folder / "policy.yaml").write_text(policy("foo", "STRICT", app="finance", ports={8080: "PERMISSIVE"}))
    return folder


class Up:
    """A `peerauth up` in progress."""

    def __init__(self, process: asyncio.subprocess.Process, sockets: Path) -> None:
        self.process = process
        self._sockets = sockets
        self.out: list[str] = []
        self.err: list[str] = []
        self._news = asyncio.Condition()

    async def follow(self, stream: asyncio.StreamReader | None, lines: list[str]) -> None:
        assert stream is not None
        async for raw in stream:
            lines.append(raw.decode())
            async with self._news:
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    async def says(self, text: str, *, on: list[str] | None = None) -> str:
        """The first line with a text, once it is there."""
        lines = self.out if on is None else on
        async with asyncio.timeout(AT_MOST_S), self._news:
            await self._news.wait_for(lambda: any(text in line for line in lines) or self._ended())
        found = [line for line in lines if text in line]
        assert found, "".join([*self.out, *self.err])
        return found[0]

    def _ended(self) -> bool:
        return self.process.returncode is not None

    def running(self) -> RunningMesh:
        """What it tells other processes."""
        return next(mesh for mesh in find(self._sockets) if mesh.pid == self.process.pid)

    async def address(self) -> str:
        """Where finance is, once that is known."""
        await self.says("ready; stop with Ctrl-C")
        return next(each.addresses[0] for each in self.running().workloads if each.key == FINANCE)

    async def ends(self) -> int:
        async with asyncio.timeout(AT_MOST_S):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def peerauth_up(
    state: Path,
    *arguments: str,
    sockets: Path = SOCKETS,
    python: str = sys.executable,
    environment: Mapping[str, str] = os.environ,  # noqa: TID251
) -> AsyncIterator[Up]:
    """`sockets` is in another folder than the usual one for a run of its own there."""
    elsewhere = {} if sockets == SOCKETS else {"XDG_RUNTIME_DIR": str(sockets.parent)}
    process = await asyncio.create_subprocess_exec(
        *(python, "-c", PEERAUTH, "up", *arguments, "--state", str(state)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment, **elsewhere},
    )
    up = Up(process, sockets)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(up.follow(process.stdout, up.out))
            group.create_task(up.follow(process.stderr, up.err))
            try:
                yield up
            finally:
                if process.returncode is None:
                    process.send_signal(signal.SIGINT)
                    await up.ends()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(AT_MOST_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def plaintext_is(wanted: bool, address: str, port: int, *, outside: str = "") -> None:
    """Returns once a new plaintext connection is answered, or refused, as wanted."""
    async with asyncio.timeout(AT_MOST_S):
        while await answered(address, port, outside=outside) is not wanted:  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.02)


async def answered(address: str, port: int, *, outside: str = "") -> bool:
    try:
        sockets = sockets_of(outside) if outside else None
        connection = await Connection.open(
            address,
            port,
            new_socket=None if sockets is None else lambda: sockets(2),  # AF_INET
        )
    except OSError:
        return False
    echoed = await says_back(connection)
    await connection.close()
    return echoed


async def says_back(connection: Connection) -> bool:
    """Whether the echo application repeats a line."""
    try:
        connection.writer.write(b"are you there\n")
        async with asyncio.timeout(AT_MOST_S):
            while line := await connection.reader.readline():
                if line == b"are you there\n":
                    return True
    except OSError:
        pass
    return False


def envoys_below(pid: int) -> set[int]:
    """The processes that a process started, by what the kernel says of their parents."""
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.add(int(entry.name))
    return found


def folder_of(pid: int | None) -> Path | None:
    """The private folder of a run, if there is one."""
    for file in SOCKETS.glob("*/mesh.json"):
        with contextlib.suppress(OSError):
            if f'"pid":{pid},' in file.read_text():
                return file.parent
    return None
