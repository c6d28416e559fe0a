"""What a change would do, tried on a mesh of its own before it is done to the one that is served.

For sources that are read while others write them: what tightens can be taken from a document that may not be whole yet,
what loosens cannot. Synchronous and without I/O.
"""

from __future__ import annotations

import msgspec

from peerauth.model.changes import Edit, MeshObject, Reset
from peerauth.model.mesh import DEFAULT_MESH, Injector, MeshConfig
from peerauth.policy.mesh import Mesh, Step
from peerauth.policy.strictness import loosens

_SOURCE = "rehearsal"


class Rehearsal:
    """The mesh as it is, as a list of objects, and whether another list would loosen it."""

    def __init__(self, objects: tuple[MeshObject, ...] = ()) -> None:
        self._mesh = Mesh()
        self._objects: tuple[MeshObject, ...] = ()
        self.take(objects)

    def take(self, objects: tuple[MeshObject, ...]) -> None:
        """These are the mesh from now on."""
        self._mesh.apply(Reset(_SOURCE, objects))
        self._objects = objects

    def would_loosen(self, objects: tuple[MeshObject, ...]) -> bool:
        """Whether the mesh would be looser somewhere if it were these objects."""
        step = self._mesh.apply(Reset(_SOURCE, objects))
        self._mesh.apply(Reset(_SOURCE, self._objects))
        return may_loosen(step)


def may_loosen(step: Step) -> bool:
    """Whether a step loosens: a workload, or by an object that is gone or another mesh configuration, whatever was
    decided by those.
    """
    return any(map(_takes_back, step.edits)) or any(loosens(change.old, change.new) for change in step.decisions)


def _takes_back(edit: Edit) -> bool:
    if not isinstance(edit.after, MeshConfig):
        return edit.after is None or isinstance(edit.after, Injector)
    before = edit.before if isinstance(edit.before, MeshConfig) else DEFAULT_MESH
    return msgspec.structs.replace(edit.after, origin=before.origin) != before
