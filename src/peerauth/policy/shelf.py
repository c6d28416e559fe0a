"""The policies as `index` needs them: by namespace, and by whose labels their selectors match; always oldest first.

Which namespace is the root is the caller's to know: here it is a namespace like any other.
"""

from __future__ import annotations

from collections.abc import Collection

from peerauth.model.meta import Labels, age_of
from peerauth.model.peerauth import PeerAuthentication
from peerauth.model.selectors import SelectorIndex
from peerauth.model.tables import Name, Table, name_of


class PolicyShelf:
    """All policies in force. Equal answers of `broad` or `selecting` are one object until such policies change.

    Tuples are made when they are asked for: a load of many policies sorts each namespace's once.
    """

    def __init__(self) -> None:
        self._broad: Table[Name, PeerAuthentication] = Table(PeerAuthentication, name_of)
        self._broad_by_age: dict[str, tuple[PeerAuthentication, ...]] = {}
        self._selecting: dict[Name, PeerAuthentication] = {}
        self._selectors: SelectorIndex[Name] = SelectorIndex()
        self._selecting_by_age: dict[tuple[Name, ...], tuple[PeerAuthentication, ...]] = {}

    def put(self, policy: PeerAuthentication) -> None:
        """Adds a policy whose name is not on the shelf."""
        if policy.selector:
            self._selecting_by_age = {}
            self._selecting[name_of(policy)] = policy
            self._selectors.add(name_of(policy), namespace=policy.meta.namespace, selector=policy.selector)
        else:
            self._broad.put(policy)
            self._broad_by_age.pop(policy.meta.namespace, None)

    def drop(self, policy: PeerAuthentication) -> None:
        """Takes off a policy that was put."""
        if policy.selector:
            self._selecting_by_age = {}
            del self._selecting[name_of(policy)]
            self._selectors.remove(name_of(policy), namespace=policy.meta.namespace, selector=policy.selector)
        else:
            self._broad.drop(policy)
            self._broad_by_age.pop(policy.meta.namespace, None)

    def broad(self, namespace: str) -> tuple[PeerAuthentication, ...]:
        """The policies of a namespace that have no selector."""
        found = self._broad_by_age.get(namespace)
        if found is None:
            found = self._broad_by_age[namespace] = _oldest_first(self._broad.in_namespace(namespace).values())
        return found

    def selecting(self, labels: Labels, *, namespace: str) -> tuple[PeerAuthentication, ...]:
        """The policies of a namespace whose selector these labels contain."""
        names = tuple(self._selectors.matching(labels, namespace=namespace))
        if not names:
            return ()
        found = self._selecting_by_age.get(names)
        if found is None:
            found = self._selecting_by_age[names] = _oldest_first([self._selecting[name] for name in names])
        return found


def _oldest_first(policies: Collection[PeerAuthentication]) -> tuple[PeerAuthentication, ...]:
    if len(policies) < 2:
        return tuple(policies)
    return tuple(sorted(policies, key=lambda policy: age_of(policy.meta)))
