"""What the node's Envoy is told: pieces rendered once each, and pushed when their bytes are new.

It follows the control plane step by step: `take` notes what a step made stale, `serve` renders that and nothing else. A
policy's change costs its workload's piece, a workload of another node its identity's piece of the mesh listener,
whatever else the node or the mesh holds. Nothing is staged: clients speak HBONE to an ambient workload under every
mode, so no mode has to wait for them.
"""

from __future__ import annotations

from collections.abc import Mapping

from peerauth.dataplane.ambient.node import MeshListener, NodeWorkload, render_mesh, render_source, render_workload
from peerauth.dataplane.ambient.node_values import HbonePeer
from peerauth.dataplane.resources import CLUSTER, LISTENER, Resources
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.inventory import Service, Sidecar, Workload, WorkloadKey
from peerauth.model.mesh import Injector, MeshConfig
from peerauth.policy.decision import Dataplane, Decision
from peerauth.policy.mesh import Mesh, Step
from peerauth.policy.outbound import identity_of, takes_hbone
from peerauth.runtime.networks import Placed
from peerauth.xds.cache import ResourceCache
from peerauth.xds.wire import ProxyKey

Piece = WorkloadKey | SpiffeId | None
"""What a part of the configuration belongs to: a workload of the node, an identity of it, or (None) the mesh."""


class NodeConfiguration:
    """One node's resources in a cache. Synchronous; `workloads` is what the node serves now.

    `take` is a follower of the control plane that `mesh` belongs to, from before its first step.
    """

    def __init__(self, cache: ResourceCache, *, proxy: ProxyKey, mesh: Mesh) -> None:
        self._cache = cache
        self._proxy = proxy
        self._world = mesh.world
        self._decisions = mesh.decisions
        self._places: dict[WorkloadKey, Placed] = {}
        self._pieces: dict[Piece, Resources] = {}
        self._mesh = MeshListener()
        self._mesh_stale = True
        self._anew = False
        self._stale: set[WorkloadKey] = set()
        self._stale_peers: set[WorkloadKey] = set()
        self.workloads: dict[WorkloadKey, NodeWorkload] = {}

    def identities(self) -> frozenset[SpiffeId]:
        """The identities that the node needs certificates for: those of its own workloads."""
        return frozenset(workload.identity for workload in self.workloads.values())

    def take(self, step: Step) -> None:
        """Notes what a step made stale."""
        for change in step.decisions:
            self._stale.add(change.key)
            if _is_tunnelled_to(change.old) is not _is_tunnelled_to(change.new):
                self._stale_peers.add(change.key)
        for edit in step.edits:
            for side in (edit.before, edit.after):
                self._take(side)

    def serve(self, places: Mapping[WorkloadKey, Placed]) -> frozenset[str]:
        """Makes the node serve the ambient workloads that have a place; returns the names of what changed."""
        anew, self._anew = self._anew, False
        if anew:
            self._stale.update(places)
            self._stale_peers.update(self._world.workloads)
        if places != self._places:
            self._stale.update(key for key in {*places, *self._places} if places.get(key) != self._places.get(key))
            self._places = dict(places)
        before = self.identities()
        names = frozenset[str]()
        for key in sorted(self._stale):
            names |= self._renew(key, anew=anew)
        self._stale.clear()
        after = self.identities()
        for identity in before | after if anew else before ^ after:
            names |= self._put(identity, render_source(identity, mesh=self._world.mesh) if identity in after else {})
        return names | self._renew_mesh()

    def _take(self, side: object) -> None:
        match side:
            case Workload():
                self._stale.add(side.key)
                self._stale_peers.add(side.key)
            case Service():
                self._stale.update(key for key in self.workloads if key.namespace == side.meta.namespace)
            case Sidecar():
                self._stale.update(self.workloads)
            case MeshConfig() | Injector():
                self._anew = True
            case _:
                pass  # what else says anything about a workload says it through a decision

    def _renew(self, key: WorkloadKey, *, anew: bool) -> frozenset[str]:
        wanted = self._workload(key)
        if wanted == self.workloads.get(key) and not anew:
            return frozenset()
        if wanted is None:
            self.workloads.pop(key, None)
            return self._put(key, {})
        self.workloads[key] = wanted
        return self._put(key, render_workload(wanted, mesh=self._world.mesh))

    def _renew_mesh(self) -> frozenset[str]:
        """The mesh as the node's workloads may dial it, if there are any."""
        for key in self._stale_peers:
            self._mesh_stale |= self._mesh.put(key, self._peer(key))
        self._stale_peers.clear()
        if not self._mesh_stale or not self.workloads:
            return frozenset()
        self._mesh_stale = False
        return self._put(None, render_mesh(self._mesh))

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

    def _peer(self, key: WorkloadKey) -> HbonePeer | None:
        workload = self._world.workloads.get(key)
        if workload is None or not workload.addresses or not takes_hbone(self._decisions.decision(key)):
            return None
        return HbonePeer(identity_of(workload, mesh=self._world.mesh), workload.addresses)

    def _workload(self, key: WorkloadKey) -> NodeWorkload | None:
        """An ambient workload with its network namespace, or in explicit capture with its application's address."""
        place, workload = self._places.get(key), self._world.workloads.get(key)
        if place is None or workload is None:
            return None
        decision = self._decisions.decision(key)
        if decision.dataplane is not Dataplane.AMBIENT:
            return None
        return NodeWorkload(
            key,
            identity_of(workload, mesh=self._world.mesh),
            workload.addresses,
            decision,
            place.namespace,
            ports=tuple(sorted({port.number for port in self._world.declared_ports(workload)})),
            application=place.application,
        )


def _is_tunnelled_to(decision: Decision | None) -> bool:
    return decision is not None and takes_hbone(decision)
