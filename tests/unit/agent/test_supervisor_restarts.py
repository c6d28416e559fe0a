"""How long a supervisor waits before it starts a process again, and when it does not; the process only sleeps."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from peerauth.agent.supervisor import Backoff, Supervisor
from peerauth.aio import spawn
from rigs.bounded import soon


class Sleeper(msgspec.Struct, frozen=True):
    """A launch of a process that does nothing, live as soon as it is asked."""

    log: Path
    name: str = "finance"
    program: str = "sleeper"
    logs_to_output: bool = False

    def lost_something(self, line: bytes) -> bool:
        return False

    def prepare(self) -> None:
        pass

    def wrapped(self, *, parent: int) -> list[str]:
        return [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"]

    async def live(self) -> bool:
        return True


class Supervised:
    """A supervisor whose clock stands still and whose pauses end at once; `pauses` is how long they were to be."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.pauses: asyncio.Queue[float] = asyncio.Queue()
        self.supervisor = Supervisor(
            Sleeper(folder / "log"),
            on_line=lambda _: None,
            backoff=Backoff(first=1, ceiling=15, healthy_after=10),
            clock=lambda: self.now,
            jitter=lambda: 0.0,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.pauses.put_nowait(seconds)

    async def runs(self) -> int:
        """The process, once it is live."""
        await soon("the process is live", self.supervisor.ready())
        assert self.supervisor.pid is not None
        return self.supervisor.pid

    async def dies(self, *, after: float) -> float:
        """Its process dies, so many seconds after it was live; returns the pause before the next."""
        pid = await self.runs()
        self.now += after
        os.kill(pid, signal.SIGKILL)
        return await soon("the supervisor pauses", self.pauses.get())


@asynccontextmanager
async def supervised(folder: Path) -> AsyncIterator[Supervised]:
    made = Supervised(folder)
    async with asyncio.TaskGroup() as group:
        running = spawn(group, made.supervisor.run(), name="supervisor")
        try:
            yield made
        finally:
            running.cancel()


async def test_the_count_of_failures_starts_again_after_a_healthy_time(tmp_path: Path) -> None:
    async with supervised(tmp_path) as sleeper:
        assert [await sleeper.dies(after=9.9) for _ in range(4)] == [1, 2, 4, 8]
        assert await sleeper.dies(after=10) == 1
        assert await sleeper.dies(after=0) == 2


async def test_an_ended_process_is_started_again_without_a_pause_stopped_or_not(tmp_path: Path) -> None:
    async with supervised(tmp_path) as sleeper:
        assert await sleeper.dies(after=0) == 1
        for restarts in (2, 3):
            pid = await sleeper.runs()
            os.kill(pid, signal.SIGSTOP)
            sleeper.supervisor.end()
            sleeper.supervisor.end()
            while sleeper.supervisor.restarts < restarts:  # noqa: ASYNC110  nothing tells
                await asyncio.sleep(0.005)
            assert await sleeper.runs() != pid
        assert sleeper.pauses.empty()
        assert await sleeper.dies(after=0) == 2, "that it was ended is no failure of its own"


async def test_to_end_what_does_not_run_changes_nothing(tmp_path: Path) -> None:
    sleeper = Supervised(tmp_path)
    sleeper.supervisor.end()
    async with asyncio.TaskGroup() as group:
        running = spawn(group, sleeper.supervisor.run(), name="supervisor")
        assert await sleeper.dies(after=0) == 1
        running.cancel()
