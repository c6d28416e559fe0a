"""A document that notes what of it is looked at, so that its conversion can be repeated for documents of its form.

A conversion is a function of the values that it looks at. Two documents that have the same keys in the same order, and
agree in every value that the conversion of one looked at, convert alike. A string may also be *copied*: it goes into an
object as it is, and nothing asks about it but `holds` (is this true of it?) and `made_of` (what does this make of it?),
which the conversion of another document asks again. Whatever is read in any other way counts as looked at.
Plain mappings, of documents that nobody watches, are taken by the same functions.
"""

from __future__ import annotations

from _collections_abc import dict_items, dict_values
from collections.abc import Callable, Collection, Iterator
from typing import SupportsIndex, TypeVar, overload

from peerauth.model.meta import Labels
from peerauth.model.schema.place import Mapping

_COMPARING = frozenset({"__contains__", "__eq__", "__ge__", "__gt__", "__le__", "__lt__", "__ne__"})
_USING = frozenset({"__add__", "__format__", "__getitem__", "__iter__", "__len__", "__mod__", "__mul__", "__repr__"})
_ASKING = _COMPARING | _USING | {"__rmod__", "__rmul__", "__str__"}
"""What Python calls on a string beside its named methods."""

Predicate = Callable[..., bool]
Lines = dict[str | int, int]
T = TypeVar("T")


class Watch:
    """What was seen of one document: values are named by the number of their line.

    `looked_at` are those on whose content the conversion may hang; `copied` those that went into objects; `asked` what
    was asked of them, with the answers; `made` what was made of one, by identity. `only_collects`: copied texts are put
    into a set in which nothing is compared.
    """

    def __init__(self) -> None:
        self.looked_at: set[int] = set()
        self.copied: set[int] = set()
        self.asked: list[tuple[Predicate, tuple[str, ...], bool]] = []
        self.made: dict[int, tuple[int, Callable[[str], object], object]] = {}
        self.only_collects = False


class CopiedText(str):
    """A string that goes from one place to another. It is never empty, so that asking for its truth tells nothing.

    Whoever asks it for anything else, as one who does not know what it is, has looked at it. What reads a string's
    memory without asking (a regular expression, `int`) must be given `plain`, by `holds` or `made_of`.
    """

    __slots__ = ("line", "plain", "watch")
    line: int
    plain: str
    watch: Watch

    def __bool__(self) -> bool:
        return True

    def __radd__(self, before: str) -> str:
        return before + str(self)

    def __hash__(self) -> int:
        if not self.watch.only_collects:
            self.watch.looked_at.add(self.line)
        return hash(self.plain)


def _looking(name: str) -> Callable[..., object]:
    """The string's own method of this name, which notes that it was called."""

    def look(self: CopiedText, *arguments: object, **options: object) -> object:
        self.watch.looked_at.add(self.line)
        return getattr(self.plain, name)(*arguments, **options)

    return look


for _name in dir(str):
    if not _name.startswith("__") or _name in _ASKING:
        setattr(CopiedText, _name, _looking(_name))


class WatchedMapping(dict[str, object]):
    """A mapping of a watched document; `lines` has the keys whose values are no containers that are watched too."""

    def __init__(self, entries: Mapping, lines: Lines, watch: Watch) -> None:
        super().__init__(entries)
        self._lines = lines
        self._watch = watch

    def copied(self, key: str) -> object:
        """The value of a key; a string among them is not looked at, except that it is one and not empty."""
        value, line = super().get(key), self._lines.get(key)
        if line is None or type(value) is not str or not value:
            return self.get(key)
        text = CopiedText(value)
        text.line, text.plain, text.watch = line, value, self._watch
        self._watch.copied.add(line)
        return text

    def get(self, key: str, default: object = None, /) -> object:
        self._look(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> object:
        self._look(key)
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[str]:
        return super().__iter__()  # so that dict() of this asks for each value

    def items(self) -> dict_items[str, object]:
        self._watch.looked_at.update(self._lines.values())
        return super().items()

    def values(self) -> dict_values[str, object]:
        self._watch.looked_at.update(self._lines.values())
        return super().values()

    def _look(self, key: str) -> None:
        line = self._lines.get(key)
        if line is not None:
            self._watch.looked_at.add(line)


class WatchedList(list[object]):
    """A list of a watched document; whoever takes anything out of it has looked at all its values."""

    def __init__(self, entries: list[object], lines: Lines, watch: Watch) -> None:
        super().__init__(entries)
        self._lines = lines
        self._watch = watch

    def __iter__(self) -> Iterator[object]:
        self._watch.looked_at.update(self._lines.values())
        return super().__iter__()

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> object: ...
    @overload
    def __getitem__(self, index: slice, /) -> list[object]: ...
    def __getitem__(self, index: SupportsIndex | slice, /) -> object:
        self._watch.looked_at.update(self._lines.values())
        return super().__getitem__(index)


def copied(parent: Mapping, key: str) -> object:
    """The value `parent[key]`; if it is a string, the caller copies it and does not look at it."""
    return parent.copied(key) if isinstance(parent, WatchedMapping) else parent.get(key)


def copied_items(parent: Mapping) -> Collection[tuple[str, object]]:
    """All keys with their `copied` values."""
    if isinstance(parent, WatchedMapping):
        return [(key, parent.copied(key)) for key in parent]
    return parent.items()


def holds(predicate: Predicate, *texts: str) -> bool:
    """Whether `predicate`, a pure function, is true of texts that may be copied ones."""
    answer = predicate(*map(_plain, texts))
    for text in texts:
        if isinstance(text, CopiedText):
            text.watch.asked.append((predicate, texts, answer))
            break
    return answer


def made_of(make: Callable[[str], T | None], text: str) -> T | None:
    """What `make`, a pure function that returns a new object each time, makes of a text that may be a copied one."""
    made = make(_plain(text))
    if isinstance(text, CopiedText):
        if made is None:
            text.watch.looked_at.add(text.line)
        else:
            text.watch.made[id(made)] = text.line, make, made
    return made


def label_set(pairs: Collection[tuple[str, str]]) -> Labels:
    """Names, each of them once, with texts that may be copied ones."""
    watch = next((text.watch for _, text in pairs if isinstance(text, CopiedText)), None)
    if watch is None:
        return frozenset(pairs)
    watch.only_collects = True
    try:
        return frozenset(pairs)
    finally:
        watch.only_collects = False


def _plain(text: str) -> str:
    return text.plain if isinstance(text, CopiedText) else text
