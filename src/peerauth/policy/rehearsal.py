"""What a change would do, tried on a mesh of its own before it is done to the one that is served.

For sources that are read while others write them: what tightens can be taken from a document that may not be whole yet,
what loosens cannot. Synchronous and without I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from peerauth.model.changes import Edit, MeshObject, Reset
from peerauth.model.inventory import Namespace, Workload
from peerauth.model.mesh import DEFAULT_MESH, Injector, MeshConfig
from peerauth.policy.index import DecisionChange
from peerauth.policy.mesh import Mesh, Step
from peerauth.policy.strictness import loosens

_SOURCE = "rehearsal"


class Loosening(msgspec.Struct, frozen=True):
    """That a change loosens, and by which of its files: those that said or say something about what is loosened."""

    files: frozenset[str]


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

    def loosening(self, objects: tuple[MeshObject, ...]) -> Loosening | None:
        """Whether the mesh would be looser somewhere if it were these objects."""
        step = self._mesh.apply(Reset(_SOURCE, objects))
        self._mesh.apply(Reset(_SOURCE, self._objects))
        return loosening_of(step)


def loosening_of(step: Step) -> Loosening | None:
    """Whether a step loosens: a workload, or by an object that is gone or another mesh configuration, whatever was
    decided by those.
    """
    gone = [edit for edit in step.edits if _takes_back(edit)]
    looser = [change for change in step.decisions if loosens(change.old, change.new)]
    if not gone and not looser:
        return None
    return Loosening(frozenset([*(file for edit in gone for file in _files_of(edit)), *_speakers(looser, step.edits)]))


def _takes_back(edit: Edit) -> bool:
    if not isinstance(edit.after, MeshConfig):
        return edit.after is None
    before = edit.before if isinstance(edit.before, MeshConfig) else DEFAULT_MESH
    return msgspec.structs.replace(edit.after, origin=before.origin) != before


def _speakers(looser: Iterable[DecisionChange], edits: Iterable[Edit]) -> Iterator[str]:
    """The files that say something about workloads: them, their namespaces, and every policy that spoke or speaks."""
    keys, namespaces = set(), set()
    for change in looser:
        keys.add(change.key)
        namespaces.add(change.key.namespace)
        for decision in (change.old, change.new):
            for reason in decision.reasons if decision else ():
                yield reason.origin.file
    for edit in edits:
        for side in (edit.before, edit.after):
            is_workload = isinstance(side, Workload) and side.key in keys
            is_namespace = isinstance(side, Namespace) and side.meta.name in namespaces
            if is_workload or is_namespace or isinstance(side, MeshConfig | Injector):
                yield from _files_of(edit)


def _files_of(edit: Edit) -> Iterator[str]:
    for side in (edit.before, edit.after):
        if side is not None:
            yield side.origin.file if isinstance(side, MeshConfig | Injector) else side.meta.origin.file
