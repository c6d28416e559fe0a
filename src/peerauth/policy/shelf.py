"""The policies as `index` needs them: by namespace, by whose labels their selectors match, and by who reads them.

Always oldest first. Which namespace is the root, and which are read, is the caller's to know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from peerauth.model.meta import Labels, age_of
from peerauth.model.peerauth import PeerAuthentication
from peerauth.model.selectors import SelectorIndex
from peerauth.model.tables import Name, Table, name_of
from peerauth.policy.revisions import is_for, revision_label

Policies = tuple[PeerAuthentication, ...]


class Said(NamedTuple):
    """The policies that could speak, apart: those that an istiod reads, and those that it does not."""

    heard: Policies
    unheard: Policies


NOTHING_SAID = Said((), ())


class PolicyShelf:
    """All policies in force. Equal answers of `broad` or `selecting` are one object until such policies change.

    They are made when they are asked for: a load of many policies sorts each namespace's once. Where no policy of a
    namespace is for one revision alone, all revisions get the same.
    """

    def __init__(self) -> None:
        self._broad: Table[Name, PeerAuthentication] = Table(PeerAuthentication, name_of)
        self._broad_said: dict[str, dict[tuple[str, bool], Said]] = {}
        self._selecting: dict[Name, PeerAuthentication] = {}
        self._selectors: SelectorIndex[Name] = SelectorIndex()
        self._selecting_said: dict[tuple[tuple[Name, ...], str, bool], Said] = {}
        self._for_one_revision: Counter[str] = Counter()

    def put(self, policy: PeerAuthentication) -> None:
        """Adds a policy whose name is not on the shelf."""
        self._forget(policy)
        if revision_label(policy) is not None:
            self._for_one_revision[policy.meta.namespace] += 1
        if policy.selector:
            self._selecting[name_of(policy)] = policy
            self._selectors.add(name_of(policy), namespace=policy.meta.namespace, selector=policy.selector)
        else:
            self._broad.put(policy)

    def drop(self, policy: PeerAuthentication) -> None:
        """Takes off a policy that was put."""
        self._forget(policy)
        if revision_label(policy) is not None:
            self._for_one_revision[policy.meta.namespace] -= 1
            if not self._for_one_revision[policy.meta.namespace]:
                del self._for_one_revision[policy.meta.namespace]
        if policy.selector:
            del self._selecting[name_of(policy)]
            self._selectors.remove(name_of(policy), namespace=policy.meta.namespace, selector=policy.selector)
        else:
            self._broad.drop(policy)

    def broad(self, namespace: str, *, revision: str, is_read: bool) -> Said:
        """The policies of a namespace that have no selector; `is_read`: whether the revision reads the namespace."""
        key = self._listener(namespace, revision), is_read
        kept = self._broad_said.get(namespace)
        if kept is None:
            kept = self._broad_said[namespace] = {}
        found = kept.get(key)
        if found is None:
            found = kept[key] = _said(self._broad.in_namespace(namespace).values(), revision, is_read)
        return found

    def selecting(self, labels: Labels, *, namespace: str, revision: str, is_read: bool) -> Said:
        """The policies of a namespace whose selector these labels contain."""
        names = tuple(self._selectors.matching(labels, namespace=namespace))
        if not names:
            return NOTHING_SAID
        key = names, self._listener(namespace, revision), is_read
        found = self._selecting_said.get(key)
        if found is None:
            found = self._selecting_said[key] = _said([self._selecting[name] for name in names], revision, is_read)
        return found

    def _listener(self, namespace: str, revision: str) -> str:
        """The revision, where it makes a difference."""
        return revision if namespace in self._for_one_revision else ""

    def _forget(self, policy: PeerAuthentication) -> None:
        """What was kept for selectors goes with any of them; a policy for one revision alone tells listeners apart."""
        if policy.selector or revision_label(policy) is not None:
            self._selecting_said = {}
        if not policy.selector or revision_label(policy) is not None:
            self._broad_said.pop(policy.meta.namespace, None)


def _said(policies: Collection[PeerAuthentication], revision: str, is_read: bool) -> Said:
    if not policies:
        return NOTHING_SAID
    by_age = tuple(sorted(policies, key=lambda policy: age_of(policy.meta))) if len(policies) > 1 else tuple(policies)
    if not is_read:
        return Said((), by_age)
    heard = tuple(policy for policy in by_age if is_for(policy, revision))
    if len(heard) == len(by_age):
        return Said(heard, ())
    return Said(heard, tuple(policy for policy in by_age if not is_for(policy, revision)))
