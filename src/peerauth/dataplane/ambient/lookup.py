"""What a ztunnel that asks address by address may ask by: who has an address, is behind a service, is on a node.

Names only: the resources themselves are `ztunnel`'s. Every look-up costs what it returns.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Place(msgspec.Struct, frozen=True):
    """Where a resource can be found: its aliases (`NETWORK/ADDRESS`), the services it is behind, its node."""

    aliases: tuple[str, ...] = ()
    services: frozenset[str] = frozenset()
    node: str = ""


NOWHERE = Place()


class Lookup:
    """The places of all address resources. `put` with `NOWHERE` forgets a name."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._by_alias: dict[str, set[str]] = {}
        self._behind: dict[str, set[str]] = {}
        self._on_node: dict[str, set[str]] = {}

    def put(self, name: str, place: Place) -> None:
        """Says where a resource can be found, in the place of what was said before."""
        old = self._places.pop(name, NOWHERE)
        if place != NOWHERE:
            self._places[name] = place
        _move(self._by_alias, name, old.aliases, place.aliases)
        _move(self._behind, name, old.services, place.services)
        _move(self._on_node, name, filter(None, [old.node]), filter(None, [place.node]))

    def related(self, name: str) -> frozenset[str]:
        """What a client gets as well who asks for `name`: what has that alias, and a service's workloads."""
        found = self._by_alias.get(name) or {name}
        return frozenset(found.union(*(self._behind.get(each, ()) for each in found)) - {name})

    def on_node(self, node: str) -> frozenset[str]:
        """The workloads of a node."""
        return frozenset(self._on_node.get(node, ()))


def _move(sets: dict[str, set[str]], value: str, old: Iterable[str], new: Iterable[str]) -> None:
    for key in old:
        sets[key].discard(value)
        if not sets[key]:
            del sets[key]
    for key in new:
        sets.setdefault(key, set()).add(value)
