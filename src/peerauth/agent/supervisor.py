"""Keeps one proxy's process running: starts it, knows when it is ready, restarts it with backoff, stops it.

It must not outlive us (see `launch`), gets none of our environment, and while it is down nothing listens on its
ports: there is no stand-in. One that says in its log that it does not do what it acknowledged is started again. Its
standard output (the access log) goes line by line to a callback, its standard error to a file and to a short memory
that errors quote; what a proxy logs to its output goes to both.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from peerauth.agent.envoy import EnvoyLaunch, find_envoy
from peerauth.agent.lines import LineSplitter, Tail, follow
from peerauth.agent.outage import OnOutage, Outage, untold
from peerauth.aio import spawn
from peerauth.errors import ProxyError

__all__ = ["Backoff", "EnvoyLaunch", "EnvoySupervisor", "Launch", "Supervisor", "find_envoy"]

TERMINATION_SECONDS = 3.0
HOPELESS_AFTER = 3
"""Starts in a row that end before the process was ever ready; from then on `ready` does not wait any longer."""


class Backoff(msgspec.Struct, frozen=True):
    """Seconds to wait before the n-th restart in a row: exponential, with a ceiling and jitter of up to half.

    A process that stayed ready for `healthy_after` seconds starts the count anew.
    """

    first: float = 0.2
    ceiling: float = 15.0
    healthy_after: float = 10.0

    def delay(self, failures: int, *, jitter: float) -> float:
        """`failures` counts from 1; `jitter` is in [0, 1)."""
        doublings = min(failures - 1, 32)  # beyond that the ceiling has long been reached
        return float(min(self.ceiling, self.first * 2**doublings)) * (1 - jitter / 2)


class Launch(Protocol):
    """How to start one proxy, and how to learn that it is live."""

    @property
    def name(self) -> str:
        """Whose proxy it is."""
        ...

    @property
    def program(self) -> str:
        """What it is."""
        ...

    @property
    def log(self) -> Path:
        """The file that gets what it logs, mode 0600."""
        ...

    @property
    def logs_to_output(self) -> bool:
        """Whether its standard output, too, belongs into the log."""
        ...

    def lost_something(self, line: bytes) -> bool:
        """Whether a line of its standard error says that it no longer does what it was told and acknowledged."""
        ...

    def prepare(self) -> None:
        """Makes what a process starts from, and removes what an earlier one may have left. Raises OSError."""
        ...

    def wrapped(self, *, parent: int) -> list[str]:
        """The command line, through `launch`."""
        ...

    async def live(self) -> bool:
        """Whether the process that runs now is ready; must not raise."""
        ...


L = TypeVar("L", bound=Launch)


class Supervisor(Generic[L]):
    """One supervised process. `run` is the task; everything else may be called from other tasks of the same loop.

    `on_line` gets each line of the access log without its newline; `on_outage` is told when the process has ended by
    itself or could not be started, and again when one is live, once however often it is tried. Neither may raise.
    """

    def __init__(
        self,
        launch: L,
        *,
        on_line: Callable[[bytes], None],
        on_outage: OnOutage = untold,
        backoff: Backoff = Backoff(),  # noqa: B008  frozen
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.launch = launch
        self._on_line = on_line
        self._on_outage = on_outage
        self._outage: Outage | None = None
        self._backoff = backoff
        self._clock = clock
        self._jitter = jitter
        self._sleep = sleep
        self._tail = Tail(launch.log)
        self._process: asyncio.subprocess.Process | None = None
        self._live_since: float | None = None
        self._settled = asyncio.Event()  # live, or hopeless
        self._barren_starts = 0
        self._restarts = 0
        self._last_exit: int | None = None
        self._ended = False
        self._reason = ""  # why we ended it, if we did

    @property
    def pid(self) -> int | None:
        """The running process, None between two."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def live(self) -> bool:
        """Whether the running process has said that it is live."""
        return self._live_since is not None

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return self._restarts

    @property
    def last_exit(self) -> int | None:
        """How the last process ended: its exit status, or minus the signal that killed it."""
        return self._last_exit

    @property
    def last_words(self) -> str:
        """The end of what the process, or the last one, said on its standard error."""
        return self._tail.text()

    def log_fault(self) -> str:
        """Why its log cannot be written, after another attempt; empty if it can."""
        self._tail.retry()
        return self._tail.fault

    async def run(self) -> None:
        """Keep the process running until cancelled; on the way out it is terminated, then killed."""
        failures = 0
        while True:
            lived = await self._run_once()
            self._tell_outage()
            if self._ended:
                self._ended = False
            else:
                failures = 1 if lived >= self._backoff.healthy_after else failures + 1
                await self._sleep(self._backoff.delay(failures, jitter=self._jitter()))
            self._restarts += 1

    def end(self) -> None:
        """Kills the process that runs, which may be stopped and deaf to less, and starts it anew without a pause."""
        if self._process is not None and self._process.returncode is None:
            self._ended = True
            self._reason = "it would have kept open what was to be closed"
            self._process.kill()

    async def ready(self, *, seconds: float = 30.0) -> None:
        """Wait until the running process says it is live. Raises ProxyError with its last words if it does not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._settled.wait()
        if not self.live:
            ended = "could not be started" if self._last_exit is None else f"exited with {self._last_exit}"
            state = ended if self.pid is None else f"runs as {self.pid} but is not live"
            said = self.last_words or "(nothing)"
            raise ProxyError(
                f"{self.launch.name}: {self.launch.program} did not become ready: it {state}; it said:\n{said}",
                hint=f"its whole output is in {self.launch.log}",
            )

    async def _run_once(self) -> float:
        """From start to exit; returns how many seconds the process was live."""
        self._last_exit = None
        self._tail.begin()
        async with asyncio.TaskGroup() as group:
            try:
                self.launch.prepare()
                process = await self._start(group)
            except OSError as error:
                self._tail.feed(f"cannot be started: {error}\n".encode())
                return self._note_exit()
            watch = spawn(group, self._watch_ready(), name=f"{self.launch.name}: readiness")
            try:
                self._last_exit = await process.wait()
            finally:
                await self._stop(process)
                watch.cancel()
                lived = self._note_exit()
        return lived

    async def _start(self, group: asyncio.TaskGroup) -> asyncio.subprocess.Process:
        # Pipes of our own: Envoy opens /dev/stdout, which fails on the socket pairs that some event loops use.
        out_read, out_write, err_read, err_write = _two_pipes()
        spawn(group, follow(out_read, self._output()), name=f"{self.launch.name}: access log")
        spawn(group, follow(err_read, self._errors()), name=f"{self.launch.name}: standard error")
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.launch.wrapped(parent=os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out_write,
                stderr=err_write,
                env={},
                start_new_session=True,  # a Ctrl-C at the terminal is ours to handle
            )
        finally:
            os.close(out_write)
            os.close(err_write)
        return self._process

    async def _watch_ready(self) -> None:
        pause = 0.01
        while not await self.launch.live():
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.2)
        self._live_since = self._clock()
        self._barren_starts = 0
        if self._outage is not None:
            self._on_outage(msgspec.structs.replace(self._outage, over=True))
            self._outage = None
        self._settled.set()

    def _output(self) -> Callable[[bytes], None]:
        """Takes one process's standard output in."""
        splitter = LineSplitter(self._on_line)

        def feed(chunk: bytes) -> None:
            splitter.feed(chunk)
            if self.launch.logs_to_output:
                self._tail.feed(chunk)

        return feed

    def _errors(self) -> Callable[[bytes], None]:
        """Takes one process's standard error in; one that does not do what it acknowledged is ended, to begin anew."""

        def judge(line: bytes) -> None:
            if self.launch.lost_something(line) and self._process is not None and self._process.returncode is None:
                self._reason = "it no longer did all that it had acknowledged"
                self._process.terminate()

        splitter = LineSplitter(judge)

        def feed(chunk: bytes) -> None:
            self._tail.feed(chunk)
            splitter.feed(chunk)

        return feed

    def _tell_outage(self) -> None:
        if self._outage is None:
            said = tuple(line for line in self.last_words.splitlines() if line.strip())
            self._outage = Outage(
                *(self.launch.name, self.launch.program, self._last_exit, said, self.launch.log), ended_for=self._reason
            )
            self._on_outage(self._outage)
        self._reason = ""

    def _note_exit(self) -> float:
        live_since, self._live_since = self._live_since, None
        self._process = None
        if live_since is not None:
            self._settled.clear()
            return self._clock() - live_since
        self._barren_starts += 1
        if self._barren_starts >= HOPELESS_AFTER:
            self._settled.set()
        return 0.0

    async def _stop(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        try:
            process.terminate()
            async with asyncio.timeout(TERMINATION_SECONDS):
                self._last_exit = await process.wait()
        except (TimeoutError, asyncio.CancelledError):
            if process.returncode is None:
                process.kill()
            self._last_exit = await process.wait()


def _two_pipes() -> tuple[int, int, int, int]:
    first = os.pipe()
    try:
        return *first, *os.pipe()
    except OSError:
        for descriptor in first:
            os.close(descriptor)
        raise


EnvoySupervisor = Supervisor[EnvoyLaunch]
