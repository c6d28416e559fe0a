"""Objects of one kind by name, grouped by namespace: most questions are about one namespace.

A `Table` is a read-only mapping for everyone but its owner, who calls `put` and `drop`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Generic, NamedTuple, Protocol, TypeVar

from peerauth.model.meta import Meta


class Name(NamedTuple):
    """A namespace and a name; a plain tuple of both is equal to it."""

    namespace: str
    name: str


class NamespacedKey(Protocol):
    """A key that says which namespace it is in, and sorts."""

    @property
    def namespace(self) -> str: ...
    def __hash__(self) -> int: ...


class HasMeta(Protocol):
    """An object with metadata."""

    @property
    def meta(self) -> Meta: ...


def name_of(obj: HasMeta) -> Name:
    """The name of an object that its kind and metadata tell apart."""
    return Name(obj.meta.namespace, obj.meta.name)


K = TypeVar("K", bound=NamespacedKey)
V = TypeVar("V")


class Table(Mapping[K, V], Generic[K, V]):
    """A mapping from key to object that also answers for one namespace. Iteration goes namespace by namespace."""

    def __init__(self, kind: type[V], key_of: Callable[[V], K]) -> None:
        self._kind = kind
        self._key_of = key_of
        self._by_namespace: dict[str, dict[K, V]] = {}

    def in_namespace(self, namespace: str) -> Mapping[K, V]:
        """The objects of one namespace; empty if there are none. A view for reading now, not for keeping."""
        return MappingProxyType(self._by_namespace.get(namespace, {}))

    def put(self, obj: object) -> None:
        """Adds an object of this table's kind, or puts it in the place of the one with its name."""
        if isinstance(obj, self._kind):
            key = self._key_of(obj)
            self._by_namespace.setdefault(key.namespace, {})[key] = obj

    def drop(self, obj: object) -> None:
        """Removes the object that has the name of this one."""
        if isinstance(obj, self._kind):
            key = self._key_of(obj)
            objects = self._by_namespace[key.namespace]
            del objects[key]
            if not objects:
                del self._by_namespace[key.namespace]

    def __bool__(self) -> bool:
        return bool(self._by_namespace)

    def __getitem__(self, key: K) -> V:
        return self._by_namespace[key.namespace][key]

    def __iter__(self) -> Iterator[K]:
        for objects in self._by_namespace.values():
            yield from objects

    def __len__(self) -> int:
        return sum(map(len, self._by_namespace.values()))
