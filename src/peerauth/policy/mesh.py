"""The world and the decisions about it behind one door: changes go into both, and what they did comes out.

Synchronous and without I/O; one owner applies changes. `world` and `decisions` are for reading.
"""

from __future__ import annotations

import msgspec

from peerauth.model.changes import Edit
from peerauth.model.world import Change, World
from peerauth.policy.index import DecisionChange, PolicyIndex


class Step(msgspec.Struct, frozen=True):
    """What changes taken as one did: objects that are others now, and workloads whose decision is another."""

    edits: tuple[Edit, ...] = ()
    decisions: tuple[DecisionChange, ...] = ()


class Mesh:
    """One mesh: what sources say of it, and what is decided."""

    def __init__(self) -> None:
        self.world = World()
        self.decisions = PolicyIndex()

    def apply(self, *changes: Change) -> Step:
        """Takes changes in, as one: nobody sees what is between them."""
        edits = self.world.apply(*changes)
        return Step(edits, self.decisions.update(edits))
