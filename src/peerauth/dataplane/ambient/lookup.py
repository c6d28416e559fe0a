"""What a ztunnel that asks address by address may ask by: who has an address, is behind a service, is on a node.

Names only: the resources themselves are `ztunnel`'s. Every look-up costs what it returns.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class FoundBy(msgspec.Struct, frozen=True):
    """What a resource is found by: its aliases (`NETWORK/ADDRESS`), the services it is behind, its node."""

    aliases: tuple[str, ...] = ()
    services: frozenset[str] = frozenset()
    node: str = ""


NOWHERE = FoundBy()


class Lookup:
    """What all address resources are found by. `put` with `NOWHERE` forgets a name."""

    def __init__(self) -> None:
        self._found_by: dict[str, FoundBy] = {}
        self._by_alias: dict[str, set[str]] = {}
        self._behind: dict[str, set[str]] = {}
        self._on_node: dict[str, set[str]] = {}

    def put(self, name: str, by: FoundBy) -> None:
        """Says what a resource is found by, in place of what was said before."""
        old = self._found_by.pop(name, NOWHERE)
        if by != NOWHERE:
            self._found_by[name] = by
        _move(self._by_alias, name, old.aliases, by.aliases)
        _move(self._behind, name, old.services, by.services)
        _move(self._on_node, name, filter(None, [old.node]), filter(None, [by.node]))

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
