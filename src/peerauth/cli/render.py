"""How text reaches a person: spans with a role, columns that line up, colour only on a terminal.

Nothing is shortened or wrapped: a name that is cut is a name that cannot be searched for. Off a terminal the text is
written as it is and rich is never imported; on one, rich decides about colour (it honours NO_COLOR and TERM).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import TextIO

from peerauth.cli.visible import visible
from peerauth.model.diagnostic import Severity
from peerauth.policy.decision import EffectiveMode


class Role(StrEnum):
    """What a piece of text is, as rich's style for it."""

    PLAIN = ""
    STRONG = "bold"
    FAINT = "dim"
    GOOD = "green"
    MIDDLING = "yellow"
    BAD = "red"
    WORST = "bold red"
    NOTE = "cyan"


Span = tuple[str, Role]
Line = tuple[Span, ...]
Cell = str | Span
Write = Callable[[Iterable[Line]], None]
Paint = Callable[[Iterable[Line]], str]

MODE_ROLES = {
    EffectiveMode.STRICT: Role.GOOD,
    EffectiveMode.PERMISSIVE: Role.MIDDLING,
    EffectiveMode.DISABLE: Role.BAD,
}
SEVERITY_ROLES = {Severity.ERROR: Role.WORST, Severity.WARNING: Role.MIDDLING, Severity.INFO: Role.NOTE}

BLANK: Line = ()


def line(*cells: Cell) -> Line:
    """A line of the given pieces, as they are."""
    return tuple(_span(cell) for cell in cells)


def columns(rows: Sequence[Sequence[Cell]], *, indent: str = "", gap: str = "  ") -> list[Line]:
    """Lines whose columns line up; the last cell of a row is not padded, and trailing empty cells leave no blanks."""
    spans = [_without_trailing_blanks([_span(cell) for cell in row]) for row in rows]
    widths: dict[int, int] = {}
    for row in spans:
        for place, (text, _) in enumerate(row):
            widths[place] = max(widths.get(place, 0), len(text))
    return [_aligned(row, widths=widths, indent=indent, gap=gap) for row in spans]


def _without_trailing_blanks(row: list[Span]) -> list[Span]:
    while row and not row[-1][0]:
        row.pop()
    return row


def _aligned(row: list[Span], *, widths: dict[int, int], indent: str, gap: str) -> Line:
    spans: list[Span] = [(indent, Role.PLAIN)] if indent else []
    for place, (text, role) in enumerate(row):
        spans.append((text, role))
        if place < len(row) - 1:
            spans.append((" " * (widths[place] - len(text)) + gap, Role.PLAIN))
    return tuple(spans)


def labelled(label: str, block: Sequence[Line], *, width: int, indent: str = "  ") -> list[Line]:
    """A block of lines with a label before the first one, the others indented to stand below it."""
    blank = " " * width
    heads = [(indent + label.ljust(width), Role.FAINT), *[(indent + blank, Role.PLAIN)] * (len(block) - 1)]
    return [(head, *rest) for head, rest in zip(heads, block, strict=True)] if block else []


def plain(text_line: Line) -> str:
    """A line without its roles."""
    return "".join(text for text, _ in text_line)


def plain_text(lines: Iterable[Line]) -> str:
    """Lines as they are written off a terminal."""
    return "".join([plain(text_line).rstrip() + "\n" for text_line in lines])


def painter(stream: TextIO | None) -> Paint:
    """What makes the text of lines that are for `stream`: coloured for a terminal, plain for all else."""
    if stream is None or not stream.isatty():
        return plain_text
    from rich.console import Console  # noqa: PLC0415  (slow to import, and needed on a terminal only)
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=stream, highlight=False, soft_wrap=True)

    def paint(lines: Iterable[Line]) -> str:
        with console.capture() as painted:
            for text_line in lines:
                console.print(Text.assemble(*text_line), soft_wrap=True)
        return painted.get()

    return paint


def writer(stream: TextIO | None = None) -> Write:
    """What writes lines to `stream` (standard output)."""
    out = sys.stdout if stream is None else stream
    paint = painter(out)

    def write(lines: Iterable[Line]) -> None:
        out.write(paint(lines))

    return write


def _span(cell: Cell) -> Span:
    """Every piece of a line comes through here: it cannot steer a terminal, and takes the room that its length says."""
    text, role = (cell, Role.PLAIN) if isinstance(cell, str) else cell
    return (visible(text), role)


def count(number: int, singular: str, plural: str = "") -> str:
    """`1 policy`, `2 policies`: a number and its noun."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
