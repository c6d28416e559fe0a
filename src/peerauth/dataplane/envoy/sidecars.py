"""What the sidecars of a mesh are told, kept up to date step by step: a projection.

A sidecar is rendered for every workload that has been decided to have one, and has been placed where one captures its
connections. It is looked at again when a step says something of itself: what is in force, its own documents, its
placement, the mesh configuration, a Service or Sidecar that selects it; and of what its egress listeners lead to. Of
other workloads a sidecar in transparent capture is told what it asks for: see `on_demand`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from peerauth.dataplane.assembly import assemble, namespaces_dialled
from peerauth.dataplane.envoy.destinations import DestinationResources
from peerauth.dataplane.envoy.sidecar import Rendered, render_sidecar
from peerauth.dataplane.envoy.sidecar_values import SidecarWorkload
from peerauth.dataplane.projection import Update, difference, spoken_of
from peerauth.dataplane.resources import Resources
from peerauth.model.inventory import Service, Workload, WorkloadKey
from peerauth.model.placement import Captor
from peerauth.policy.decision import Dataplane
from peerauth.policy.mesh import Mesh, Step
from peerauth.policy.ranges import MeshRanges
from peerauth.policy.rollout import Orders, Rollout
from peerauth.policy.strictness import ANOTHER_MESH, closed


class Sidecars:
    """All sidecars of one mesh. `rendered` has what each was last rendered from, for reading.

    `on_demand` is what their workloads dial in transparent capture.
    """

    def __init__(self, mesh: Mesh, rollout: Rollout) -> None:
        self.visited = 0
        self.rendered: dict[WorkloadKey, SidecarWorkload] = {}
        self.on_demand = DestinationResources(mesh, client=Dataplane.SIDECAR)
        self._ranges = MeshRanges(mesh.world)
        self._mesh = mesh
        self._rollout = rollout
        self._resources: dict[WorkloadKey, Resources] = {}
        self._stale: dict[WorkloadKey, None] = {}
        self._dialled: dict[WorkloadKey, Collection[str]] = {}  # the namespaces that egress listeners lead into
        self._dialling: dict[str, dict[WorkloadKey, None]] = {}  # and the other way round

    def update(self, step: Step, orders: Orders) -> Iterator[tuple[WorkloadKey, Update | None]]:
        """What is new for each sidecar; None for one that there is no more."""
        self.visited = 0
        for key in sorted(set(self._spoken_of(step, orders))):
            if key in self._rollout.in_force or key in self.rendered:
                self.visited += 1
                self._stale[key] = None
        return self._renewed()

    def _renewed(self) -> Iterator[tuple[WorkloadKey, Update | None]]:
        while self._stale:
            key = next(iter(self._stale))
            del self._stale[key]
            yield key, self._renew(key)

    def _spoken_of(self, step: Step, orders: Orders) -> Iterator[WorkloadKey]:
        yield from orders.enforce
        elsewhere = self._ranges.update(step.edits)
        if step.is_of_mesh or elsewhere:
            yield from self._rollout.in_force
        for side in step.sides:
            yield from spoken_of(side, world=self._mesh.world)
            if isinstance(side, Service):
                yield from self._dialling_into(side.meta.namespace)
            elif isinstance(side, Workload):
                yield from self._dialling_to(side)
        for key in orders.announce:
            if (workload := self._mesh.world.workloads.get(key)) is not None:
                yield from self._dialling_to(workload)

    def _dialling_into(self, namespace: str) -> Iterator[WorkloadKey]:
        """Those with egress listeners for hosts of a namespace."""
        for where in (namespace, "*"):
            yield from self._dialling.get(where, ())

    def _dialling_to(self, workload: Workload) -> Iterator[WorkloadKey]:
        """Those with an egress listener for a Service that leads to a workload."""
        if not self._dialling:
            return
        names = {service.meta.full_name for service in self._mesh.world.services_selecting(workload)}
        for key in self._dialling_into(workload.meta.namespace) if names else ():
            if any(listener.name in names for listener in self.rendered[key].egress):
                yield key

    def _renew(self, key: WorkloadKey) -> Update | None:
        had, wanted = self.rendered.get(key), self._assembled(key)
        self._file(key, namespaces_dialled(self._mesh.world.workloads[key], world=self._mesh.world) if wanted else ())
        if had == wanted:
            return Update()
        if wanted is None:
            del self.rendered[key], self._resources[key]
            return None
        old = self._resources.get(key, {})
        new = render_sidecar(wanted, had=None if had is None else Rendered(had, old))
        self.rendered[key], self._resources[key] = wanted, new
        return Update(new) if had is None else Update(difference(old, new), _closed(had, wanted))

    def _assembled(self, key: WorkloadKey) -> SidecarWorkload | None:
        world, decision = self._mesh.world, self._rollout.in_force.get(key)
        placement = world.placements.get(key)
        if decision is None or placement is None or placement.captor is not Captor.SIDECAR:
            return None
        peers, ranges = self._rollout.announced, self._ranges.ranges
        return assemble(world.workloads[key], placement, world=world, decision=decision, peers=peers, ranges=ranges)

    def _file(self, key: WorkloadKey, dialled: Collection[str]) -> None:
        """Notes into which namespaces a sidecar's egress listeners lead."""
        before = self._dialled.pop(key, ())
        if dialled:
            self._dialled[key] = dialled
        for where in {*before} - {*dialled}:
            del self._dialling[where][key]
            if not self._dialling[where]:
                del self._dialling[where]
        for where in dialled:
            self._dialling.setdefault(where, {})[key] = None


def _closed(had: SidecarWorkload, wanted: SidecarWorkload) -> tuple[str, ...]:
    """What a sidecar lets in by the one configuration and may not by the other, in sentences."""
    changes = closed(wanted.key, had.decision, wanted.decision)
    return changes if had.mesh == wanted.mesh else (*changes, f"{wanted.key}: {ANOTHER_MESH}")
