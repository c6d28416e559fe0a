"""What stands after changes, by the ledger's rule: the objects that a world would hold."""

from __future__ import annotations

from collections.abc import Iterable

from peerauth.model.changes import Change, Ledger, MeshObject, ObjectRef, ref_of


class Standing:
    """Takes steps; each object stands once."""

    def __init__(self) -> None:
        self._ledger = Ledger()
        self.by_ref: dict[ObjectRef, MeshObject] = {}

    def take(self, changes: Iterable[Change]) -> int:
        """One step; returns how many objects it changed."""
        edits = self._ledger.apply(*changes)
        for edit in edits:
            self.by_ref.pop(edit.ref, None)
            if edit.after is not None:
                self.by_ref[edit.ref] = edit.after
        return len(edits)

    @property
    def objects(self) -> tuple[MeshObject, ...]:
        return tuple(self.by_ref.values())


def from_scratch(objects: Iterable[MeshObject]) -> dict[ObjectRef, MeshObject]:
    """What stands of objects that are read in this order: of two with one name the last."""
    return {ref_of(obj): obj for obj in objects}
