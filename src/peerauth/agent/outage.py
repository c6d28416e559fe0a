"""That a supervised process is away, as a value: how it ended, and what it said last."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import msgspec

WORDS_SHOWN = 3


class Outage(msgspec.Struct, frozen=True):
    """One outage, from a process's end to the next one that is live; `over` says that this is there.

    `exit` is the exit status, minus the number of the signal that killed it, or None if it could not be started.
    `ended_for` is why its supervisor ended it, or empty. `last_words` are the lines that it ended with, `log` has all.
    """

    name: str
    program: str
    exit: int | None
    last_words: tuple[str, ...]
    log: Path
    ended_for: str = ""
    over: bool = False

    @property
    def sentence(self) -> str:
        """What happened, in a sentence."""
        if self.over:
            return f"the {self.program} of {self.name} runs again"
        said = f"; it said last: {' | '.join(self.last_words[-WORDS_SHOWN:])}" if self.last_words else ""
        return f"the {self.program} of {self.name} {self._ending()}: its ports are closed until it runs again{said}"

    def _ending(self) -> str:
        if self.ended_for:
            return f"was ended, as {self.ended_for}"
        if self.exit is None:
            return "could not be started"
        if self.exit >= 0:
            return f"ended with exit status {self.exit}"
        try:
            return f"was killed by {signal.Signals(-self.exit).name}"
        except ValueError:  # real-time signals have no name
            return f"was killed by signal {-self.exit}"


OnOutage = Callable[[Outage], object]


def untold(_outage: Outage) -> None:
    """For those whom nobody listens to."""
