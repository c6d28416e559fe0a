"""How the objects of one document were made, as steps that make those of every document of its form.

A recipe is learnt from what the conversion of a watched document gave: the texts that it copied and the positions that
it noted are found in the objects, and everything else in them is the same for all documents of the form. It is not
written by anyone, so that there is one description of each kind, its conversion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from operator import itemgetter
from typing import NamedTuple

import msgspec

from peerauth.model.meta import Origin
from peerauth.model.schema.kinds import Checked
from peerauth.model.schema.watched import CopiedText, Predicate, Watch

_PLAIN = (str, int, bool, float, type(None))

Pick = Callable[[Sequence[object]], tuple[object, ...]]
Make = Callable[..., object]


class Recipe(msgspec.Struct, frozen=True):
    """The steps, over a pool of values that each adds one to: first the texts, then what all documents share, what is
    made of a text, the positions, and at last the objects; the very last is the result.
    """

    texts: Pick
    asked: tuple[tuple[Predicate, Pick, bool], ...]
    shared: tuple[object, ...]
    made: tuple[tuple[Make, int], ...]
    origins: tuple[tuple[int, int], ...]
    steps: tuple[tuple[Make, Pick], ...]

    def follow(self, values: Sequence[object], *, file: str, line: int) -> Checked | None:
        """What a document of the form says whose lines have these values; None if one of its texts does not fit."""
        texts = self.texts(values)
        for text in texts:
            if type(text) is not str or not text:
                return None
        pool: list[object] = [*texts, *self.shared]
        for predicate, pick, answer in self.asked:
            if predicate(*pick(pool)) is not answer:
                return None
        for make, at in self.made:
            made = make(texts[at])
            if made is None:
                return None
            pool.append(made)
        for number, column in self.origins:
            pool.append(Origin(file, line + number, column))
        for make, pick in self.steps:
            pool.append(make(*pick(pool)))
        result = pool[-1]
        return result if isinstance(result, Checked) else None


def learn(checked: Checked, watch: Watch, *, file: str, line: int) -> Recipe | None:
    """The recipe of what was made of a watched document that begins at this line; None if it holds something odd."""
    return _Learner(watch, file, line).recipe(checked)


class _Odd(Exception):  # noqa: N818 - ends the walk
    """A value of which it is not known how it was made."""


class _Ref(NamedTuple):
    """A value of the pool: which part of it, and where in that part."""

    part: int
    at: int


_TEXT, _SHARED, _MADE, _ORIGIN, _STEP = range(5)


class _Learner:
    """Walks over objects and writes down how each was made, what it is made of before it."""

    def __init__(self, watch: Watch, file: str, line: int) -> None:
        self._watch = watch
        self._file = file
        self._line = line
        self._texts = {number: at for at, number in enumerate(sorted(watch.copied))}
        self._shared: list[object] = []
        self._made: list[tuple[Make, int]] = []
        self._origins: dict[tuple[int, int], _Ref] = {}
        self._steps: list[tuple[Make, tuple[_Ref, ...]]] = []

    def recipe(self, checked: Checked) -> Recipe | None:
        asked = [(ask, tuple(map(self._ref, texts)), answer) for ask, texts, answer in self._watch.asked]
        try:
            self._ref(checked)
        except _Odd:
            return None
        parts = (self._texts, self._shared, self._made, self._origins)
        starts = [0]
        for part in parts:
            starts.append(starts[-1] + len(part))
        return Recipe(
            texts=_pick(tuple(self._texts)),
            asked=tuple(
                (ask, _pick(tuple(starts[ref.part] + ref.at for ref in refs)), answer) for ask, refs, answer in asked
            ),
            shared=tuple(self._shared),
            made=tuple(self._made),
            origins=tuple(self._origins),
            steps=tuple((make, _pick(tuple(starts[ref.part] + ref.at for ref in refs))) for make, refs in self._steps),
        )

    def _ref(self, value: object) -> _Ref:
        if isinstance(value, CopiedText):
            return _Ref(_TEXT, self._texts[value.line])
        if id(value) in self._watch.made:
            number, make, _ = self._watch.made[id(value)]
            self._made.append((make, self._texts[number]))
            return _Ref(_MADE, len(self._made) - 1)
        if isinstance(value, Origin) and value.line:
            return self._origin(value)
        if type(value) in _PLAIN or isinstance(value, Enum):
            return self._same(value)
        return self._composed(value)

    def _composed(self, value: object) -> _Ref:
        match value:
            case msgspec.Struct():
                return self._whole(value, type(value), [getattr(value, name) for name in value.__struct_fields__])
            case tuple():
                return self._whole(value, _tuple_of, value)
            case frozenset():  # labels: a set of pairs
                pairs = tuple(value)
                return self._whole(value, _Pairs(tuple(name for name, _ in pairs)).of, [text for _, text in pairs])
            case _:
                raise _Odd

    def _whole(self, value: object, make: Make, parts: Sequence[object]) -> _Ref:
        """A value that is made of others; if all documents share those, they share it."""
        mark = len(self._shared)
        refs = tuple(map(self._ref, parts))
        if all(ref.part == _SHARED for ref in refs):
            del self._shared[mark:]
            return self._same(value)
        self._steps.append((make, refs))
        return _Ref(_STEP, len(self._steps) - 1)

    def _same(self, value: object) -> _Ref:
        self._shared.append(value)
        return _Ref(_SHARED, len(self._shared) - 1)

    def _origin(self, origin: Origin) -> _Ref:
        if origin.file != self._file or origin.resource_version:
            raise _Odd
        where = origin.line - self._line, origin.column
        return self._origins.setdefault(where, _Ref(_ORIGIN, len(self._origins)))


class _Pairs:
    """Makes labels with these names."""

    __slots__ = ("_names",)

    def __init__(self, names: tuple[object, ...]) -> None:
        self._names = names

    def of(self, *texts: object) -> frozenset[tuple[object, object]]:
        return frozenset(zip(self._names, texts, strict=True))


def _tuple_of(*values: object) -> tuple[object, ...]:
    return values


def _pick(places: tuple[int, ...]) -> Pick:
    """Takes the values at some places out of a sequence."""
    if not places:
        return lambda _: ()
    if len(places) == 1:
        place = places[0]
        return lambda values: (values[place],)
    return itemgetter(*places)
