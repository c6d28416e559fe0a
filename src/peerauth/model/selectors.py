"""Finding the selectors that match a set of labels without trying each of them.

A selector matches labels that contain all its pairs, so it suffices to file it under one of its pairs (its anchor) and
to look under each pair of the labels. Selectors act within a namespace, which is part of the key.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from peerauth.model.meta import Labels

K = TypeVar("K", bound=Hashable)
_Anchor = tuple[str, tuple[str, str]]


class SelectorIndex(Generic[K]):
    """Keys filed under a namespace and a non-empty selector.

    `matching` costs the pairs of the labels plus the selectors that share an anchor with them.
    """

    def __init__(self) -> None:
        self._filed: dict[_Anchor, dict[K, Labels]] = {}

    def add(self, key: K, *, namespace: str, selector: Labels) -> None:
        """Files a key; the anchor is the pair that the fewest others are filed under."""
        anchors = sorted((namespace, pair) for pair in selector)
        anchor = min(anchors, key=lambda place: len(self._filed.get(place, ())))
        self._filed.setdefault(anchor, {})[key] = selector

    def remove(self, key: K, *, namespace: str, selector: Labels) -> None:
        """Takes a key out that was filed with this namespace and selector."""
        for pair in selector:
            filed = self._filed.get((namespace, pair), {})
            if filed.pop(key, None) is not None:
                if not filed:
                    del self._filed[namespace, pair]
                return

    def matching(self, labels: Labels, *, namespace: str) -> Iterator[K]:
        """Every key whose selector the labels contain, in no particular order."""
        filed = self._filed
        for pair in labels:
            for key, selector in filed.get((namespace, pair), {}).items():
                if selector <= labels:
                    yield key
