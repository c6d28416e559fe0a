"""A list in block form, cut into its items: what `kubectl get -o yaml` writes is one document of any size.

    apiVersion: v1
    items:
    - apiVersion: v1
      kind: Pod
    kind: List

Each item becomes a chunk of its own, which keeps its lines and columns, so that the limits on one document hold for one
item. Nothing inside an item can stand as far to the left as the dashes do: YAML wants what belongs to an item further
to the right. Readers that are milder (with quotes and flow collections) would read on; here such an item is a fault.
Source: YAML 1.2.2, section 8.2.1 (block sequences).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from functools import lru_cache

import msgspec

from peerauth.sources.text import Chunk
from peerauth.sources.treebuilder import MOST_VALUES
from peerauth.sources.yamltree import Document, read_exactly

# The group is not possessive: before Python 3.11.5 one whose body fails half-way loses its place (gh-106052).
_FIRST = re.compile(r"items:(?:[ \t]*+(?:(?<=[ \t])#.*+)?\n)+( *+)-(?=[ \n])")
_NAME = re.compile(r"[^\s,\[\]{}&*]+")
_BEFORE_A_NODE = frozenset("\n :-,?[{")


class BlockList(msgspec.Struct, frozen=True):
    """A list whose items can be read one by one; `kind` and `api_version` are its own.

    `bounds` has where each item begins, and where the last one ends; the dashes are at `column`.
    """

    chunk: Chunk
    kind: str
    api_version: str
    column: int
    bounds: tuple[int, ...]

    def items(self) -> Iterator[Chunk]:
        """Each item as a document: a blank stands where its dash was."""
        text, line, last = self.chunk.text, self.chunk.line, 0
        for start, end in zip(self.bounds, self.bounds[1:], strict=False):
            line += text.count("\n", last, start)
            last = start
            dash = start + self.column
            yield Chunk(f"{text[start:dash]} {text[dash + 1 : end]}", line, self.chunk.file)


def block_list(chunk: Chunk) -> BlockList | None:
    """The list that a chunk is, or None if it is none, or not certain to be one, or its items refer to each other."""
    text = chunk.text
    at = 0 if text.startswith("items:") else text.find("\nitems:") + 1
    first = _FIRST.match(text, at)
    if first is None:
        return None
    column = len(first[1])
    bounds = _bounds(text, first.start(1), column)
    if bounds is None or _refer_to_each_other(text, bounds):
        return None
    around = _around(chunk, bounds[0], bounds[-1])
    kind, api_version = around.get("kind"), around.get("apiVersion") or ""
    if not isinstance(kind, str) or not kind.endswith("List") or not isinstance(api_version, str):
        return None
    return BlockList(chunk, kind, api_version, column, bounds)


def _around(chunk: Chunk, begin: int, end: int) -> Mapping[str, object]:
    """The document without its items; empty if it has a fault, which the reader of the whole will find."""
    text = chunk.text
    lines = "\n" * text.count("\n", begin, end)
    document = read_exactly(Chunk(text[:begin] + lines + text[end:], chunk.line, chunk.file))
    value = document.value if isinstance(document, Document) else None
    return value if isinstance(value, dict) and "items" in value and value["items"] is None else {}


@lru_cache(maxsize=64)
def _to_the_left(column: int) -> re.Pattern[str]:
    """A line that says something no further to the right than a column."""
    return re.compile(rf"\n( {{0,{column}}})(?=[^ \n])")


def _bounds(text: str, first: int, column: int) -> tuple[int, ...] | None:
    """Where each item begins, and where the last one ends."""
    found = [first]
    for line in _to_the_left(column).finditer(text, first):
        at = line.end()
        if text[at] == "#":
            continue
        if at - line.start(1) == column and text[at] == "-" and text[at + 1 : at + 2] in (" ", "\n", ""):
            found.append(line.start(1))
            if len(found) > MOST_VALUES:
                return None
        elif at == line.start(1) and text[at] not in "\t-":
            return (*found, at)
        else:
            return None
    return (*found, len(text))


def _refer_to_each_other(text: str, bounds: tuple[int, ...]) -> bool:
    """Whether an alias may stand for what another item, or what is around them, has named."""
    anchors: dict[str, list[int]] = {}
    for name, at in _marked(text, "&"):
        anchors.setdefault(name, []).append(at)
    for name, at in _marked(text, "*") if anchors else ():
        before = bisect_left(anchors.get(name, ()), at)
        own = bounds[max(bisect_right(bounds, at) - 1, 0)]
        if before and anchors[name][before - 1] < own:
            return True
    return False


def _marked(text: str, mark: str) -> Iterator[tuple[str, int]]:
    """What may be an anchor (`&`) or an alias (`*`), and where it stands."""
    at = text.find(mark)
    while at >= 0:
        if text[at - 1 : at] in _BEFORE_A_NODE and (name := _NAME.match(text, at + 1)):
            yield name[0], at
        at = text.find(mark, at + 1)
