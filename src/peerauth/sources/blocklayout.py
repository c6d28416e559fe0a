"""How the lines of a block YAML document hang together: which container each belongs to, whatever the values are.

A layout depends on the heads of the lines only, so documents of the same form share one. It is laid out only where YAML
leaves no doubt. Source: YAML 1.2.2, section 8.2 (block collections).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

from peerauth.model.schema.description import Outline
from peerauth.model.schema.place import Path

DEEPEST = 60
"""Containers inside each other; far below what the exact reader allows, which decides about deeper ones."""


class Head(NamedTuple):
    """A line without its value: columns of indentation, columns of the dash and its spaces, key, whether the value is
    left out, so that it may follow below, and the columns (from 0) at which key and value stand. Containers and empty
    values stand where their key does.
    """

    indent: int
    dash: int
    key: str | None
    is_open: bool
    key_at: int
    value_at: int


Slots = dict[str | int, "tuple[int, Node | None]"]


class Node:
    """A container: for each key or index the number of its line, and the container there, None for scalars."""

    __slots__ = ("is_list", "slots")

    def __init__(self, *, is_list: bool) -> None:
        self.is_list = is_list
        self.slots: Slots = {}


class Plan:
    """How a document of a layout is built: which containers it has, and where each of its values goes.

    With an outline only what is read is built. A mapping is empty only if it is: of one of which nothing is read, the
    first entry stays.
    """

    __slots__ = ("_lengths", "_steps")

    def __init__(self, root: Node, outline: Outline | None) -> None:
        self._lengths: list[int] = []  # of each container: how many items a list has, 0 for mappings
        # Container, key or index, and the line of the value, or, inverted, the number of the container that it is.
        self._steps: list[tuple[int, str | int, int]] = []
        self._add(root, outline)

    def _add(self, node: Node, outline: Outline | None) -> None:
        number = len(self._lengths)
        self._lengths.append(len(node.slots) if node.is_list else 0)
        if outline is not None and outline.is_list is not node.is_list:
            outline = None
        slots = [*node.slots.items()]
        if outline is not None:
            slots = [(step, slot) for step, slot in slots if outline.reads(step)] or slots[:1]
        for step, (at, child) in slots:
            self._steps.append((number, step, at if child is None else ~len(self._lengths)))
            if child is not None:
                self._add(child, outline.below(step) if outline is not None else None)

    def build(self, rows: Sequence[str], values: Mapping[str, object]) -> object:
        """The document of these lines; `values` has that of each line."""
        # Lists are as long as they will be, so that they are filled like mappings.
        made = cast("list[dict[str | int, object]]", [[None] * length if length else {} for length in self._lengths])
        for container, step, at in self._steps:
            made[container][step] = values[rows[at]] if at >= 0 else made[~at]
        return made[0]


class Layout:
    """A document's outermost container. It begins on line `first` (from 0), at column `root_at`; `heads` has its lines
    that say something.
    """

    __slots__ = ("_keys", "_plans", "_values", "first", "heads", "root", "root_at", "said_at")

    def __init__(self, root: Node, first: int, heads: Sequence[Head | None]) -> None:
        begin = heads[first]
        version, kind = root.slots.get("apiVersion"), root.slots.get("kind")
        self.root = root
        self.first = first
        self.root_at = begin.indent if begin else 0
        self.heads = heads
        self.said_at = (version[0], kind[0]) if version and kind else None
        """The lines that say version and kind."""
        self._plans: dict[Outline | None, Plan] = {}
        self._keys: dict[Path, tuple[int, int]] = {}
        self._values: dict[Path, tuple[int, int]] = {}

    def plan(self, outline: Outline | None) -> Plan:
        """How a document is built, or what of it is read."""
        found = self._plans.get(outline)
        if found is None:
            found = self._plans[outline] = Plan(self.root, outline)
        return found

    def key_position(self, path: Path) -> tuple[int, int]:
        """Line, from 0, and column, from 1, of the key that leads to the value at `path`."""
        found = self._keys.get(path)
        if found is None:
            number = self.line_of(path)
            head = self.heads[number]
            found = self._keys[path] = (number, 1 + (head.key_at if path and head else self.root_at))
        return found

    def value_position(self, path: Path) -> tuple[int, int]:
        """Line, from 0, and column, from 1, of the value at `path`."""
        found = self._values.get(path)
        if found is None:
            found = self._values[path] = self._value_position(path)
        return found

    def _value_position(self, path: Path) -> tuple[int, int]:
        if not path or isinstance(path[-1], int):
            return self.key_position(path)  # an item of a list stands where it begins, be it a mapping or a scalar
        number = self.line_of(path)
        head = self.heads[number]
        return number, 1 + (head.value_at if head else self.root_at)

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
    return Layout(stack.nodes[0], stack.first, heads)


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
