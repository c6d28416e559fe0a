"""Finding the selectors that match a set of labels, and the labels that a selector matches, without trying each.

A selector matches labels that contain all its pairs, so it suffices to file it under one of its pairs (its anchor) and
to look under each pair of the labels; the other way round, to look at the label sets that have its rarest pair.
Selectors act within a namespace, which is part of the key.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from peerauth.model.meta import Labels

K = TypeVar("K", bound=Hashable)
_Pair = tuple[str, str]


class SelectorIndex(Generic[K]):
    """Keys filed under a namespace and a non-empty selector.

    `matching` costs the pairs of the labels plus the selectors that share an anchor with them, and nothing in a
    namespace where nothing is filed.
    """

    def __init__(self) -> None:
        self._filed: dict[str, dict[_Pair, dict[K, Labels]]] = {}

    def add(self, key: K, *, namespace: str, selector: Labels) -> None:
        """Files a key; the anchor is the pair that the fewest others are filed under."""
        filed = self._filed.setdefault(namespace, {})
        pairs = sorted(selector)
        anchor = pairs[0] if len(pairs) == 1 else min(pairs, key=lambda pair: len(filed.get(pair, ())))
        filed.setdefault(anchor, {})[key] = selector

    def remove(self, key: K, *, namespace: str, selector: Labels) -> None:
        """Takes a key out that was filed with this namespace and selector."""
        filed = self._filed.get(namespace, {})
        for pair in selector:
            keys = filed.get(pair, {})
            if keys.pop(key, None) is not None:
                if not keys:
                    del filed[pair]
                if not filed:
                    del self._filed[namespace]
                return

    def matching(self, labels: Labels, *, namespace: str) -> list[K]:
        """Every key whose selector the labels contain, in no particular order."""
        filed = self._filed.get(namespace)
        if filed is None:
            return []
        found: list[K] = []
        for pair in labels:
            if pair in filed:
                found += [key for key, selector in filed[pair].items() if selector <= labels]
        return found


class LabelIndex(Generic[K]):
    """Keys filed under a namespace and the labels they have; keys with equal labels are filed once."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[Labels, dict[K, None]]] = {}
        self._by_pair: dict[str, dict[_Pair, dict[Labels, None]]] = {}

    def add(self, key: K, *, namespace: str, labels: Labels) -> None:
        """Files a key."""
        filed = self._keys.setdefault(namespace, {})
        if labels not in filed:
            filed[labels] = {}
            pairs = self._by_pair.setdefault(namespace, {})
            for pair in labels:
                pairs.setdefault(pair, {})[labels] = None
        filed[labels][key] = None

    def remove(self, key: K, *, namespace: str, labels: Labels) -> None:
        """Takes a key out that was filed with this namespace and these labels."""
        filed = self._keys[namespace]
        del filed[labels][key]
        if filed[labels]:
            return
        del filed[labels]
        pairs = self._by_pair[namespace]
        for pair in labels:
            del pairs[pair][labels]
            if not pairs[pair]:
                del pairs[pair]
        if not filed:
            del self._keys[namespace], self._by_pair[namespace]

    def selected(self, selector: Labels, *, namespace: str) -> Iterator[K]:
        """The keys whose labels contain a selector that is not empty; those with equal labels follow each other.

        Costs what it returns, plus the label sets that have the selector's rarest pair.
        """
        pairs = self._by_pair.get(namespace, {})
        candidates = min((pairs.get(pair, {}) for pair in selector), key=len, default={})
        return (key for labels in candidates if selector <= labels for key in self._keys[namespace][labels])
