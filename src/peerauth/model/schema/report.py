"""The faults of one document as they are found, and the words for them.

Whoever reads a document looks at `faults` at the end: an object of which anything was wrong is not an object.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from collections.abc import Mapping as Map

import msgspec

from peerauth.model.diagnostic import Diagnostic
from peerauth.model.schema.faults import MISSING_FIELD, UNKNOWN_FIELD, WRONG_TYPE, Fault
from peerauth.model.schema.place import Mapping, Path, Place, path_text

MOST_FAULTS = 100
"""Of one document."""


class Report(msgspec.Struct):
    """A resource under examination, and what is wrong with it.

    `mapping` is the resource as it was read; values of it stand at `place`, by the path that leads from it to them.
    `prefix` leads to it from the list that it is an item of. `kind` is what it is called, once that is known.
    """

    mapping: Mapping
    place: Place
    default_namespace: str
    prefix: Path = ()
    kind: str = ""
    faults: list[Diagnostic] = []

    def fault(self, fault: Fault, message: str, path: Path, *, hint: str = "", at_key: bool = False) -> None:
        """Notes a fault at the value of `path`, or at the key that leads to it."""
        if self.is_full:
            return
        origin = self.place.key(path) if at_key else self.place.value(path)
        self.faults.append(fault.at(origin, message=message, path=self.words(path), hint=hint, subject=self.subject))

    @property
    def subject(self) -> str:
        """`Kind namespace/name`, as far as they are known."""
        meta = self.mapping.get("metadata")
        name = meta.get("name") if isinstance(meta, dict) else None
        if not self.kind or not isinstance(name, str) or not isinstance(meta, dict):
            return self.kind
        namespace = meta.get("namespace")
        return f"{self.kind} {namespace if isinstance(namespace, str) else self.default_namespace}/{shortened(name)}"

    @property
    def is_full(self) -> bool:
        """Whether more faults of this document would help no one: the rest of a hostile one is not looked at."""
        return len(self.faults) >= MOST_FAULTS

    def words(self, path: Path) -> str:
        """A path as people write it."""
        return path_text((*self.prefix, *path))

    def wrong_type(self, value: object, path: Path, wanted: str, *, hint: str = "") -> None:
        """Notes that the value at `path` is not what is wanted there."""
        self.fault(WRONG_TYPE, f"this must be {wanted}, and is {kind_of(value)}", path, hint=hint)

    def missing(self, key: str, path: Path) -> None:
        """Notes that the mapping at `path` lacks `key`."""
        self.fault(MISSING_FIELD, f"`{self.words((*path, key))}` is missing", path)

    def unknown(self, mapping: Mapping, known: Iterable[str], path: Path, *, hints: Map[str, str]) -> None:
        """Notes each key of the mapping at `path` that is not one of `known`, with the nearest that is."""
        for key in mapping:
            if key not in known and not self.is_full:
                hint = hints.get(key) or nearest_hint(key, known)
                holder = self.words(path)
                message = f"`{key}` is not a field of {f'`{holder}`' if holder else 'the resource'}"
                self.fault(UNKNOWN_FIELD, message, (*path, key), hint=hint, at_key=True)

    def text(self, key: str) -> str:
        """The string that the resource has at a key; one of another type is a fault, and none."""
        value = self.mapping.get(key)
        if value is None or isinstance(value, str):
            return value or ""
        self.wrong_type(value, (key,), "a string", hint=quoting_hint(value))
        return ""


def nearest(word: str, known: Iterable[str]) -> str:
    """The one of `known` that `word` was most likely meant to be, or ''. Case matters little, as typing errors go."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(word.lower()[:100], by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else ""


def nearest_hint(word: str, known: Iterable[str]) -> str:
    """What to write in place of an unknown field."""
    near = nearest(word, known)
    return f"did you mean `{near}`?" if near else f"known here: {', '.join(sorted(known))}"


def not_among(value: str, choices: tuple[str, ...]) -> tuple[str, str]:
    """What is wrong with a value that is none of the choices, and the nearest that is."""
    near = nearest(value, choices) or nearest(value.upper(), choices)
    return f"`{value}` is not one of {', '.join(choices)}", f"did you mean {near}?" if near else ""


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
