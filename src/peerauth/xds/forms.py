"""How the two variants of the protocol write an answer, and what each has to know of the client for it.

Delta writes just the names that differ. State of the world writes the whole set that results, so that a name held back
(a cluster still in use, a refused listener) stays in it as the client has it; for that it has to know what that is, and
before the client has taken a first answer nothing less than all can be sent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from peerauth.dataplane.type_urls import TypeUrl
from peerauth.xds.answer import ABSENT
from peerauth.xds.wire import Resource, encode_delta, encode_state, set_version


class Form(Protocol):
    """How answers of one type are written on one stream."""

    @property
    def says_absence(self) -> bool:
        """Whether an answer can say that something does not exist."""
        ...

    @property
    def all_or_nothing(self) -> bool:
        """Whether, as long as it is not known what the client has, only a whole set can follow."""
        ...

    def is_version_of(self, version: str, resources: Iterable[Resource]) -> bool:
        """Whether a client that claims a version has this very set."""
        ...

    def taken(self, resources: Mapping[str, Resource], versions: Mapping[str, str]) -> None:
        """The client has taken an answer: `versions` is what it has of it, without what it has dropped meanwhile."""
        ...

    def lost(self, names: Iterable[str]) -> None:
        """The client has these no more."""
        ...

    def write(self, resources: Mapping[str, Resource], drops: Collection[str], *, nonce: str) -> bytes: ...


class DeltaForm:
    """Names that differ, names that are gone."""

    __slots__ = ("_type_url",)

    says_absence = True
    all_or_nothing = False

    def __init__(self, type_url: TypeUrl) -> None:
        self._type_url = type_url

    def is_version_of(self, version: str, resources: Iterable[Resource]) -> bool:
        """There are versions of names only."""
        return False

    def taken(self, resources: Mapping[str, Resource], versions: Mapping[str, str]) -> None:
        """Nothing has to be known."""

    def lost(self, names: Iterable[str]) -> None:
        """Nothing has to be known."""

    def write(self, resources: Mapping[str, Resource], drops: Collection[str], *, nonce: str) -> bytes:
        return encode_delta(resources.values(), type_url=self._type_url, nonce=nonce, removed=drops)


class StateForm:
    """All that the client is to have. `complete`: a name left out of the answer is removed by it."""

    __slots__ = ("_complete", "_has", "_known", "_type_url")

    def __init__(self, type_url: TypeUrl, *, complete: bool) -> None:
        self._type_url = type_url
        self._complete = complete
        self._known = False  # whether it is known what the client has
        self._has: dict[str, Resource] = {}

    @property
    def says_absence(self) -> bool:
        return self._complete

    @property
    def all_or_nothing(self) -> bool:
        return self._complete and not self._known

    def taken(self, resources: Mapping[str, Resource], versions: Mapping[str, str]) -> None:
        self._known = True
        self._has.update({name: resource for name, resource in resources.items() if name in versions})
        self.lost(name for name, version in versions.items() if version == ABSENT)

    def lost(self, names: Iterable[str]) -> None:
        for name in names:
            self._has.pop(name, None)

    def is_version_of(self, version: str, resources: Iterable[Resource]) -> bool:
        """Only a complete answer's version says what the client has."""
        return self._complete and bool(version) and version == set_version(resources)

    def write(self, resources: Mapping[str, Resource], drops: Collection[str], *, nonce: str) -> bytes:
        whole = {name: resource for name, resource in self._has.items() if name not in drops} | dict(resources)
        ordered = [whole[name] for name in sorted(whole)]
        return encode_state(ordered, type_url=self._type_url, nonce=nonce, version=set_version(ordered))
