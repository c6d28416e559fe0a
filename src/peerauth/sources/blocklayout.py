"""How the lines of a block YAML document hang together: which container each belongs to, whatever the values are.

A layout depends on the heads of the lines only, so documents of the same form share one. It is laid out only where YAML
leaves no doubt. Source: YAML 1.2.2, section 8.2 (block collections).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from peerauth.model.schema.place import Path

DEEPEST = 60
"""Containers inside each other; far below what the exact reader allows, which decides about deeper ones."""


class Head(NamedTuple):
    """A line without its value: columns of indentation, columns of the dash and its spaces, key, and whether the
    value is left out, so that it may follow below.
    """

    indent: int
    dash: int
    key: str | None
    is_open: bool


Slots = dict[str | int, "tuple[int, Node | None]"]


class Node:
    """A container: for each key or index the number of its line, and the container there, None for scalars."""

    __slots__ = ("_entries", "is_list", "slots")

    def __init__(self, *, is_list: bool) -> None:
        self.is_list = is_list
        self.slots: Slots = {}
        self._entries: tuple[tuple[str | int, int, Node | None], ...] = ()

    def freeze(self) -> None:
        """Makes the container ready to be built, with all that is in it."""
        self._entries = tuple((step, at, node) for step, (at, node) in self.slots.items())
        for _, _, node in self._entries:
            if node is not None:
                node.freeze()

    def build(self, values: Sequence[object]) -> object:
        """The container; `values` has each line's."""
        if self.is_list:
            return [values[at] if node is None else node.build(values) for _, at, node in self._entries]
        return {step: values[at] if node is None else node.build(values) for step, at, node in self._entries}


class Layout:
    """A document's outermost container. It begins on line `first` (from 0), at column `root_at`."""

    __slots__ = ("build", "first", "root", "root_at")

    def __init__(self, root: Node, first: int, root_at: int) -> None:
        self.root = root
        self.first = first
        self.root_at = root_at
        self.build = root.build

    def line_of(self, path: Path) -> int:
        """The number of the line on which the value at `path` begins; of one that is not there, its container's."""
        node: Node | None = self.root
        line = self.first
        for step in path:
            if node is None or step not in node.slots:
                break
            line, node = node.slots[step]
        return line


def lay_out(heads: Sequence[Head | None]) -> Layout | None:
    """The layout of lines with these heads (None: it says nothing), or None if that is not certain or empty."""
    stack = _Stack()
    for number, head in enumerate(heads):
        if head is not None and not stack.add(head, number):
            return None
    if stack.first is None:
        return None
    stack.nodes[0].freeze()
    first = heads[stack.first]
    return Layout(stack.nodes[0], stack.first, first.indent if first else 0)


class _Stack:
    """The containers that are still open, the outermost first, with the column at which the entries of each begin."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.columns: list[int] = []
        self.first: int | None = None
        self._pending: str | None = None  # the last line's key, if its value may follow below

    def add(self, head: Head, number: int) -> bool:
        """Takes the next line; False if where it belongs is not certain."""
        node = self._enter(head.indent, number, is_item=head.dash > 0)
        if node is None:
            return False
        if node.is_list:
            if head.key is None:
                node.slots[len(node.slots)] = (number, None)
                return True
            item = Node(is_list=False)
            node.slots[len(node.slots)] = (number, item)
            node = self._open(item, head.indent + head.dash)
        if head.key is None or head.key in node.slots:
            return False
        node.slots[head.key] = (number, None)
        self._pending = head.key if head.is_open else None
        return True

    def _enter(self, column: int, number: int, *, is_item: bool) -> Node | None:
        """The container that a line at this column adds to, or None if that is not certain."""
        columns, pending = self.columns, self._pending
        self._pending = None
        if self.first is None:
            self.first = number
            return self._open(Node(is_list=is_item), column)
        if pending is not None and (column > columns[-1] or (is_item and column == columns[-1])):
            if len(columns) >= DEEPEST:
                return None
            child = Node(is_list=is_item)
            slots = self.nodes[-1].slots
            slots[pending] = (slots[pending][0], child)
            return self._open(child, column)
        # A list may begin at the column of the key that it belongs to; a line without a dash there ends it.
        while columns and (columns[-1] > column or (columns[-1] == column and self.nodes[-1].is_list and not is_item)):
            columns.pop()
            self.nodes.pop()
        if not columns or columns[-1] != column or self.nodes[-1].is_list is not is_item:
            return None
        return self.nodes[-1]

    def _open(self, node: Node, column: int) -> Node:
        self.nodes.append(node)
        self.columns.append(column)
        return node
