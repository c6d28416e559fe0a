"""The fast reader: the plain block YAML that most manifests are written in, and None for everything else.

It knows mappings and lists in block form, one-line scalars (plain, or quoted without escapes), `{}`, `[]` and comments,
all in printable ASCII. Whatever it does not know for certain (flow collections, block scalars, values over several
lines, anchors, tags, tabs, doubtful indentation, a key that comes twice) it leaves to the exact reader, which decides
and reports. It never refuses. Property tests hold it to the exact reader, values and positions alike.

It is fast because manifests repeat themselves. A line seen before is not parsed again, and a document whose lines have
the same heads (indentation, dash, key, where a value begins) as one before it has that one's `Layout`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from peerauth.model.meta import Origin
from peerauth.model.schema import outline_of
from peerauth.model.schema.place import Embedded, Path
from peerauth.sources.blocklayout import Head, Layout, lay_out
from peerauth.sources.scalars import resolve, resolve_key
from peerauth.sources.text import Chunk
from peerauth.sources.yamltree import embedded_in

MOST_CHARACTERS = 8 << 20
MOST_LINES_KEPT = 1 << 16
MOST_LAYOUTS_KEPT = 1 << 10
LONGEST_LINE_KEPT = 200
LONGEST_LAYOUT_KEPT = 500

_WORD = r"[!\"$-9;-~]++"  # printable ASCII without space, '#' and ':'
_FIRST = r"(?:[$()+./0-9;<=A-Z\\^_a-z~]|-(?=[!\"$-9;-~]))"  # what begins a plain scalar beyond doubt
# Not possessive itself: before Python 3.11.5 a possessive group that holds alternatives matches too little (gh-106052).
_PLAIN = rf"{_FIRST}(?:{_WORD})?(?:(?: ++|:){_WORD})*"
_QUOTED = r"\"[ !#-\[\]-~]*\"|'[ -&(-~]*'|\{\}|\[\]"
_KEY = r"[A-Za-z0-9_./][A-Za-z0-9_./-]{0,250}|\"[A-Za-z0-9_./-]{1,250}\""
_LINE = re.compile(  # possessive where it can be: time must not grow faster than the line
    rf"( *+)(- ++)?(?:({_KEY}):(?: ++|\Z))?(?:({_PLAIN})|({_QUOTED}))? *+(?:(?:(?<= )|(?<!.))\#[ -~]*+)?"
)
_SIMPLE_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9./_-]*(?::[A-Za-z0-9./_-]+)*")
"""Many values by far; a value of this form is a plain scalar on its own."""
_START = re.compile(r"--- *(?:(?<= )#[ -~]*)?")

NOTHING = 0
"""The head of a line that says nothing: empty, or a comment."""
DOUBT = -1


Line = tuple[int, object]
"""One line: the number of its head, and its value."""

_NOTHING: Line = NOTHING, None
_DOUBT: Line = DOUBT, None


class BlockDocument(msgspec.Struct, frozen=True):
    """A document that was read: its lines, how they hang together, and where the value of each line is found."""

    chunk: Chunk
    layout: Layout
    rows: Sequence[str]
    values: Mapping[str, object]

    @property
    def value(self) -> object:
        """The document as plain JSON values."""
        return self.layout.plan(None).build(self.rows, self.values)

    @property
    def value_read(self) -> object:
        """The same without what nobody reads in a document of its kind."""
        said, outline = self.layout.said_at, None
        if said is not None:
            version, kind = self.values[self.rows[said[0]]], self.values[self.rows[said[1]]]
            if isinstance(version, str) and isinstance(kind, str):
                outline = outline_of(version, kind)
        return self.layout.plan(outline).build(self.rows, self.values)

    @property
    def place(self) -> BlockPlace:
        """Where its values stand."""
        return BlockPlace(self.chunk, self.layout)


class BlockPlace(msgspec.Struct, frozen=True):
    """Finds positions when they are asked for, by the layout."""

    chunk: Chunk
    layout: Layout

    def value(self, path: Path) -> Origin:
        line, column = self.layout.value_position(path)
        return Origin(self.chunk.file, self.chunk.line + line, column)

    def key(self, path: Path) -> Origin:
        line, column = self.layout.key_position(path)
        return Origin(self.chunk.file, self.chunk.line + line, column)

    def embedded(self, path: Path, text: str) -> Embedded:
        """Reads a one-line string as YAML."""
        return embedded_in(self.chunk.file, text, self.value(path))


class BlockReader:
    """Reads documents, and remembers lines and layouts from one to the next. Its memory is bounded."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self._layouts: dict[tuple[int, ...], Layout | None] = {}

    def read(self, chunk: Chunk) -> BlockDocument | None:
        """The document, or None if the exact reader must read it."""
        text = chunk.text
        if len(text) > MOST_CHARACTERS:
            return None
        if len(self._lines) > MOST_LINES_KEPT or len(self._layouts) > MOST_LAYOUTS_KEPT:
            self._lines, self._layouts = _Lines(), {}
        rows = text.split("\n")
        if rows[0].startswith("---"):
            if rows[0] != "---" and not _START.fullmatch(rows[0]):
                return None
            rows[0] = ""
        heads = tuple(map(self._lines.__getitem__, rows))
        layout = self._layouts.get(heads) or self._layout(heads)
        return None if layout is None else BlockDocument(chunk, layout, rows, self._lines.values_of)

    def _layout(self, heads: tuple[int, ...]) -> Layout | None:
        if heads in self._layouts:
            return None  # as it was found before
        known = self._lines.heads
        layout = None if DOUBT in heads else lay_out([known[head] for head in heads])
        if len(heads) <= LONGEST_LAYOUT_KEPT:
            self._layouts[heads] = layout
        return layout


class _Lines(dict[str, int]):
    """The number of each line's head, by its text; a line that is not here is parsed when it is asked for.

    `values_of` has the value of each line in the same way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[Head | None] = [None]
        self.values_of = _Values(self.line)
        self._numbers: dict[Head, int] = {}
        self._before_value: dict[str, int] = {}  # `  name`: the head of a `  name: value`

    def __missing__(self, text: str) -> int:
        head, value = self.line(text)
        if len(text) <= LONGEST_LINE_KEPT:
            self[text] = head
            self.values_of[text] = value
        return head

    def line(self, text: str) -> Line:
        """What a line says."""
        before, _, value = text.partition(": ")
        head = self._before_value.get(before)
        if head is not None and _SIMPLE_WORD.fullmatch(value):
            meant = resolve(value)
            if not isinstance(meant, float):
                return head, meant
        return self._parse(text)

    def _parse(self, text: str) -> Line:
        found = _LINE.fullmatch(text)
        if found is None:
            return _DOUBT
        indent, dash, key, plain, quoted = found.groups(default="")
        if not (key or dash):
            return _DOUBT if plain or quoted else _NOTHING
        value = resolve(plain) if plain else _quoted(quoted)
        name = key[1:-1] if key.startswith('"') else resolve_key(key) if key else ""
        if name is None or isinstance(value, float) or not (key or plain or quoted):
            return _DOUBT
        at = found.start(4 if plain else 5)
        key_at = found.start(3) if key else at
        stands_at_key = key and ((value is None and not plain) or isinstance(value, dict | list))
        value_at = key_at if stands_at_key else at
        number = self._number(
            Head(len(indent), len(dash), name if key else None, not (plain or quoted), key_at, value_at)
        )
        if key and plain and at == found.end(3) + 2:
            self._before_value[text[: found.end(3)]] = number
        return number, value

    def _number(self, head: Head) -> int:
        if head not in self._numbers:
            self._numbers[head] = len(self.heads)
            self.heads.append(head)
        return self._numbers[head]


class _Values(dict[str, object]):
    """Values of lines; a line that was not kept is parsed again when it is asked for."""

    def __init__(self, parse: Callable[[str], Line]) -> None:
        super().__init__()
        self._parse = parse

    def __missing__(self, text: str) -> object:
        return self._parse(text)[1]


def _quoted(text: str) -> object:
    if not text:
        return None
    if text == "{}":
        return {}
    return [] if text == "[]" else text[1:-1]
