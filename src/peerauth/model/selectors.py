"""Finding the selectors that match a set of labels without trying each of them.

A selector matches labels that contain all its pairs, so it suffices to file it under one of its pairs (its anchor) and
to look under each pair of the labels. Selectors act within a namespace, which is part of the key.
"""

from __future__ import annotations

from collections.abc import Hashable
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
