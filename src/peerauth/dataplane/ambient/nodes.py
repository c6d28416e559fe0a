"""What the nodes' proxies are told, kept up to date step by step: a projection, made of pieces rendered once each.

A node serves the ambient workloads that are placed on it where its proxy captures their connections; one that has none
is told nothing. A policy's change costs its workload's piece, and a workload of another node nothing. Nothing is
staged: clients speak HBONE to an ambient workload under every mode, so no mode has to wait for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from peerauth.dataplane.ambient.node import NodeWorkload, render_shared, render_source, render_workload
from peerauth.dataplane.envoy.destinations import DestinationResources
from peerauth.dataplane.projection import Update, difference, spoken_of
from peerauth.dataplane.resources import Resources
from peerauth.dataplane.type_urls import TypeUrl
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.inventory import WorkloadKey
from peerauth.model.mesh import MeshConfig
from peerauth.model.placement import Captor
from peerauth.policy.decision import Dataplane
from peerauth.policy.mesh import Mesh, Step
from peerauth.policy.outbound import identity_of
from peerauth.policy.ranges import MeshRanges
from peerauth.policy.rollout import Orders
from peerauth.policy.strictness import ANOTHER_MESH, closed

Piece = WorkloadKey | SpiffeId | None
"""What a part of a node's configuration belongs to: a workload of it, an identity of it, or (None) all of them."""


class Nodes:
    """All nodes of one mesh, by name. `on_demand` is what their workloads dial."""

    def __init__(self, mesh: Mesh) -> None:
        self.visited = 0
        self.on_demand = DestinationResources(mesh, client=Dataplane.AMBIENT)
        self._mesh = mesh
        self._nodes: dict[str, _Node] = {}
        self._node_of: dict[WorkloadKey, str] = {}
        self._ranges = MeshRanges(mesh.world)
        self._stale: dict[WorkloadKey, bool] = {}  # True: whatever it is rendered from may be another
        self._touched: dict[str, bool] = {}  # the nodes of which something is to be told, likewise

    def workloads(self, node: str) -> tuple[WorkloadKey, ...]:
        """The workloads that a node's proxy serves, by name."""
        return tuple(sorted(self._nodes[node].workloads)) if node in self._nodes else ()

    def identities(self, node: str) -> frozenset[SpiffeId]:
        """The identities that a node's proxy needs certificates for: those of its own workloads."""
        return self._nodes[node].identities() if node in self._nodes else frozenset()

    def update(self, step: Step, orders: Orders) -> Iterator[tuple[str, Update | None]]:
        """What is new for each node's proxy, workload by workload."""
        anew, elsewhere = step.is_of_mesh, self._ranges.update(step.edits)
        self.visited = 0
        if anew:
            self._touched = dict.fromkeys(sorted(self._nodes), True)
        for key in sorted(set(self._spoken_of(step, anew=anew or elsewhere))):
            if key in self._node_of or self._is_placed(key):
                self.visited += 1
                self._stale[key] = anew or elsewhere or self._stale.get(key, False)
        return self._renewed()

    def _renewed(self) -> Iterator[tuple[str, Update | None]]:
        while self._touched or self._stale:
            while self._touched:
                name = next(iter(self._touched))
                yield name, self._taken(name, anew=self._touched.pop(name))
            if self._stale:
                key = next(iter(self._stale))
                self._touched = dict.fromkeys(self._renew(key, anew=self._stale.pop(key)), False)

    def _spoken_of(self, step: Step, *, anew: bool) -> Iterator[WorkloadKey]:
        if anew:
            yield from self._node_of
        yield from (change.key for change in step.decisions)
        for side in step.sides:
            yield from spoken_of(side, world=self._mesh.world)

    def _renew(self, key: WorkloadKey, *, anew: bool) -> list[str]:
        """Serves a workload as it is now, where it is now; returns the nodes that this touches."""
        wanted = self._workload(key)
        was, now = self._node_of.pop(key, None), self._mesh.world.placements[key].node if wanted else None
        if was is not None and was != now:
            self._nodes[was].drop(key)
        if wanted is not None and now is not None:
            self._node_of[key] = now
            node, mesh = self._nodes.setdefault(now, _Node()), self._mesh.world.mesh
            node.serve(wanted, mesh=mesh, ranges=self._ranges.ranges, anew=anew)
        return sorted({name for name in (was, now) if name is not None})

    def _taken(self, name: str, *, anew: bool) -> Update:
        """Completes a node's step with what its workloads share, and takes what is new."""
        node = self._nodes[name]
        node.share(mesh=self._mesh.world.mesh, anew=anew)
        if not node.workloads:
            del self._nodes[name]
        return node.taken()

    def _is_placed(self, key: WorkloadKey) -> bool:
        placement = self._mesh.world.placements.get(key)
        return placement is not None and placement.captor is Captor.NODE

    def _workload(self, key: WorkloadKey) -> NodeWorkload | None:
        """An ambient workload that is placed where the node's proxy captures its connections."""
        world = self._mesh.world
        workload = world.workloads.get(key)
        if workload is None or not self._is_placed(key):
            return None
        decision, placement = self._mesh.decisions.decision(key), world.placements[key]
        if decision.dataplane is not Dataplane.AMBIENT:
            return None
        return NodeWorkload(
            key,
            identity_of(workload, mesh=world.mesh),
            workload.addresses,
            decision,
            placement.network_namespace,
            ports=tuple(sorted({port.number for port in world.declared_ports(workload)})),
            application=placement.application,
        )


class _Node:
    """One node's pieces, and what has become of them since they were `taken` last."""

    def __init__(self) -> None:
        self.workloads: dict[WorkloadKey, NodeWorkload] = {}
        self._meshes: dict[WorkloadKey, MeshConfig] = {}  # that they were rendered with
        self._members: Counter[SpiffeId] = Counter()
        self._unshared: set[SpiffeId] = set()
        self._pieces: dict[Piece, Resources] = {}
        self._changed: dict[TypeUrl, dict[str, bytes | None]] = {}
        self._closes: list[str] = []

    def identities(self) -> frozenset[SpiffeId]:
        return frozenset(self._members)

    def serve(self, wanted: NodeWorkload, *, mesh: MeshConfig, ranges: tuple[str, ...], anew: bool) -> None:
        had = self.workloads.get(wanted.key)
        if had == wanted and not anew:
            return
        if had is not None:
            self._closes += closed(wanted.key, had.decision, wanted.decision)
            self._count(had.identity, -1)
            if self._meshes[wanted.key] != mesh:
                self._closes.append(ANOTHER_MESH)
        self.workloads[wanted.key], self._meshes[wanted.key] = wanted, mesh
        self._count(wanted.identity, 1)
        self._put(wanted.key, render_workload(wanted, mesh=mesh, ranges=ranges))

    def drop(self, key: WorkloadKey) -> None:
        had = self.workloads.pop(key)
        self._closes += closed(key, had.decision, None)
        self._count(had.identity, -1)
        del self._meshes[key]
        self._put(key, {})

    def share(self, *, mesh: MeshConfig, anew: bool) -> None:
        """What the workloads have in common: a piece for each identity of theirs, and one for all."""
        if anew:
            self._closes.append(ANOTHER_MESH)
            self._unshared.update(self._members)
        for identity in sorted(self._unshared):
            self._put(identity, render_source(identity, mesh=mesh) if identity in self._members else {})
        self._unshared.clear()
        if bool(self.workloads) is not (None in self._pieces):
            self._put(None, render_shared() if self.workloads else {})

    def taken(self) -> Update:
        news = Update(self._changed, tuple(self._closes))
        self._changed, self._closes = {}, []
        return news

    def _put(self, piece: Piece, resources: Resources) -> None:
        """Replaces one piece; what it does not have any more is gone."""
        for kind, bodies in difference(self._pieces.pop(piece, {}), resources).items():
            self._changed.setdefault(kind, {}).update(bodies)
        if resources:
            self._pieces[piece] = resources

    def _count(self, identity: SpiffeId, number: int) -> None:
        before = self._members[identity]
        self._members[identity] += number
        if not self._members[identity]:
            del self._members[identity]
        if not before or identity not in self._members:
            self._unshared.add(identity)
