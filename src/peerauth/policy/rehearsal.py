"""What a change would do, tried on a mesh of its own before it is done to the one that is served.

For sources that are read while others write them: what tightens can be taken from a document that may not be whole yet,
what loosens cannot. Synchronous and without I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from peerauth.model.changes import Edit, Reset
from peerauth.model.inventory import Namespace, Workload
from peerauth.model.mesh import DEFAULT_MESH, Injector, MeshConfig
from peerauth.model.world import World
from peerauth.policy.index import DecisionChange
from peerauth.policy.mesh import Mesh, Step
from peerauth.policy.strictness import loosens


class Loosening(msgspec.Struct, frozen=True):
    """That a change loosens, and by which of its files: those that said or say something about what is loosened."""

    files: frozenset[str]


class Rehearsal:
    """The mesh as its sources say it is, and what it would be. A trial costs what its changes say."""

    def __init__(self) -> None:
        self._mesh = Mesh()
        self._said: dict[str, Reset] = {}

    @property
    def world(self) -> World:
        """The world as it is; within a trial, as it would be."""
        return self._mesh.world

    def take(self, changes: Sequence[Reset]) -> None:
        """The mesh is changed from now on."""
        self._mesh.apply(*changes)
        for change in changes:
            self._said.pop(change.source, None)
            if change.objects:
                self._said[change.source] = change

    @contextmanager
    def trial(self, changes: Sequence[Reset]) -> Iterator[Step]:
        """The mesh is changed until the end of the block."""
        step = self._mesh.apply(*changes)
        try:
            yield step
        finally:
            self._mesh.apply(*(self._said.get(change.source, Reset(change.source)) for change in changes))


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
        match side:
            case MeshConfig() | Injector():
                yield side.origin.file
            case Workload() | Namespace():
                yield side.meta.origin.file
