"""Everything the mesh's ztunnels are told, kept up to date step by step: a projection.

All ztunnels are told the same. Each needs all addresses to reach them; each gets all policies too, because which
workloads are its own is decided by its own settings, and a policy that it lacked would be an open door.

Invariants: every policy that an address names is among `policies`; a workload names its class' policy and no other,
also when that is PERMISSIVE. Which of the two goes out first is the discovery session's business. Workloads that left
their class while they ran are remembered until they go (`relabelled_policy`); a new process does not know them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from peerauth.dataplane.ambient.address import (
    Backend,
    ClusterNames,
    literals,
    service_address,
    service_name,
    workload_address,
    workload_name,
)
from peerauth.dataplane.ambient.authorization import (
    class_policy,
    policy_name_of,
    relabelled_name,
    relabelled_policy,
)
from peerauth.dataplane.ambient.lookup import NOWHERE, FoundBy, Lookup
from peerauth.dataplane.projection import Update
from peerauth.dataplane.type_urls import ADDRESS, AUTHORIZATION
from peerauth.model.addresses import canonical
from peerauth.model.changes import Edit
from peerauth.model.inventory import EndpointSlice, Service, Workload, WorkloadKey
from peerauth.model.mesh import Injector, MeshConfig
from peerauth.model.tables import Name, name_of
from peerauth.model.world import target_number
from peerauth.policy.decision import Dataplane
from peerauth.policy.index import DecisionChange
from peerauth.policy.mesh import Mesh, Step
from peerauth.policy.rollout import Orders
from peerauth.policy.strictness import closed_by

EVERY_ZTUNNEL = "all ztunnels"
"""Who reads what is published: there is one group."""


class _Stale(msgspec.Struct):
    """What is stale; ordered, so that equal histories give equal output."""

    workloads: dict[WorkloadKey, None] = {}
    services: dict[Name, None] = {}
    policies: dict[str, None] = {}
    relabelled: dict[str, None] = {}


class ZtunnelResources:
    """All resources of one mesh's ztunnels. Call `update` with every step that the mesh has taken.

    `policies` and `addresses` are name to serialized resource, for reading like `lookup`.
    """

    def __init__(self, mesh: Mesh, *, cluster: ClusterNames) -> None:
        self.visited = 0
        self.policies: dict[str, bytes] = {}
        self.addresses: dict[str, bytes] = {}
        self.lookup = Lookup()
        self._keys: dict[str, WorkloadKey] = {}
        self._world = mesh.world
        self._decisions = mesh.decisions
        self._cluster = cluster
        self._policy_of: dict[WorkloadKey, str] = {}
        self._members: dict[str, dict[WorkloadKey, None]] = {}
        self._relabelled: dict[str, dict[WorkloadKey, None]] = {}

    def update(self, step: Step, orders: Orders) -> Iterator[tuple[str, Update]]:
        """What is new for all ztunnels. Nothing is staged: clients tunnel to an ambient workload under every mode."""
        stale = _Stale()
        for change in step.decisions:
            self._take_decision(change, stale)
        for edit in step.edits:
            self._take(edit, stale)
        before_policies, before_addresses = dict[str, bytes | None](), dict[str, bytes | None]()
        for key in stale.workloads:
            self._enrol(key, stale)
        for name in stale.policies:
            before_policies[name] = self.policies.get(name)
            _put(self.policies, name, self._class_policy(name))
        for namespace in stale.relabelled:
            name = relabelled_name(namespace)
            before_policies[name] = self.policies.get(name)
            _put(self.policies, name, self._relabelled_policy(namespace))
        for key in stale.workloads:
            name = workload_name(key, cluster=self._cluster)
            before_addresses[name] = self.addresses.get(name)
            self._describe_workload(key, name)
        for service in stale.services:
            name = service_name(service, cluster=self._cluster)
            before_addresses[name] = self.addresses.get(name)
            self._describe_service(service, name)
        self.visited = len(stale.workloads) + len(stale.services) + len(stale.policies) + len(stale.relabelled)
        changed = {
            AUTHORIZATION: _news(before_policies, self.policies),
            ADDRESS: _news(before_addresses, self.addresses),
        }
        if not any(changed.values()):
            return iter(())
        return iter([(EVERY_ZTUNNEL, Update(changed, tuple(closed_by(step.decisions, on=Dataplane.AMBIENT))))])

    def workloads_on(self, node: str) -> tuple[WorkloadKey, ...]:
        """The workloads of a node, whatever their data plane."""
        return tuple(self._keys[name] for name in sorted(self.lookup.on_node(node)))

    # --- what an edit makes stale ------------------------------------------------------------------------------------

    def _take_decision(self, change: DecisionChange, stale: _Stale) -> None:
        """A decision reaches ztunnel through the class' policy alone; the addresses stay what they are."""
        policy = self._policy_of.get(change.key)
        if policy is None or change.new is None or change.new.dataplane is not Dataplane.AMBIENT:
            stale.workloads[change.key] = None
            return
        stale.policies[policy] = None
        if change.key in self._relabelled.get(change.key.namespace, ()):
            stale.relabelled[change.key.namespace] = None

    def _take(self, edit: Edit, stale: _Stale) -> None:
        for side in (edit.before, edit.after):
            match side:
                case Workload():
                    stale.workloads[side.key] = None
                case Service():
                    stale.services[name_of(side)] = None
                    stale.workloads.update(dict.fromkeys(self._behind(side)))
                case EndpointSlice():
                    stale.workloads.update(dict.fromkeys(self._listed(side)))
                case MeshConfig() | Injector():
                    stale.workloads.update(dict.fromkeys(self._world.workloads))
                case _:
                    pass

    def _behind(self, service: Service) -> Iterator[WorkloadKey]:
        yield from (workload.key for workload in self._world.workloads_selected_by(service))
        for slice_ in self._world.slices_of(name_of(service)):
            yield from self._listed(slice_)

    def _listed(self, slice_: EndpointSlice) -> Iterator[WorkloadKey]:
        for address in map(canonical, slice_.addresses):
            keys = (workload.key for workload in self._world.workloads_at(address))
            yield from (key for key in keys if key.namespace == slice_.meta.namespace)

    # --- policies ----------------------------------------------------------------------------------------------------

    def _enrol(self, key: WorkloadKey, stale: _Stale) -> None:
        """Puts a workload into the class that it is of now, and out of the one it was of."""
        workload = self._world.workloads.get(key)
        ambient = workload is not None and self._decisions.decision(key).dataplane is Dataplane.AMBIENT
        old = self._policy_of.pop(key, None)
        new = policy_name_of(workload) if workload is not None and ambient else None
        if old is not None:
            del self._members[old][key]
            stale.policies[old] = None
        if new is not None:
            self._policy_of[key] = new
            self._members.setdefault(new, {})[key] = None
            stale.policies[new] = None
        relabelled = self._relabelled.setdefault(key.namespace, {})
        if old is not None and new is not None and old != new:
            relabelled[key] = None
        if key in relabelled:
            stale.relabelled[key.namespace] = None
            if new is None:
                del relabelled[key]

    def _class_policy(self, name: str) -> bytes | None:
        members = self._members.get(name)
        if not members:
            self._members.pop(name, None)
            return None
        return class_policy(name, self._decisions.decision(next(iter(members))))

    def _relabelled_policy(self, namespace: str) -> bytes | None:
        relabelled = self._relabelled[namespace]
        if not relabelled:
            return None
        return relabelled_policy(
            namespace, ((self._world.workloads[key], self._decisions.decision(key)) for key in relabelled)
        )

    # --- addresses ---------------------------------------------------------------------------------------------------

    def _describe_workload(self, key: WorkloadKey, name: str) -> None:
        workload = self._world.workloads.get(key)
        if workload is None:
            self.addresses.pop(name, None)
            self._keys.pop(name, None)
            self.lookup.put(name, NOWHERE)
            return
        self._keys[name] = key
        backends = tuple(self._backends(workload))
        policy = self._policy_of.get(key)
        self.addresses[name] = workload_address(
            workload,
            dataplane=self._decisions.decision(key).dataplane,
            policies=(policy,) if policy else (),
            backends=backends,
            mesh=self._world.mesh,
            cluster=self._cluster,
        )
        services = frozenset(service_name(name_of(each.service), cluster=self._cluster) for each in backends)
        aliases = tuple(map(self._cluster.alias, literals(workload.addresses)))
        self.lookup.put(name, FoundBy(aliases, services, workload.node))

    def _describe_service(self, of: Name, name: str) -> None:
        service = self._world.services.get(of)
        _put(self.addresses, name, None if service is None else service_address(service, cluster=self._cluster))
        addresses = literals(service.cluster_ips) if service else ()
        self.lookup.put(name, FoundBy(tuple(map(self._cluster.alias, addresses))))

    def _backends(self, workload: Workload) -> Iterator[Backend]:
        """The services that lead to a workload, by its labels or by listing one of its addresses."""
        for service in self._world.services_selecting(workload):
            ports = [(port, target_number(port, workload)) for port in service.ports if port.protocol == "TCP"]
            yield Backend(service, tuple((port, target) for port, target in ports if target is not None))
        own = set(map(canonical, workload.addresses)) - {""}
        for slice_ in self._world.endpoint_slices.in_namespace(workload.meta.namespace).values():
            listing = self._world.services.get(Name(slice_.meta.namespace, slice_.service))
            if listing is not None and not listing.selector and own.intersection(map(canonical, slice_.addresses)):
                targets = {port.name: port.number for port in slice_.ports}
                named = ((port, targets.get(port.name)) for port in listing.ports if port.protocol == "TCP")
                yield Backend(listing, tuple((port, target) for port, target in named if target is not None))


def _put(resources: dict[str, bytes], name: str, body: bytes | None) -> None:
    if body is None:
        resources.pop(name, None)
    else:
        resources[name] = body


def _news(before: Mapping[str, bytes | None], now: Mapping[str, bytes]) -> dict[str, bytes | None]:
    return {name: now.get(name) for name, body in before.items() if now.get(name) != body}
