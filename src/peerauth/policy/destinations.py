"""What is at an address and port for a client: a workload, a Service's endpoints, something outside the mesh, nothing.

Pure. Each endpoint is spoken to by what was announced of its own workload on its own port, whatever name or address led
there. Where something is known to be and cannot be spoken to (yet), there is nothing: a client that is told nothing
waits and is closed, it does not fall back to plaintext.
Sources: Kubernetes' reference of Service and EndpointSlice, and how kube-proxy reads them (a Service's port leads to
the port of that name; a virtual address to endpoints of its own family); Istio's `outboundTrafficPolicy`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from peerauth.model.addresses import canonical, literals
from peerauth.model.changes import Edit, MeshObject
from peerauth.model.inventory import (
    MACHINE_KINDS,
    EndpointSlice,
    Service,
    ServicePort,
    SliceEndpoint,
    Workload,
    WorkloadKey,
)
from peerauth.model.mesh import Injector, MeshConfig, OutboundTraffic
from peerauth.model.placement import Placement
from peerauth.model.tables import Name, name_of
from peerauth.model.world import World, target_number
from peerauth.policy.announced import AnnouncedPeers, DestinationEndpoint
from peerauth.policy.outbound import OutboundPeer, Transport
from peerauth.policy.shards import MOST_ENDPOINTS, Shard, Sharded

_Spot = tuple[str, int]
"""A canonical address and a port."""


class Asked(NamedTuple):
    """What a client asks for: an address and port, and the label of a piece of the Service there if it means one."""

    address: str
    port: int
    shard: str = ""


class Destination(msgspec.Struct, frozen=True):
    """What is at an address and port. `endpoints` ascend by address and port, each once.

    `balanced` is a Service, whose endpoints come and go: it may have none, and is closed then. Anything else is one.
    Of a Service with more endpoints than a client should hear of at once there are `shards` instead: each is a
    destination of its own, with its share of the connections.
    """

    endpoints: tuple[DestinationEndpoint, ...]
    balanced: bool = False
    shards: tuple[Shard, ...] = ()


_Listed = str | WorkloadKey
"""What an EndpointSlice lists: canonical addresses, and pods by name."""


class _Step(msgspec.Struct):
    """What a step touches: addresses, workloads, and addresses of Services that other endpoints may be listed for."""

    places: dict[str, None] = {}
    workloads: dict[WorkloadKey, None] = {}
    relisted: dict[str, None] = {}


class Destinations:
    """The destinations of clients of one kind (sidecars, nodes), and which of those asked for a step makes stale.

    `visited` counts the addresses that the last update looked at: the measure that cost follows the change.
    """

    def __init__(self, world: World) -> None:
        self.visited = 0
        self._world = world
        self._announced = AnnouncedPeers(world)
        self._outbound_traffic = world.mesh.outbound_traffic
        self._asked: dict[str, dict[Asked, None]] = {}  # by canonical address, as they were asked
        self._listed: dict[str, frozenset[_Listed]] = {}  # what EndpointSlices list behind an address that is asked for
        self._listing: dict[_Listed, dict[str, None]] = {}  # the same the other way round
        self._large: dict[str, dict[int, Sharded]] = {}  # what has been found behind an address that is asked for

    def ask(self, address: str, port: int, shard: str = "") -> None:
        """Someone wants to know from now on what is there."""
        place = canonical(address)
        self._asked.setdefault(place, {})[Asked(address, port, shard)] = None
        self._list(place)

    def forget(self, address: str, port: int, shard: str = "") -> None:
        """Nobody wants to know any longer."""
        place = canonical(address)
        asked = self._asked.get(place, {})
        asked.pop(Asked(address, port, shard), None)
        if not asked:
            self._asked.pop(place, None)
            self._list(place)
            self._large.pop(place, None)

    def at(self, address: str, port: int, shard: str = "") -> Destination | None:
        """What is there now, asked for or not; None is nothing. `shard` is the label of a piece of a Service."""
        place = canonical(address)
        if not place:
            return None
        if self._announced.knows(place):
            endpoint = self._announced.endpoint(place, port)
        else:
            service = self._world.service_at(place)
            slices = self._world.slices_of(name_of(service)) if service is not None else ()
            if service is not None and (service.selector or slices):
                behind = self._large.get(place, {}).get(port) or self._behind(service, slices, place, port)
                return None if behind is None else _balanced(behind, shard)
            passed = self._world.mesh.outbound_traffic is OutboundTraffic.ALLOW_ANY
            endpoint = DestinationEndpoint(place, port, Transport.PLAINTEXT) if passed else None
        return None if endpoint is None or shard else Destination((endpoint,))

    def update(self, edits: Iterable[Edit], peers: Mapping[WorkloadKey, OutboundPeer | None]) -> frozenset[Asked]:
        """Takes edits that the world has taken, and what clients are told anew of some workloads (None: nothing more).

        Returns what has been asked for, as it was, where something else may be now.
        """
        step = _Step()
        for edit in edits:
            for side in (edit.before, edit.after):
                self._reach(side, step)
        for key, peer in peers.items():
            for said in self._announced.announce(key, peer):
                step.workloads[key] = None
                _add(step.places, said.addresses)
                if (workload := self._world.workloads.get(key)) is not None:
                    self._reach_services(workload, step)
        for place in step.relisted:
            self._list(place)
        for touched in (tuple(step.places), step.workloads):
            for listed in touched:
                step.places.update(self._listing.get(listed, {}))
        for place in step.places:
            self._large.pop(place, None)
        self.visited = len(step.places)
        return frozenset(asked for place in step.places for asked in self._asked.get(place, ()))

    # --- what an edit makes stale ------------------------------------------------------------------------------------

    def _reach(self, side: MeshObject | None, step: _Step) -> None:
        match side:
            case Workload():
                self._announced.settle(side.key)
                step.workloads[side.key] = None
                _add(step.places, (*side.addresses, *self._announced.addresses(side.key)))
                self._reach_services(side, step)
            case Placement():
                step.workloads[side.workload] = None
            case Service():
                _add(step.places, side.cluster_ips)
                _add(step.relisted, side.cluster_ips)
            case EndpointSlice():
                service = self._world.services.get(Name(side.meta.namespace, side.service))
                _add(step.places, service.cluster_ips if service else ())
                _add(step.relisted, service.cluster_ips if service else ())
            case MeshConfig() | Injector() if self._outbound_traffic is not self._world.mesh.outbound_traffic:
                self._outbound_traffic = self._world.mesh.outbound_traffic
                step.places.update(dict.fromkeys(self._asked))
            case _:
                pass

    def _reach_services(self, workload: Workload, step: _Step) -> None:
        for service in self._world.services_selecting(workload) if self._asked else ():
            _add(step.places, service.cluster_ips)

    def _list(self, place: str) -> None:
        """Notes which addresses EndpointSlices list behind an address, if that is asked for."""
        service = self._world.service_at(place) if place in self._asked else None
        slices = self._world.slices_of(name_of(service)) if service else ()
        ready = [endpoint for slice_ in slices for endpoint in slice_.endpoints if endpoint.ready]
        addresses = (canonical(address) for endpoint in ready for address in endpoint.addresses)
        listed = frozenset[_Listed]([*addresses, *(endpoint.pod for endpoint in ready if endpoint.pod is not None)])
        before = self._listed.pop(place, frozenset[_Listed]())
        if listed:
            self._listed[place] = listed
        for each in before - listed:
            del self._listing[each][place]
            if not self._listing[each]:
                del self._listing[each]
        for each in listed - before:
            self._listing.setdefault(each, {})[place] = None

    # --- Services ----------------------------------------------------------------------------------------------------

    def _behind(self, service: Service, slices: tuple[EndpointSlice, ...], place: str, port: int) -> Sharded | None:
        """The endpoints behind a port of a Service; None if it has no such port."""
        leads = next((each for each in service.ports if each.number == port and each.protocol == "TCP"), None)
        if leads is None:
            return None
        named: dict[_Spot, list[WorkloadKey]] = {}
        for addresses, number, key in self._workloads_behind(service, slices, leads):
            for address in addresses:
                named.setdefault((canonical(address), number), []).append(key)
        found = {
            spot: endpoint
            for spot, keys in named.items()
            if (endpoint := self._announced.endpoint(*spot, among=keys)) is not None
        }
        for spot in _nameless(slices, leads):
            if spot not in named and (endpoint := self._somewhere(*spot)) is not None:
                found[spot] = endpoint
        behind = Sharded([end for (address, _), end in found.items() if (":" in address) is (":" in place)])
        if len(behind) > MOST_ENDPOINTS and place in self._asked:
            self._large.setdefault(place, {})[port] = behind  # its pieces are asked for one by one
        return behind

    def _workloads_behind(
        self, service: Service, slices: tuple[EndpointSlice, ...], leads: ServicePort
    ) -> Iterator[tuple[tuple[str, ...], int, WorkloadKey]]:
        """Where workloads are that the Service leads to: slices list pods, and no slice lists a machine."""
        for slice_ in slices:
            for number, endpoint in _ready(slice_, leads):
                if endpoint.pod is not None:
                    yield self._where(endpoint.pod, endpoint.addresses), number, endpoint.pod
        for workload in self._world.workloads_selected_by(service):
            if slices and workload.kind not in MACHINE_KINDS:
                continue
            target = target_number(leads, workload)
            takes_traffic = (workload.ready and not workload.terminating) or service.publish_not_ready
            if target is not None and takes_traffic:
                yield workload.addresses, target, workload.key

    def _where(self, pod: WorkloadKey, said: tuple[str, ...]) -> tuple[str, ...]:
        """Where a pod is that a slice lists: what documents say of addresses counts for nothing where it is placed."""
        workload = self._world.workloads.get(pod) if pod in self._world.placements else None
        return said if workload is None else workload.addresses

    def _somewhere(self, address: str, port: int) -> DestinationEndpoint | None:
        """An endpoint of which only the address is said: a workload's if any has it, else outside the mesh."""
        if self._announced.knows(address):
            return self._announced.endpoint(address, port)
        return DestinationEndpoint(address, port, Transport.PLAINTEXT)


def _balanced(behind: Sharded, label: str) -> Destination:
    endpoints, shards = behind.below(label)
    return Destination(endpoints, balanced=True, shards=shards)


def _ready(slice_: EndpointSlice, leads: ServicePort) -> Iterator[tuple[int, SliceEndpoint]]:
    """The endpoints that take traffic, with their number of a Service's port."""
    numbers = [port.number for port in slice_.ports if port.name == leads.name]
    return ((number, endpoint) for number in numbers for endpoint in slice_.endpoints if endpoint.ready)


def _nameless(slices: Iterable[EndpointSlice], leads: ServicePort) -> Iterator[_Spot]:
    """Where endpoints are that do not say which pod they are."""
    for slice_ in slices:
        for number, endpoint in _ready(slice_, leads):
            if endpoint.pod is None:
                yield from ((address, number) for address in literals(endpoint.addresses))


def _add(places: dict[str, None], addresses: Iterable[str]) -> None:
    places.update(dict.fromkeys(literals(addresses)))
