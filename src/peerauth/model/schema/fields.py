"""Takes values out of a document by type, and notes every value that has the wrong one.

A wrong value is reported and the default is returned, so that one run finds everything. Absent and null are the same,
as in Kubernetes, which drops nulls before it validates. Whoever converts a document looks at `faults` at the end: an
object of which anything was wrong is not an object.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from peerauth.model.diagnostic import Diagnostic
from peerauth.model.meta import NO_LABELS, Labels, Origin
from peerauth.model.schema import names
from peerauth.model.schema.faults import (
    INVALID_NAME,
    INVALID_PORT,
    INVALID_VALUE,
    MISSING_FIELD,
    UNKNOWN_FIELD,
    WRONG_TYPE,
    Fault,
)
from peerauth.model.schema.place import Mapping, Path, Place, path_text
from peerauth.model.schema.watched import copied, copied_items, holds, label_set

HIGHEST_PORT = 65535
MOST_FAULTS = 100
"""Of one document."""
_NO_FIELDS: Mapping = {}
_LABEL_KEY = "at most 63 letters, digits, '-', '_' and '.', which may follow a DNS name and a slash"
_LABEL_VALUE = "at most 63 letters, digits, '-', '_' and '.', a letter or digit at either end"


class Fields:
    """One document under examination: typed access to its values, and the faults found so far."""

    __slots__ = ("faults", "name_subject", "place")

    def __init__(self, place: Place, *, name_subject: Callable[[], str] = str) -> None:
        self.place = place
        self.name_subject = name_subject  # asked for only when something is wrong
        self.faults: list[Diagnostic] = []

    def fault(self, fault: Fault, message: str, path: Path, *, hint: str = "", at_key: bool = False) -> None:
        """Notes a fault at the value of `path`, or at the key that leads to it."""
        if self.is_full:
            return
        origin = self.place.key(path) if at_key else self.place.value(path)
        self.faults.append(
            fault.at(origin, message=message, path=path_text(path), hint=hint, subject=self.name_subject())
        )

    @property
    def is_full(self) -> bool:
        """Whether more faults of this document would help no one: the rest of a hostile one is not looked at."""
        return len(self.faults) >= MOST_FAULTS

    def wrong_type(self, value: object, path: Path, wanted: str, *, hint: str = "") -> None:
        """Notes that the value at `path` is not what is wanted there."""
        self.fault(WRONG_TYPE, f"this must be {wanted}, and is {kind_of(value)}", path, hint=hint)

    def missing(self, key: str, path: Path, *, hint: str = "") -> None:
        """Notes that the mapping at `path` lacks `key`."""
        self.fault(MISSING_FIELD, f"`{path_text((*path, key))}` is missing", path, hint=hint)

    def origin(self, path: Path) -> Origin:
        """Where the value at `path` was said."""
        return self.place.value(path)

    def mapping(self, parent: Mapping, key: str, path: Path) -> Mapping:
        """The mapping `parent[key]`, empty if it is absent; `path` leads to `parent`."""
        value = parent.get(key)
        if value is None:
            return _NO_FIELDS
        if isinstance(value, dict):
            return value
        self.wrong_type(value, (*path, key), "a mapping")
        return _NO_FIELDS

    def text(self, parent: Mapping, key: str, path: Path, *, default: str = "") -> str:
        """The string `parent[key]`."""
        return self._text(parent.get(key), key, path, default=default)

    def copied(self, parent: Mapping, key: str, path: Path) -> str:
        """The same for a string that goes into an object as it is: only `holds` and `made_of` may look at it."""
        return self._text(copied(parent, key), key, path, default="")

    def _text(self, value: object, key: str, path: Path, *, default: str) -> str:
        if isinstance(value, str):
            return value
        if value is not None:
            self.wrong_type(value, (*path, key), "a string", hint=quoting_hint(value))
        return default

    def flag(self, parent: Mapping, key: str, path: Path, *, default: bool = False) -> bool:
        """The boolean `parent[key]`."""
        value = parent.get(key)
        if isinstance(value, bool):
            return value
        if value is not None:
            self.wrong_type(value, (*path, key), "true or false")
        return default

    def port(self, parent: Mapping, key: str, path: Path) -> int | None:
        """The port number `parent[key]`; None when it is absent or wrong."""
        value = parent.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            if 0 < value <= HIGHEST_PORT:
                return value
            self.fault(INVALID_PORT, f"port {value} is not between 1 and {HIGHEST_PORT}", (*path, key))
        elif value is not None:
            self.wrong_type(value, (*path, key), "a port number", hint="write it without quotes")
        return None

    def required_port(self, parent: Mapping, key: str, path: Path) -> int | None:
        """The port number `parent[key]`, whose absence is a fault too."""
        if parent.get(key) is None:
            self.missing(key, path)
            return None
        return self.port(parent, key, path)

    def port_or_name(self, parent: Mapping, key: str, path: Path) -> int | str | None:
        """A port that may be given by number or by the name of a container port."""
        value = parent.get(key)
        return value if isinstance(value, str) and value else self.port(parent, key, path)

    def items(self, parent: Mapping, key: str, path: Path) -> Sequence[tuple[Path, object]]:
        """The elements of the sequence `parent[key]`, each with its path."""
        value = parent.get(key)
        if value is None:
            return ()
        if isinstance(value, list):
            return [((*path, key, index), item) for index, item in enumerate(value)]
        self.wrong_type(value, (*path, key), "a list")
        return ()

    def mappings(self, parent: Mapping, key: str, path: Path) -> Sequence[tuple[Path, Mapping]]:
        """The elements of a sequence of mappings, each with its path; others are faults."""
        if parent.get(key) is None:
            return ()
        found: list[tuple[Path, Mapping]] = []
        for where, item in self.items(parent, key, path):
            if isinstance(item, dict):
                found.append((where, item))
            else:
                self.wrong_type(item, where, "a mapping")
        return found

    def texts(self, parent: Mapping, key: str, path: Path) -> tuple[str, ...]:
        """The elements of a sequence of strings."""
        found: list[str] = []
        for where, item in self.items(parent, key, path):
            if isinstance(item, str):
                found.append(item)
            else:
                self.wrong_type(item, where, "a string", hint=quoting_hint(item))
        return tuple(found)

    def pairs(self, parent: Mapping, key: str, path: Path) -> Sequence[tuple[str, str]]:
        """The mapping from strings to strings `parent[key]`, whose values are `copied`."""
        if parent.get(key) is None:
            return ()
        found: list[tuple[str, str]] = []
        for name, text in copied_items(self.mapping(parent, key, path)):
            if isinstance(text, str):
                found.append((name, text))
            else:
                self.wrong_type(text, (*path, key, name), "a string", hint=quoting_hint(text))
        return found

    def labels(self, parent: Mapping, key: str, path: Path) -> Labels:
        """The labels `parent[key]`, as a set of pairs; what cannot be a label is a fault."""
        pairs = self.pairs(parent, key, path)
        if not pairs:
            return NO_LABELS
        fit = holds(names.are_label_values, *(text for _, text in pairs))
        for name, text in pairs:
            where = (*path, key, name)
            if not names.is_label_key(name):
                message = f"{shortened(name)!r} is not the key of a label: {_LABEL_KEY}"
                self.fault(INVALID_NAME, message, where, at_key=True)
            if not (fit or holds(names.is_label_value, text)):
                message = f"{shortened(text)!r} is not the value of a label: {_LABEL_VALUE}"
                self.fault(INVALID_NAME, message, where)
        return label_set(pairs)

    def annotations(self, parent: Mapping, key: str, path: Path) -> Labels:
        """The annotations `parent[key]`, as a set of pairs; their values may be any text."""
        pairs = self.pairs(parent, key, path)
        if not pairs:
            return NO_LABELS
        for name, _ in pairs:
            if not names.is_annotation_key(name):
                message = f"{shortened(name)!r} is not the key of an annotation: {_LABEL_KEY}"
                self.fault(INVALID_NAME, message, (*path, key, name), at_key=True)
        left = names.LARGEST_ANNOTATIONS - sum(names.size_of(name) for name, _ in pairs)
        if not holds(partial(_are_within, left), *(text for _, text in pairs)):
            message = f"the annotations have more than {names.LARGEST_ANNOTATIONS >> 10} KiB together"
            self.fault(INVALID_VALUE, message, (*path, key), at_key=True)
        return label_set(pairs)

    def only(self, parent: Mapping, known: Iterable[str], path: Path, *, hints: Mapping | None = None) -> None:
        """Notes each key of `parent` that is not one of `known`, with the nearest that is."""
        for key in parent:
            if key not in known and not self.is_full:
                hint = str(hints[key]) if hints and key in hints else nearest_hint(key, known)
                message = f"`{key}` is not a field of {f'`{path_text(path)}`' if path else 'the resource'}"
                self.fault(UNKNOWN_FIELD, message, (*path, key), hint=hint, at_key=True)

    def one_of(self, value: str, allowed: Iterable[str], path: Path) -> bool:
        """Whether `value` is one of `allowed`; if not, that is noted with the nearest that is."""
        choices = tuple(allowed)
        if value in choices:
            return True
        near = nearest(value, choices) or nearest(value.upper(), choices)
        hint = f"did you mean {near}?" if near else ""
        self.fault(INVALID_VALUE, f"`{value}` is not one of {', '.join(choices)}", path, hint=hint)
        return False


def _are_within(size: int, *texts: str) -> bool:
    return sum(map(names.size_of, texts)) <= size


def nearest(word: str, known: Iterable[str]) -> str:
    """The one of `known` that `word` was most likely meant to be, or ''. Case matters little, as typing errors go."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(word.lower()[:100], by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else ""


def nearest_hint(word: str, known: Iterable[str]) -> str:
    """What to write in place of an unknown field."""
    near = nearest(word, known)
    return f"did you mean `{near}`?" if near else f"known here: {', '.join(sorted(known))}"


def kind_of(value: object) -> str:
    """What a value is, in the words of a manifest's author."""
    match value:
        case None:
            return "empty"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the string {shortened(value)!r}"
        case list():
            return "a list"
        case _:
            return "a mapping"


def quoting_hint(value: object) -> str:
    """How to write a number or boolean as a string."""
    return 'put it in quotes ("...")' if isinstance(value, bool | int | float) else ""


def shortened(text: str, *, limit: int = 60) -> str:
    """The text, or its beginning if it is long: messages must not repeat a megabyte."""
    return text if len(text) <= limit else text[:limit] + "..."
