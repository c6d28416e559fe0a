"""What must hold of two readings of one document: every value stands at the same place by both."""

from __future__ import annotations

from peerauth.model.schema import Path, Place


def same_places(value: object, path: Path, one: Place, other: Place) -> None:
    assert one.value(path) == other.value(path), path
    assert one.key(path) == other.key(path), path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, child in children:
        same_places(child, (*path, step), one, other)
