"""JSON read as JSON, not as the YAML that it nearly is: several documents after one another, lists item by item.

YAML's escapes know no surrogate pairs, which is how JSON's writers spell what is beyond U+FFFF. Values are the
library's decoder's; where they stand is found when someone asks. What is not JSON throughout is left to the readers of
YAML. Both agree, by a property test, on what either takes. Source: RFC 8259; the number rules are `scalars`'.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from peerauth.model.diagnostic import Diagnostic
from peerauth.model.meta import Origin
from peerauth.model.schema.faults import DUPLICATE_KEY, ENCODING, LIMIT
from peerauth.model.schema.place import Embedded, Path
from peerauth.sources.scalars import resolve
from peerauth.sources.text import Chunk, too_large
from peerauth.sources.treebuilder import DEEPEST, MOST_VALUES
from peerauth.sources.yamltree import embedded_in

_BEGIN = re.compile(r"(?:---(?=[ \t\n]))?[ \t\n]*(?=\{)")
_BLANKS = re.compile(r"[ \t\n]*")
_SURROGATE = re.compile("[\ud800-\udfff]")

Members = Mapping[str | int, tuple[int, int]]
"""Of a container: where the key (in a list: the value) and the value of each step begin."""
Entry = tuple[str | int, int, int, int]
"""One of them as it stands: step, where its key and its value begin, and where its value ends."""


class _Twice(Exception):  # noqa: N818 - ends the decoding and becomes a Diagnostic
    """A mapping has a key twice."""


class JsonDocument(msgspec.Struct, frozen=True):
    """A document, or an item of a list, that was read, and the `Place` of its values."""

    value: object
    place: JsonPlace


class JsonSpan(msgspec.Struct, frozen=True):
    """Where a document stands in a chunk. `items` are the places of a list's items, whose `kind` and `api_version` are
    the list's; None if it is no list.
    """

    chunk: Chunk
    start: int
    end: int
    line: int
    kind: str = ""
    api_version: str = ""
    items: tuple[tuple[int, int], ...] | None = None

    def read(self) -> JsonDocument | Diagnostic:
        """The document as a whole."""
        text, place = self.chunk.text, JsonPlace(self.chunk, self.start, self.line)
        here = place.value(())
        refused = too_large(self.end - self.start, here)
        if refused is not None:
            return refused
        if sum(text.count(mark, self.start, self.end) for mark in ",[{") > MOST_VALUES:
            return LIMIT.at(here, message=f"the document has more than {MOST_VALUES} values")
        try:
            value, _ = _DECODER.raw_decode(text, self.start)
        except _Twice:
            return _twice(place)
        if _is_deeper(value, DEEPEST):
            return LIMIT.at(here, message=f"values are nested deeper than {DEEPEST} levels")
        lone = _half_character(value) if text.find("\\u", self.start, self.end) >= 0 else None
        return JsonDocument(value, place) if lone is None else _refuse_half(place.value(lone))

    def each(self) -> Iterator[JsonSpan]:
        """The items of a list, each as a document of its own."""
        line, last = self.line, self.start
        for start, end in self.items or ():
            line += self.chunk.text.count("\n", last, start)
            last = start
            yield JsonSpan(self.chunk, start, end, line)


class JsonPlace:
    """The positions of a document's values, found by walking along the path that is asked for."""

    def __init__(self, chunk: Chunk, start: int, line: int) -> None:
        self._chunk = chunk
        self._start = start
        self._line = line
        self._known: dict[int, Members] = {}

    def value(self, path: Path) -> Origin:
        key_at, at = self._find(path)
        return self.origin(key_at if self._chunk.text[at] in "{[" else at)

    def key(self, path: Path) -> Origin:
        return self.origin(self._find(path)[0])

    def embedded(self, path: Path, text: str) -> Embedded:
        """Reads a string as YAML."""
        return embedded_in(self._chunk.file, text, self.value(path))

    def origin(self, offset: int) -> Origin:
        """The place in the file of an offset in the chunk."""
        text = self._chunk.text
        line = self._line + text.count("\n", self._start, offset)
        return Origin(self._chunk.file, line, offset - text.rfind("\n", 0, offset))

    def entries(self, path: Path) -> Sequence[Entry]:
        """What the container at `path` holds, as it stands."""
        return _entries(self._chunk.text, self._find(path)[1])[0]

    def _find(self, path: Path) -> tuple[int, int]:
        """Where key and value stand; of what is not there, those of the container that it would be in."""
        key_at = at = self._start
        for step in path:
            if at not in self._known:
                found, _ = _entries(self._chunk.text, at)
                self._known[at] = {name: (one_key_at, one_at) for name, one_key_at, one_at, _ in found}
            if step not in self._known[at]:
                break
            key_at, at = self._known[at][step]
        return key_at, at


def json_spans(chunk: Chunk) -> Sequence[JsonSpan] | None:
    """The JSON documents of a chunk, or None if it is not JSON throughout."""
    begin = _BEGIN.match(chunk.text)
    if begin is None:
        return None
    try:
        return list(_spans(chunk, begin.end()))
    except (ValueError, IndexError, RecursionError):
        return None


def _spans(chunk: Chunk, at: int) -> Iterator[JsonSpan]:
    text, line, last = chunk.text, chunk.line, 0
    while at < len(text):
        if text[at] != "{":
            raise ValueError
        line += text.count("\n", last, at)
        last = at
        span = _span(chunk, at, line)
        yield span
        at = _after_blanks(text, span.end)


def _span(chunk: Chunk, start: int, line: int) -> JsonSpan:
    text = chunk.text
    entries, end = _entries(text, start)
    places = {step: at for step, _, at, _ in entries}
    kind, api_version = (_decoded_at(text, places.get(key)) for key in ("kind", "apiVersion"))
    items_at = places.get("items")
    if items_at is None or text[items_at] != "[" or len(places) < len(entries):
        return JsonSpan(chunk, start, end, line)
    if not isinstance(kind, str) or not kind.endswith("List") or not isinstance(api_version, str):
        return JsonSpan(chunk, start, end, line)
    items = tuple((at, item_end) for _, _, at, item_end in _entries(text, items_at)[0])
    return JsonSpan(chunk, start, end, line, kind, api_version, items)


def _entries(text: str, at: int) -> tuple[list[Entry], int]:
    """What stands in the container that begins at an offset, and where it ends; nothing stands in a scalar."""
    opening, found = text[at], list[Entry]()
    if opening not in "{[":
        return found, _end_of(text, at)
    closing, at = ("}" if opening == "{" else "]"), _after_blanks(text, at + 1)
    while text[at] != closing or found:
        step: str | int = len(found)
        key_at = at
        if opening == "{":
            step, at = _key(text, at)
        end = _end_of(text, at)
        found.append((step, key_at, at, end))
        at = _after_blanks(text, end)
        if text[at] == closing:
            break
        if text[at] != ",":
            raise ValueError
        at = _after_blanks(text, at + 1)
    return found, at + 1


def _key(text: str, at: int) -> tuple[str, int]:
    """The key that begins at an offset, and where its value does."""
    key, end = _SKIPPER.raw_decode(text, at)
    if not isinstance(key, str):
        raise ValueError
    at = _after_blanks(text, end)
    if text[at] != ":":
        raise ValueError
    return key, _after_blanks(text, at + 1)


def _end_of(text: str, at: int) -> int:
    """Where a value ends. A list is gone through item by item: one of a hundred megabytes is not made at once."""
    if text[at] == "[":
        return _entries(text, at)[1]
    return _SKIPPER.raw_decode(text, at)[1]


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _decoded_at(text: str, at: int | None) -> object:
    return "" if at is None else _SKIPPER.raw_decode(text, at)[0]


def _mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _Twice
    return made


def _no_constant(name: str) -> object:
    raise ValueError(name)  # NaN and the infinities are Python's, not JSON's


_DECODER = json.JSONDecoder(
    object_pairs_hook=_mapping, parse_int=resolve, parse_float=resolve, parse_constant=_no_constant
)
_SKIPPER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_constant)


def _refuse_half(origin: Origin) -> Diagnostic:
    message = "half of a surrogate pair is not a character"
    return ENCODING.at(origin, message=message, hint="write both halves, or the character itself")


def _twice(place: JsonPlace) -> Diagnostic:
    """Where a key stands for the second time."""
    left: list[Path] = [()]
    while left:
        path = left.pop()
        first: dict[str | int, int] = {}
        for step, key_at, _, _ in place.entries(path):
            if step in first:
                one, other = place.origin(first[step]), place.origin(key_at)
                return DUPLICATE_KEY.at(
                    other,
                    message=f"the key {str(step)[:60]!r} is here twice",
                    hint=f"it stands {other.line - one.line} lines above" if other.line > one.line else "",
                )
            first[step] = key_at
        left.extend((*path, step) for step in reversed(first))
    return DUPLICATE_KEY.at(place.value(()), message="a key is here twice")


def _is_deeper(value: object, limit: int) -> bool:
    level: list[object] = [value]
    for _ in range(limit + 1):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _inside(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _half_character(value: object) -> Path | None:
    """The path of a text, or of a key, that has half of a surrogate pair."""
    left: list[tuple[Path, object]] = [((), value)]
    while left:
        path, found = left.pop()
        if isinstance(found, str) and _SURROGATE.search(found):
            return path
        steps = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
        for step, inner in steps:
            if isinstance(step, str) and _SURROGATE.search(step):
                return (*path, step)
            left.append(((*path, step), inner))
    return None
