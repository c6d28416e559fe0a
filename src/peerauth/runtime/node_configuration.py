"""What the node's Envoy is told: pieces rendered once each, and pushed when their bytes are new.

A policy's change costs its workload's piece, whatever else the node or the mesh holds. Nothing is staged: clients speak
HBONE to an ambient workload under every mode, so no mode has to wait for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from peerauth.dataplane.ambient.node import HbonePeer, NodeWorkload, render_mesh, render_source, render_workload
from peerauth.dataplane.resources import CLUSTER, LISTENER, Resources
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.inventory import WorkloadKey
from peerauth.model.mesh import DEFAULT_MESH, MeshConfig
from peerauth.model.world import World
from peerauth.policy.decision import Dataplane
from peerauth.policy.index import PolicyIndex
from peerauth.policy.outbound import identity_of
from peerauth.xds.cache import ResourceCache
from peerauth.xds.wire import ProxyKey

Piece = WorkloadKey | SpiffeId | None
"""What a part of the configuration belongs to: a workload of the node, an identity of it, or (None) the mesh."""


class NodeConfiguration:
    """One node's resources in a cache. Synchronous; `workloads` is what the node serves now."""

    def __init__(self, cache: ResourceCache, *, proxy: ProxyKey) -> None:
        self._cache = cache
        self._proxy = proxy
        self._mesh = DEFAULT_MESH
        self._peers: tuple[HbonePeer, ...] | None = None
        self._pieces: dict[Piece, Resources] = {}
        self.workloads: dict[WorkloadKey, NodeWorkload] = {}

    def identities(self) -> frozenset[SpiffeId]:
        """The identities that the node needs certificates for: those of its own workloads."""
        return frozenset(workload.identity for workload in self.workloads.values())

    def configure(
        self, workloads: Iterable[NodeWorkload], *, peers: tuple[HbonePeer, ...], mesh: MeshConfig
    ) -> frozenset[str]:
        """Makes the node be this; returns the names of the resources that changed."""
        wanted = {workload.key: workload for workload in workloads}
        anew, self._mesh = mesh != self._mesh, mesh
        before, old = self.identities(), self.workloads
        self.workloads = wanted
        after = self.identities()
        names = self._take_peers(peers)
        for identity in after if anew else after - before:
            names |= self._put(identity, render_source(identity, mesh=mesh))
        for key, workload in wanted.items():
            if anew or old.get(key) != workload:
                names |= self._put(key, render_workload(workload, mesh=mesh))
        gone: list[Piece] = [*(old.keys() - wanted.keys()), *(before - after)]
        for piece in gone:
            names |= self._put(piece, {})
        return names

    def _take_peers(self, peers: tuple[HbonePeer, ...]) -> frozenset[str]:
        if peers == self._peers:
            return frozenset()
        self._peers = peers
        return self._put(None, render_mesh(peers))

    def _put(self, piece: Piece, resources: Resources) -> frozenset[str]:
        """Replaces one part; what it does not have any more is removed."""
        old = self._pieces.get(piece, {})
        changed: frozenset[str] = frozenset()
        for kind in (CLUSTER, LISTENER):
            bodies: Mapping[str, bytes] = resources.get(kind, {})
            gone = old.get(kind, {}).keys() - bodies.keys()
            if bodies or gone:
                changed |= self._cache.update(self._proxy, kind, bodies, removed=gone)
        if resources:
            self._pieces[piece] = resources
        else:
            self._pieces.pop(piece, None)
        return changed


def peers_of(world: World, decisions: PolicyIndex) -> tuple[HbonePeer, ...]:
    """Every workload of the mesh: the ambient ones, and those whose sidecar terminates HBONE, which all do."""
    return tuple(
        sorted(
            HbonePeer(identity_of(workload, mesh=world.mesh), workload.addresses)
            for key, workload in world.workloads.items()
            if workload.addresses and decisions.decision(key).dataplane is not Dataplane.NONE
        )
    )


def node_workload(
    key: WorkloadKey, *, namespace: str, application: str, world: World, decisions: PolicyIndex
) -> NodeWorkload:
    """One ambient workload with its network namespace, or in explicit capture with its application's address."""
    workload = world.workloads[key]
    return NodeWorkload(
        key,
        identity_of(workload, mesh=world.mesh),
        workload.addresses,
        decisions.decision(key),
        namespace,
        ports=tuple(sorted({port.number for port in world.declared_ports(workload)})),
        application=application,
    )
