"""Where the values of a document were said, for readers of files and of clusters alike.

The schema takes plain JSON values (dict, list, str, int, float, bool, None) and asks a `Place` about positions only
where it has something to say of them, so that a reader may find positions lazily. A path is the keys and indices that
lead from the document to a value; the empty path is the document.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

import msgspec

from peerauth.model.diagnostic import Diagnostic
from peerauth.model.meta import NOWHERE, Origin

Path = tuple[str | int, ...]
Mapping = dict[str, object]
"""A JSON object. Keys are strings: readers write the key `8080` as `"8080"`, as Kubernetes does."""

_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Place(Protocol):
    """Knows where the values of one document were said."""

    def value(self, path: Path) -> Origin:
        """Where the value at `path` stands; for mappings, sequences and empty values, where its key does."""

    def key(self, path: Path) -> Origin:
        """Where the key that leads to the value at `path` stands."""

    def embedded(self, path: Path, text: str) -> Embedded:
        """Reads the string at `path`, whose value is `text`, as a YAML document of its own."""


class Embedded(msgspec.Struct, frozen=True):
    """A YAML document inside a string. `diagnostics` are what kept it from being read: then `value` is None."""

    value: object
    place: Place
    diagnostics: tuple[Diagnostic, ...] = ()


class FixedPlace:
    """The place of an object that has no lines: every value of it is at `origin` (a resource version, say).

    `read` turns YAML inside a string into values; without it such strings are passed over as empty.
    """

    def __init__(self, origin: Origin = NOWHERE, *, read: Callable[[str], Embedded] | None = None) -> None:
        self._origin = origin
        self._read = read

    def value(self, path: Path) -> Origin:
        return self._origin

    def key(self, path: Path) -> Origin:
        return self._origin

    def embedded(self, path: Path, text: str) -> Embedded:
        return self._read(text) if self._read else Embedded(None, self)


class Below:
    """The place of a value inside a document: paths begin there."""

    __slots__ = ("_path", "_place")

    def __init__(self, place: Place, path: Path) -> None:
        self._place = place
        self._path = path

    def value(self, path: Path) -> Origin:
        return self._place.value((*self._path, *path))

    def key(self, path: Path) -> Origin:
        return self._place.key((*self._path, *path))

    def embedded(self, path: Path, text: str) -> Embedded:
        return self._place.embedded((*self._path, *path), text)


def path_text(path: Path) -> str:
    """The path as people write it: `spec.ports[0].name`, `metadata.labels["app.kubernetes.io/name"]`."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif _SIMPLE_KEY.fullmatch(step):
            parts.append(f".{step}" if parts else step)
        else:
            parts.append(f'["{step}"]')
    return "".join(parts)
