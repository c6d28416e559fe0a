"""Puts a document together from YAML's events, one at a time, and notes where each key and value began.

The tree is of plain JSON values. Positions are kept beside it, by the identity of the container and the key or index:
a container read through an alias is the same object, so its values keep the place where they were written.
"""

from __future__ import annotations

import math

import yaml

from peerauth.model.schema.faults import DUPLICATE_KEY, LIMIT, SYNTAX, UNSUPPORTED_YAML, Fault
from peerauth.sources.scalars import MERGE_KEY, Scalar, key_text, resolve

DEEPEST = 100
MOST_VALUES = 1_500_000
"""Aliases count as what they stand for, so that a bomb of ten lines is as large as what it expands to."""

_CORE = "tag:yaml.org,2002:"
_TAGGED_TYPES: dict[str, tuple[type, ...]] = {
    _CORE + "int": (int,),
    _CORE + "float": (float, int),
    _CORE + "bool": (bool,),
    _CORE + "null": (type(None),),
}
_CONTAINER_TAGS = {None, "!", _CORE + "map", _CORE + "seq"}

Position = tuple[int, int]
Container = dict[str, object] | list[object]


class Refused(Exception):  # noqa: N818 - a refusal of the document; it ends the walk and becomes a Diagnostic
    """The document is refused at a position (line and column from 0)."""

    def __init__(self, fault: Fault, message: str, position: Position, *, hint: str = "") -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message
        self.position = position
        self.hint = hint


class _Frame:
    """A container that is not closed yet. `key` is the key whose value comes next, in a mapping.

    `begun` is how many values there were before it: what it holds, aliases written out, is what was counted since.
    """

    __slots__ = ("anchor", "awaits_key", "begun", "container", "is_merge", "key", "key_at", "merges")

    def __init__(self, container: Container, *, anchor: str | None, begun: int) -> None:
        self.container = container
        self.anchor = anchor
        self.awaits_key = isinstance(container, dict)
        self.is_merge = False
        self.key = ""
        self.key_at: Position = (0, 0)
        self.merges: list[tuple[object, Position, int]] = []  # with the number of keys that stand before
        self.begun = begun


class TreeBuilder:
    """Takes events, holds the result. `root` is where the document's content begins, None while it has none.

    `values` has the scalars that are not empty; other values stand where their key does.
    """

    def __init__(self) -> None:
        self.result: object = None
        self.root: Position | None = None
        self.keys: dict[tuple[int, str | int], Position] = {}
        self.values: dict[tuple[int, str | int], Position] = {}
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[object, int]] = {}
        self._open_anchors: set[str] = set()
        self._total = 0
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        """The next event of the document."""
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event, {} if isinstance(event, yaml.MappingStartEvent) else [])
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise Refused(SYNTAX, "a second document begins without a line `---` of its own", _start(event))
            case _:
                pass

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        at = _start(event)
        frame = self._stack[-1] if self._stack else None
        value = _value_of(event, at)
        if frame is not None and frame.awaits_key:
            self._count(1, at)
            self._key(frame, event, value, at)
            if event.anchor:
                self._anchors[event.anchor] = (value, 1)
            return
        if isinstance(value, float) and not math.isfinite(value):
            raise Refused(UNSUPPORTED_YAML, f"{event.value!r} is not a number that Kubernetes can carry", at)
        empty = not event.value and event.implicit[0]
        self._place(value, None if empty else at, anchor=event.anchor, size=1, fallback=at)

    def _key(self, frame: _Frame, event: yaml.ScalarEvent, value: Scalar, at: Position) -> None:
        frame.awaits_key = False
        frame.key_at = at
        if event.value == MERGE_KEY and event.implicit[0]:
            frame.is_merge = True
            return
        key = key_text(value)
        if key is None:
            raise Refused(UNSUPPORTED_YAML, f"{event.value or 'null'!r} cannot be a key", at)
        if isinstance(frame.container, dict) and key in frame.container:
            first = self.keys[id(frame.container), key]
            raise Refused(
                DUPLICATE_KEY,
                f"the key {key[:60]!r} is here twice",
                at,
                hint=f"it stands {at[0] - first[0]} lines above" if at[0] > first[0] else "",
            )
        frame.key = key

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, container: Container) -> None:
        at = _start(event)
        if event.tag not in _CONTAINER_TAGS:
            raise Refused(UNSUPPORTED_YAML, f"the tag {_short_tag(event.tag)} is not supported", at)
        if self._stack and self._stack[-1].awaits_key:
            raise Refused(UNSUPPORTED_YAML, "a mapping or list cannot be a key", at, hint="keys are strings")
        if len(self._stack) >= DEEPEST:
            raise Refused(LIMIT, f"values are nested deeper than {DEEPEST} levels", at)
        begun = self._total
        self._place(container, None, anchor=None, size=1, fallback=at)
        if event.anchor:
            self._open_anchors.add(event.anchor)
        self._stack.append(_Frame(container, anchor=event.anchor, begun=begun))

    def _close(self) -> None:
        frame = self._stack.pop()
        if frame.merges and isinstance(frame.container, dict):
            self._merge(frame.container, frame)
        if frame.anchor:
            self._open_anchors.discard(frame.anchor)
            self._anchors[frame.anchor] = (frame.container, self._total - frame.begun)

    def _alias(self, event: yaml.AliasEvent) -> None:
        at = _start(event)
        if event.anchor in self._open_anchors:
            raise Refused(UNSUPPORTED_YAML, f"the alias *{event.anchor} stands inside what it stands for", at)
        if event.anchor not in self._anchors:
            raise Refused(SYNTAX, f"the alias *{event.anchor} has no anchor before it", at)
        value, size = self._anchors[event.anchor]
        if self._stack and self._stack[-1].awaits_key:
            raise Refused(UNSUPPORTED_YAML, "an alias cannot be a key", at, hint="write the key out")
        self._place(value, at, anchor=None, size=size, fallback=at)

    def _place(self, value: object, at: Position | None, *, anchor: str | None, size: int, fallback: Position) -> None:
        """Puts a value where the next one belongs. `at` None: containers and empty values stand where their key is."""
        self._count(size, fallback)
        if anchor:
            self._anchors[anchor] = (value, size)
        if not self._stack:
            self.result = value
            self.root = at or fallback
            return
        frame = self._stack[-1]
        step: str | int
        if isinstance(frame.container, list):
            step, key_at = len(frame.container), at or fallback
            frame.container.append(value)
        elif frame.is_merge:
            frame.merges.append((value, fallback, len(frame.container)))
            frame.is_merge, frame.awaits_key = False, True
            return
        else:
            step, key_at = frame.key, frame.key_at
            frame.container[frame.key] = value
            frame.awaits_key = True
        self.keys[id(frame.container), step] = key_at
        if at is not None:
            self.values[id(frame.container), step] = at

    def _merge(self, target: dict[str, object], frame: _Frame) -> None:
        """`<<`: the keys of other mappings, in place of those that stand before it; those after it replace them again.

        Of several mappings in one `<<` the first one counts, of several `<<` the last. So reads Kubernetes' YAML
        (sigs.k8s.io/yaml), where YAML's own text would let a mapping's own keys win wherever they stand.
        """
        own = {key: number for number, key in enumerate(target)}
        for value, at, before in frame.merges:
            for source in reversed(value) if isinstance(value, list) else [value]:
                if not isinstance(source, dict):
                    raise Refused(SYNTAX, "`<<` merges mappings, and this is none", at)
                for key, merged in source.items():
                    if own.get(key, -1) < before:
                        target[key] = merged
                        self._repeat_place(source, target, key)

    def _repeat_place(self, source: Container, target: Container, key: str) -> None:
        """What was merged stands where it was written."""
        self.keys[id(target), key] = self.keys[id(source), key]
        at = self.values.get((id(source), key))
        if at is None:
            self.values.pop((id(target), key), None)
        else:
            self.values[id(target), key] = at

    def _count(self, size: int, at: Position) -> None:
        self._total += size
        if self._total > MOST_VALUES:
            raise Refused(LIMIT, f"the document has more than {MOST_VALUES} values, aliases written out", at)


def _value_of(event: yaml.ScalarEvent, at: Position) -> Scalar:
    plain, _ = event.implicit
    if plain:
        return resolve(event.value)
    if event.tag in {None, "!", _CORE + "str"}:
        return str(event.value)
    wanted = _TAGGED_TYPES.get(event.tag)
    value = resolve(event.value)
    if wanted is None:
        raise Refused(UNSUPPORTED_YAML, f"the tag {_short_tag(event.tag)} is not supported", at)
    if type(value) not in wanted:
        raise Refused(SYNTAX, f"{event.value[:60]!r} is not of the type that its tag {_short_tag(event.tag)} says", at)
    return value


def _start(event: yaml.Event) -> Position:
    mark = event.start_mark
    return (mark.line, mark.column) if mark else (0, 0)


def _short_tag(tag: str | None) -> str:
    tag = tag or "!"
    return "!!" + tag.removeprefix(_CORE) if tag.startswith(_CORE) else tag[:60]
