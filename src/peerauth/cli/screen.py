"""A table that stays at the end of what a terminal shows and is drawn anew in its place; text goes above it.

Everything here gives the characters to write, in the order in which they must be written, and writes nothing itself.
For one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from peerauth.cli.render import Line

if TYPE_CHECKING:
    from rich.text import Text


class Screen:
    """The end of one terminal."""

    def __init__(self, terminal: TextIO) -> None:
        from rich.console import Console  # noqa: PLC0415  (slow to import, and needed on a terminal only)
        from rich.live import Live  # noqa: PLC0415

        self._console = Console(file=terminal, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    def above(self, text: str) -> str:
        """Whole lines of text, above the table if there is one."""
        from rich.text import Text  # noqa: PLC0415

        with self._console.capture() as written:
            self._console.print(Text(text, end=""), soft_wrap=True, end="")
        return written.get()

    def draw(self, lines: Sequence[Line]) -> str:
        """The table in its place, as much of it as the terminal has room for."""
        with self._console.capture() as written:
            self._live.start()
            self._live.update(_text(lines), refresh=True)
        return written.get()

    def leave(self, lines: Sequence[Line]) -> str:
        """The whole table; what is written next goes below it."""
        with self._console.capture() as written:
            self._live.start()
            self._live.update(_text(lines))
            self._live.stop()
        return written.get()


def _text(lines: Sequence[Line]) -> Text:
    from rich.text import Text  # noqa: PLC0415

    return Text("\n").join(Text.assemble(*each) for each in lines)
