"""A process that stands still."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

AT_MOST_S = 10.0


@contextlib.contextmanager
def stopped(pid: int | None) -> Iterator[None]:
    """Stops a process, all its threads; it goes on afterwards, if it is still there."""
    assert pid is not None, "there is no process to stop"
    os.kill(pid, signal.SIGSTOP)
    try:
        _wait_until_still(pid)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _wait_until_still(pid: int) -> None:
    """A signal is sent before it is obeyed; a thread that runs meanwhile may still answer."""
    give_up = time.monotonic() + AT_MOST_S
    while moving := [task.name for task in Path(f"/proc/{pid}/task").iterdir() if "State:\tT" not in _status(task)]:
        assert time.monotonic() < give_up, f"threads {moving} of {pid} do not stop"
        time.sleep(0.001)


def _status(task: Path) -> str:
    return (task / "status").read_text()
