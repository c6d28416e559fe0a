"""Workloads where they run: what documents say of them, with the addresses and the node of their placements.

A placement that comes, changes or goes edits its workload too, so that who follows the world need not know of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from peerauth.model.changes import Edit, ObjectRef
from peerauth.model.inventory import Workload, WorkloadKey
from peerauth.model.placement import Placement


class PlacedWorkloads:
    """The placements of a table's workloads. What `take` returns is what the table has to take."""

    def __init__(self, table: Mapping[WorkloadKey, Workload]) -> None:
        self.placements: dict[WorkloadKey, Placement] = {}
        self._table = table
        self._described: dict[WorkloadKey, Workload] = {}  # those with a placement, as their documents have them

    def take(self, edits: tuple[Edit, ...]) -> tuple[Edit, ...]:
        """The edits, those of workloads as placements have them, and those that follow from a placement's edit."""
        moved = [side.workload for edit in edits if isinstance(side := edit.after or edit.before, Placement)]
        if not moved and not self.placements:
            return edits
        described: dict[WorkloadKey, Workload | None] = {
            key: self._described.get(key) or self._table[key] for key in moved if key in self._table
        }
        others: list[Edit] = []
        for edit in edits:
            match edit:
                case Edit(_, _, Workload() as after):
                    described[after.key] = after
                case Edit(_, Workload() as before, None):
                    described[before.key] = None
                case _:
                    others.append(edit)
                    self._take_placement(edit)
        return (*others, *(edit for key, workload in described.items() for edit in self._placed(key, workload)))

    def _take_placement(self, edit: Edit) -> None:
        if isinstance(edit.after, Placement):
            self.placements[edit.after.workload] = edit.after
        elif isinstance(edit.before, Placement):
            del self.placements[edit.before.workload]

    def _placed(self, key: WorkloadKey, described: Workload | None) -> Iterator[Edit]:
        """What becomes of a workload that is described so now, or not at all."""
        self._described.pop(key, None)
        before, after, placement = self._table.get(key), described, self.placements.get(key)
        if described is not None and placement is not None:
            self._described[key] = described
            after = msgspec.structs.replace(described, addresses=placement.addresses, node=placement.node)
        if before != after:
            yield Edit(ObjectRef(key.kind, key.namespace, key.name), before, after)
