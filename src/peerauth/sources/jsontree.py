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
from peerauth.model.schema.faults import DUPLICATE_KEY, ENCODING, LIMIT, SYNTAX
from peerauth.model.schema.place import Embedded, Path
from peerauth.sources.jsontext import Entry, NotJson, TooMany, after_blanks, entries_of, string_at
from peerauth.sources.scalars import resolve
from peerauth.sources.text import Chunk, too_large
from peerauth.sources.treebuilder import DEEPEST, MOST_VALUES
from peerauth.sources.yamltree import embedded_in

_BEGIN = re.compile(r"(?:---(?=[ \t\n]))?[ \t\n]*(?=\{)")
_SURROGATE = re.compile("[\ud800-\udfff]")

Members = Mapping[str | int, tuple[int, int]]
"""Of a container: where the key (in a list: the value) and the value of each step begin."""


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
        """The document as a whole. Raises NotJson."""
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
        except json.JSONDecodeError as error:
            raise NotJson(error.pos, f"this is not JSON: {error.msg}") from None
        except ValueError:
            raise NotJson(self.start) from None
        except RecursionError:
            return _too_deep(here)
        if _is_deeper(value, DEEPEST):
            return _too_deep(here)
        lone = _half_character(value) if text.find("\\u", self.start, self.end) >= 0 else None
        return JsonDocument(value, place) if lone is None else _refuse_half(place.value(lone))

    def refused(self, error: NotJson) -> Diagnostic:
        """What is wrong with a document that is not JSON."""
        return SYNTAX.at(JsonPlace(self.chunk, self.start, self.line).origin(error.at), message=error.problem)

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
        return entries_of(self._chunk.text, self._find(path)[1], known=True)[0]

    def _find(self, path: Path) -> tuple[int, int]:
        """Where key and value stand; of what is not there, those of the container that it would be in."""
        key_at = at = self._start
        for step in path:
            if at not in self._known:
                found, _ = entries_of(self._chunk.text, at, known=True)
                self._known[at] = {name: (one_key_at, one_at) for name, one_key_at, one_at, _ in found}
            if step not in self._known[at]:
                break
            key_at, at = self._known[at][step]
        return key_at, at


def json_spans(chunk: Chunk) -> Sequence[JsonSpan | Diagnostic] | None:
    """The JSON documents of a chunk, or None if it is not made of such. What is inside them may still be no JSON."""
    begin = _BEGIN.match(chunk.text)
    if begin is None:
        return None
    found: list[JsonSpan | Diagnostic] = []
    try:
        for span in _spans(chunk, begin.end()):
            found.append(span)
    except NotJson as error:
        if len(found) < 2:
            return None  # with a comment after it, or keys without quotes, it is YAML all the same
        found.append(SYNTAX.at(JsonPlace(chunk, 0, chunk.line).origin(error.at), message=error.problem))
    except TooMany as error:
        here = JsonPlace(chunk, 0, chunk.line).origin(error.at)
        found.append(LIMIT.at(here, message=f"the document has more than {MOST_VALUES} values"))
    return found


def _spans(chunk: Chunk, at: int) -> Iterator[JsonSpan]:
    text, line, last = chunk.text, chunk.line, 0
    while at < len(text):
        if text[at] != "{":
            raise NotJson(at)
        line += text.count("\n", last, at)
        last = at
        span = _span(chunk, at, line)
        yield span
        at = after_blanks(text, span.end)


def _span(chunk: Chunk, start: int, line: int) -> JsonSpan:
    text = chunk.text
    entries, end = entries_of(text, start)
    places = {step: at for step, _, at, _ in entries}
    kind, api_version = (string_at(text, places[key]) if key in places else "" for key in ("kind", "apiVersion"))
    items_at = places.get("items")
    is_certain = len(places) == len(entries) and api_version is not None
    if items_at is None or text[items_at] != "[" or not kind or not kind.endswith("List") or not is_certain:
        return JsonSpan(chunk, start, end, line)
    items = tuple((at, item_end) for _, _, at, item_end in entries_of(text, items_at)[0])
    return JsonSpan(chunk, start, end, line, kind, api_version or "", items)


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


def _too_deep(origin: Origin) -> Diagnostic:
    return LIMIT.at(origin, message=f"values are nested deeper than {DEEPEST} levels")


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
