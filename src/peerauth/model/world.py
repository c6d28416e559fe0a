"""The world as all sources together describe it, kept up to date change by change, with the look-ups others need.

`World` holds values and answers questions about them: it decides nothing about policies (that is `policy/`), reads no
files and no clock. It is synchronous and not thread-safe: one owner applies changes. Every look-up costs what it
returns, not what the world holds; every returned order is deterministic.
Source for Sidecar precedence and ingress: Istio's Sidecar reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import msgspec

from peerauth.model.changes import (
    MESH_REF,
    Change,
    Delete,
    Edit,
    Ledger,
    MeshObject,
    ObjectRef,
    Reset,
    Upsert,
    ref_of,
)
from peerauth.model.inventory import (
    MACHINE_KINDS,
    ApiServerTarget,
    DestinationRule,
    EndpointSlice,
    Namespace,
    Node,
    PassedOver,
    Service,
    ServiceAccount,
    ServiceCIDR,
    ServicePort,
    Sidecar,
    Workload,
    WorkloadKey,
)
from peerauth.model.lookups import Lookups
from peerauth.model.mesh import DEFAULT_MESH, Injector, MeshConfig, Meshes
from peerauth.model.meta import Origin, age_of
from peerauth.model.peerauth import PeerAuthentication
from peerauth.model.placed import PlacedWorkloads
from peerauth.model.placement import Placement
from peerauth.model.selectors import SelectorIndex
from peerauth.model.tables import Name, Table, name_of

__all__ = [
    "MESH_REF",
    "Change",
    "DeclaredPort",
    "Delete",
    "Edit",
    "MeshObject",
    "Name",
    "ObjectRef",
    "Reset",
    "Upsert",
    "World",
    "ref_of",
    "target_number",
]


class DeclaredPort(msgspec.Struct, frozen=True, order=True, gc=False):
    """A TCP port that a workload says it listens on, and who says so: its own ports, Services, a Sidecar.

    `endpoint` is the Sidecar's `ingress[].defaultEndpoint`: where the application really listens. Empty is the
    workload's own address and the same port.
    """

    number: int
    endpoint: str = ""
    origins: tuple[Origin, ...] = ()


class World:
    """Everything known. The tables are read-only to everyone but `apply`.

    `mesh` is the configuration of the default revision among `meshes`: a mesh that is run here has one.
    Whose word stands when two sources speak of one object is said in `changes`. `workloads` have the node and the
    addresses of their placements, where there is one; what their documents say of these counts for nothing then.
    """

    def __init__(self) -> None:
        self.meshes = Meshes()
        self.mesh: MeshConfig = DEFAULT_MESH
        self.namespaces: dict[str, Namespace] = {}
        self.workloads: Table[WorkloadKey, Workload] = Table(Workload, lambda workload: workload.key)
        self.policies: Table[Name, PeerAuthentication] = Table(PeerAuthentication, name_of)
        self.services: Table[Name, Service] = Table(Service, name_of)
        self.service_accounts: Table[Name, ServiceAccount] = Table(ServiceAccount, name_of)
        self.endpoint_slices: Table[Name, EndpointSlice] = Table(EndpointSlice, name_of)
        self.nodes: Table[Name, Node] = Table(Node, name_of)
        self.service_cidrs: Table[Name, ServiceCIDR] = Table(ServiceCIDR, name_of)
        self.sidecars: Table[Name, Sidecar] = Table(Sidecar, name_of)
        self.destination_rules: Table[Name, DestinationRule] = Table(DestinationRule, name_of)
        self.api_targets: Table[ObjectRef, ApiServerTarget] = Table(ApiServerTarget, ref_of)
        self.passed_over: Table[ObjectRef, PassedOver] = Table(PassedOver, ref_of)
        self._ledger = Ledger()
        self._placed = PlacedWorkloads(self.workloads)
        self.placements: Mapping[WorkloadKey, Placement] = self._placed.placements
        self._selecting: dict[type[MeshObject], SelectorIndex[Name]] = {
            Service: SelectorIndex(),
            Sidecar: SelectorIndex(),
        }
        self._lookups = Lookups(self.workloads)
        self._services_by_name: dict[tuple[Name, ...], tuple[Service, ...]] = {}  # what was asked for since a change
        self._broad_sidecars: Table[Name, Sidecar] = Table(Sidecar, name_of)
        self._tables: dict[type[MeshObject], _Shelf] = {
            Workload: self.workloads,
            PeerAuthentication: self.policies,
            Service: self.services,
            ServiceAccount: self.service_accounts,
            EndpointSlice: self.endpoint_slices,
            Node: self.nodes,
            ServiceCIDR: self.service_cidrs,
            Sidecar: self.sidecars,
            DestinationRule: self.destination_rules,
            ApiServerTarget: self.api_targets,
            PassedOver: self.passed_over,
        }

    def apply(self, *changes: Change) -> tuple[Edit, ...]:
        """Takes changes in, as one; returns what they really changed, for those who keep something derived from it."""
        edits = self._placed.take(self._ledger.apply(*changes))
        self._services_by_name = {}
        for edit in edits:
            if edit.before is not None:
                self._remove(edit.before)
            if edit.after is not None:
                self._add(edit.after)
        return edits

    def services_selecting(self, workload: Workload) -> tuple[Service, ...]:
        """The Services of the workload's namespace whose selector its labels contain, by name."""
        namespace = workload.meta.namespace
        names = tuple(self._selecting[Service].matching(workload.meta.labels, namespace=namespace))
        found = self._services_by_name.get(names)
        if found is None:
            services = self.services.in_namespace(namespace)
            found = self._services_by_name[names] = tuple([services[name] for name in sorted(names)])
        return found

    def workloads_at(self, address: str) -> tuple[Workload, ...]:
        """The workloads that have an address, which is canonical: more than one where they use their host's network."""
        return self._lookups.workloads.at(address)

    def workloads_selected_by(self, selecting: Service | Sidecar) -> Iterator[Workload]:
        """The workloads of an object's namespace whose labels contain its selector; none if it has no selector."""
        return self._lookups.workloads.selected(selecting.selector, namespace=selecting.meta.namespace)

    def service_at(self, address: str) -> Service | None:
        """The Service that has a virtual address, which is canonical; the oldest of several that claim it."""
        claimed = [self.services[name] for name in self._lookups.services_at(address)]
        return min(claimed, key=lambda service: age_of(service.meta), default=None)

    def slices_of(self, service: Name) -> tuple[EndpointSlice, ...]:
        """The EndpointSlices of a Service, by name."""
        return tuple([self.endpoint_slices[name] for name in sorted(self._lookups.slices_of(service))])

    def sidecar_of(self, workload: Workload) -> Sidecar | None:
        """The Sidecar resource that applies: one that selects the workload, else its namespace's, else the root's.

        Of several at one level the oldest.
        """
        if not self.sidecars:
            return None
        namespace = workload.meta.namespace
        names = self._selecting[Sidecar].matching(workload.meta.labels, namespace=namespace)
        levels = (
            [self.sidecars[name] for name in names],
            self._broad_sidecars.in_namespace(namespace).values(),
            self._broad_sidecars.in_namespace(self.mesh.root_namespace).values(),
        )
        return next((min(level, key=lambda sidecar: age_of(sidecar.meta)) for level in levels if level), None)

    def declared_ports(self, workload: Workload) -> tuple[DeclaredPort, ...]:
        """The TCP ports that someone says the workload listens on, ascending.

        They are its own, the target ports of Services that select it (names resolved; a name that no port has says
        nothing), and its Sidecar's ingress ports.
        """
        said: dict[int, list[Origin]] = {}
        endpoints: dict[int, str] = {}
        for own in workload.ports:
            said.setdefault(own.number, []).append(own.origin)
        for port in _tcp_ports(self.services_selecting(workload)):
            number = target_number(port, workload)
            if number is not None:
                said.setdefault(number, []).append(port.origin)
        sidecar = self.sidecar_of(workload)
        for listener in sidecar.ingress if sidecar else ():
            said.setdefault(listener.port, []).append(listener.origin)
            endpoints[listener.port] = listener.default_endpoint
        return tuple([DeclaredPort(number, endpoints.get(number, ""), tuple(said[number])) for number in sorted(said)])

    def declared_numbers(self, workload: Workload, services: Iterable[Service]) -> tuple[int, ...]:
        """The numbers of the declared ports alone; `services` are those that select the workload."""
        numbers = {port.number for port in workload.ports}
        # Mostly one target, however many Services there are; for a machine the name of the port counts as well.
        leading = {
            (port.target, port.name if workload.kind in MACHINE_KINDS else ""): port for port in _tcp_ports(services)
        }
        for port in leading.values():
            number = target_number(port, workload)
            if number is not None:
                numbers.add(number)
        sidecar = self.sidecar_of(workload)
        numbers.update([listener.port for listener in sidecar.ingress] if sidecar else ())
        return tuple(sorted(numbers))

    def _take_meshes(self, meshes: Meshes) -> None:
        self.meshes, self.mesh = meshes, meshes.of(meshes.default)

    def _add(self, obj: MeshObject) -> None:
        table = self._tables.get(type(obj))
        if table is not None:
            table.put(obj)
        match obj:
            case Service() | Sidecar() if obj.selector:
                self._selecting[type(obj)].add(name_of(obj), namespace=obj.meta.namespace, selector=obj.selector)
            case Sidecar():
                self._broad_sidecars.put(obj)
            case MeshConfig() | Injector():
                self._take_meshes(self.meshes.having(obj))
            case Namespace():
                self.namespaces[obj.meta.name] = obj
        self._lookups.put(obj)

    def _remove(self, obj: MeshObject) -> None:
        match obj:
            case MeshConfig() | Injector():
                self._take_meshes(self.meshes.without(obj))
            case Namespace():
                del self.namespaces[obj.meta.name]
            case Placement():
                pass  # `_placed` has it
            case _:
                self._tables[type(obj)].drop(obj)
        if isinstance(obj, Service | Sidecar) and obj.selector:
            self._selecting[type(obj)].remove(name_of(obj), namespace=obj.meta.namespace, selector=obj.selector)
        elif isinstance(obj, Sidecar):
            self._broad_sidecars.drop(obj)
        self._lookups.drop(obj)


class _Shelf(Protocol):
    """A table of whatever kind."""

    def put(self, obj: object) -> None: ...
    def drop(self, obj: object) -> None: ...


def _tcp_ports(services: Iterable[Service]) -> list[ServicePort]:
    return [port for service in services for port in service.ports if port.protocol == "TCP"]


def target_number(port: ServicePort, workload: Workload) -> int | None:
    """The workload port that a Service's port leads to; None if it names a port the workload does not have.

    The ports of a machine have the names of Services' ports: they go before a number.
    """
    if isinstance(port.target, str):
        return _port_named(port.target, workload)
    mapped = _port_named(port.name, workload) if port.name and workload.kind in MACHINE_KINDS else None
    return port.target if mapped is None else mapped


def _port_named(name: str, workload: Workload) -> int | None:
    return next((own.number for own in workload.ports if own.name == name), None)
