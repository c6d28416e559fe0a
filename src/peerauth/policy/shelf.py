"""The policies as `index` needs them: by namespace, and by whose labels their selectors match; always oldest first.

Which namespace is the root is the caller's to know: here it is a namespace like any other.
"""

from __future__ import annotations

from collections.abc import Iterable

from peerauth.model.meta import Labels, age_of
from peerauth.model.peerauth import PeerAuthentication
from peerauth.model.selectors import SelectorIndex
from peerauth.model.tables import Name, name_of


class PolicyShelf:
    """All policies in force. A tuple it has returned stays the same object until a policy of its namespace changes."""

    def __init__(self) -> None:
        self._broad: dict[str, tuple[PeerAuthentication, ...]] = {}
        self._selectors: SelectorIndex[Name] = SelectorIndex()
        self._selecting: dict[Name, PeerAuthentication] = {}

    def put(self, policy: PeerAuthentication) -> None:
        """Adds a policy whose name is not on the shelf."""
        namespace = policy.meta.namespace
        if policy.selector:
            self._selecting[name_of(policy)] = policy
            self._selectors.add(name_of(policy), namespace=namespace, selector=policy.selector)
        else:
            self._broad[namespace] = _oldest_first((*self.broad(namespace), policy))

    def drop(self, policy: PeerAuthentication) -> None:
        """Takes off a policy that was put."""
        namespace = policy.meta.namespace
        if policy.selector:
            del self._selecting[name_of(policy)]
            self._selectors.remove(name_of(policy), namespace=namespace, selector=policy.selector)
            return
        left = tuple(other for other in self.broad(namespace) if other.meta.name != policy.meta.name)
        if left:
            self._broad[namespace] = left
        else:
            del self._broad[namespace]

    def broad(self, namespace: str) -> tuple[PeerAuthentication, ...]:
        """The policies of a namespace that have no selector."""
        return self._broad.get(namespace, ())

    def selecting(self, labels: Labels, *, namespace: str) -> tuple[PeerAuthentication, ...]:
        """The policies of a namespace whose selector these labels contain."""
        return _oldest_first(self._selecting[name] for name in self._selectors.matching(labels, namespace=namespace))


def _oldest_first(policies: Iterable[PeerAuthentication]) -> tuple[PeerAuthentication, ...]:
    return tuple(sorted(policies, key=lambda policy: age_of(policy.meta)))
