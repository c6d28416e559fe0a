"""One YAML document as plain JSON values, with the line and column of every key and value: the exact reader.

libyaml finds the events; the walk over them is ours, and iterative. It refuses what would make a document mean two
things (duplicate keys, several documents in one), what Kubernetes' documents do not use (tags of one's own, mappings as
keys), and what is meant to exhaust the reader: depth, number of values, and aliases counted as if written out.
The fast reader (`blockyaml`) agrees with this one on everything that it does not leave to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import yaml
from yaml._yaml import CParser

from peerauth.model.diagnostic import Diagnostic
from peerauth.model.meta import Origin
from peerauth.model.schema.faults import ENCODING, LIMIT, SYNTAX, Fault
from peerauth.model.schema.place import Embedded, FixedPlace, Path
from peerauth.sources.text import Chunk
from peerauth.sources.treebuilder import Refused, TreeBuilder

Position = tuple[int, int]
"""Line and column inside the chunk, both from 0."""

_NOT_YAML = re.compile("[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TABS = "found character '\\t' that cannot start any token"


class Document(msgspec.Struct, frozen=True):
    """A document that was read, and the `Place` of its values."""

    value: object
    place: TreePlace


class TreePlace:
    """The positions of a document's values, as the exact reader noted them."""

    def __init__(self, chunk: Chunk, value: object, builder: TreeBuilder, *, shift: Position = (0, 0)) -> None:
        self._chunk = chunk
        self._value = value
        self._keys = builder.keys
        self._values = builder.values
        self._root = builder.root or (0, 0)
        self._shift = shift

    def value(self, path: Path) -> Origin:
        return self._find(path, self._values)

    def key(self, path: Path) -> Origin:
        return self._find(path, self._keys)

    def embedded(self, path: Path, text: str) -> Embedded:
        """Reads a string as YAML; the lines of a literal block (`|`) keep their own positions."""
        origin = self.value(path)
        start = self._literal_start(origin)
        return embedded_in(self._chunk.file, text, origin, start=start)

    def _find(self, path: Path, table: dict[tuple[int, str | int], Position]) -> Origin:
        parent: object = self._value
        found = self._root
        for step in path:
            found = table.get((id(parent), step)) or self._keys.get((id(parent), step)) or found
            if isinstance(parent, dict | list):
                parent = _child(parent, step)
        return origin_of(self._chunk, found, shift=self._shift)

    def _literal_start(self, origin: Origin) -> Position | None:
        """Line and column, from 0 in the file, of the first character of a literal block."""
        lines = self._chunk.text.split("\n")
        number = origin.line - self._chunk.line
        if not 0 <= number < len(lines) - 1 or not lines[number][origin.column - 1 :].startswith("|"):
            return None
        first = next((line for line in lines[number + 1 :] if line.strip(" ")), "")
        return origin.line, len(first) - len(first.lstrip(" "))


def _child(parent: dict[str, object] | list[object], step: str | int) -> object:
    if isinstance(parent, dict):
        return parent.get(str(step))
    return parent[step] if isinstance(step, int) and step < len(parent) else None


def read_exactly(chunk: Chunk, *, shift: Position = (0, 0)) -> Document | Diagnostic | None:
    """The one document of a chunk; None if it is empty. `shift` is where the text stands in a larger file."""
    odd = _NOT_YAML.search(chunk.text)
    if odd:
        return _refuse_character(chunk, odd, shift)
    builder = TreeBuilder()
    try:
        for event in _events(chunk.text):
            builder.take(event)
    except Refused as refusal:
        origin = origin_of(chunk, refusal.position, shift=shift)
        return refusal.fault.at(origin, message=refusal.message, hint=refusal.hint)
    except yaml.MarkedYAMLError as error:
        return _syntax(chunk, error, shift)
    except yaml.YAMLError as error:
        return SYNTAX.at(origin_of(chunk, (0, 0), shift=shift), message=str(error).splitlines()[0])
    if builder.root is None:
        return None
    return Document(builder.result, TreePlace(chunk, builder.result, builder, shift=shift))


def embedded_in(file: str, text: str, origin: Origin, *, start: Position | None = None) -> Embedded:
    """A string that is YAML itself. `start` is where its first character stands, if its lines are lines of the file."""
    chunk = Chunk(text, 1, file)
    found = read_exactly(chunk, shift=start or (origin.line - 1, origin.column - 1))
    if isinstance(found, Document):
        return Embedded(found.value, found.place)
    place = FixedPlace(origin)
    return Embedded(None, place) if found is None else Embedded(None, place, (found,))


def origin_of(chunk: Chunk, position: Position, *, shift: Position = (0, 0)) -> Origin:
    """The place in the file of a position inside a chunk."""
    line, column = position
    return Origin(chunk.file, chunk.line + line + shift[0], column + shift[1] + 1)


def _events(text: str) -> Iterator[yaml.Event]:
    parser = CParser(text)
    try:
        while (event := parser.get_event()) is not None:
            yield event
    finally:
        parser.dispose()


def _refuse_character(chunk: Chunk, odd: re.Match[str], shift: Position) -> Diagnostic:
    before = chunk.text[: odd.start()]
    line = before.count("\n")
    origin = origin_of(chunk, (line, odd.start() - before.rfind("\n") - 1), shift=shift)
    return ENCODING.at(origin, message=f"the character U+{ord(odd[0]):04X} is not allowed in YAML")


def _syntax(chunk: Chunk, error: yaml.MarkedYAMLError, shift: Position) -> Diagnostic:
    mark, began = error.problem_mark or error.context_mark, error.context_mark
    text = chunk.text.rstrip()
    last = text.count("\n")
    at_end = mark is not None and mark.line > last
    if at_end and began and began.line <= last:
        mark, at_end = began, False  # it was never closed: the end of the document says nothing, where it began does
    position = (last, len(text) - text.rfind("\n") - 1) if at_end else (mark.line, mark.column) if mark else (0, 0)
    problem = error.problem or "it cannot be read"
    context = error.context or ""
    if began and mark and began.line != mark.line:
        context += f" that began at line {chunk.line + shift[0] + began.line}"
    fault: Fault = LIMIT if "exceeded" in problem else SYNTAX
    origin = origin_of(chunk, position, shift=shift)
    return fault.at(origin, message=f"{context}: {problem}" if context else problem, hint=_syntax_hint(problem))


def _syntax_hint(problem: str) -> str:
    if problem == _TABS or "\\t" in problem or "tab" in problem:
        return "indent with spaces, not tabs"
    if "mapping values are not allowed" in problem:
        return "check the indentation, and put values with ': ' in quotes"
    return ""
