"""The world and the decisions about it behind one door: changes go into both, and what they did comes out.

Synchronous and without I/O; one owner applies changes. `world` and `decisions` are for reading.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from peerauth.model.changes import Edit, MeshObject
from peerauth.model.mesh import Injector, MeshConfig
from peerauth.model.world import Change, World
from peerauth.policy.index import DecisionChange, PolicyIndex


class Step(msgspec.Struct, frozen=True):
    """What changes taken as one did: objects that are others now, and workloads whose decision is another."""

    edits: tuple[Edit, ...] = ()
    decisions: tuple[DecisionChange, ...] = ()

    @property
    def sides(self) -> Iterator[MeshObject]:
        """Every object that is another now, as it was and as it is."""
        return (side for edit in self.edits for side in (edit.before, edit.after) if side is not None)

    @property
    def is_of_mesh(self) -> bool:
        """Whether the mesh configuration, on which everything depends, may be another one now."""
        return any(isinstance(side, MeshConfig | Injector) for side in self.sides)


class Mesh:
    """One mesh: what sources say of it, and what is decided."""

    def __init__(self) -> None:
        self.world = World()
        self.decisions = PolicyIndex()

    def apply(self, *changes: Change) -> Step:
        """Takes changes in, as one: nobody sees what is between them."""
        edits = self.world.apply(*changes)
        return Step(edits, self.decisions.update(edits))
