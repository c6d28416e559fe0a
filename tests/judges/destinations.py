"""What is at an address and port, from a list of everything that was said: the plainest reading of the rules.

Written apart from `peerauth.policy.destinations`: it keeps nothing, looks at everything, and compares addresses as
numbers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from peerauth.model.changes import MeshObject
from peerauth.model.inventory import EndpointSlice, Service, ServicePort, Workload, WorkloadKey
from peerauth.model.mesh import MeshConfig, OutboundTraffic, meshes_of
from peerauth.model.placement import Placement
from peerauth.policy.outbound import OutboundPeer

Told = Mapping[WorkloadKey, OutboundPeer]
Spoken = tuple[str, int, str, str]
"""Address, port, transport, and the identity that is expected ('' for none)."""
Answer = tuple[str, tuple[Spoken, ...]]
"""`one` or `balanced`, and how each endpoint is spoken to."""

Spot = tuple[int, int]
"""An address as a number, and a port."""

_MACHINES = ("WorkloadEntry", "WorkloadGroup", "ServiceEntry")


def number(text: str) -> int | None:
    """An address as one number over both families; None for a name."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return int(address) if address.version == 6 else int(address) + (0xFFFF << 32)


def whats_at(objects: Sequence[MeshObject], told: Told, address: str, port: int) -> Answer | None:
    """The answer to a client that dials `address:port`; None is none."""
    where = number(address)
    assert where is not None
    workloads = {obj.key: obj for obj in objects if isinstance(obj, Workload)}
    if is_somebodys(where, workloads, told):
        spoken = speak(where, port, workloads, told, among=told)
        return None if spoken is None else ("one", (spoken,))
    claiming = [obj for obj in objects if isinstance(obj, Service) and where in map(number, obj.cluster_ips)]
    if claiming:
        service = min(claiming, key=lambda each: (str(each.meta.created or ""), each.meta.name, each.meta.namespace))
        slices = [obj for obj in objects if isinstance(obj, EndpointSlice) and is_of(obj, service)]
        if slices or service.selector:
            placed = {obj.workload for obj in objects if isinstance(obj, Placement)}
            moved: dict[WorkloadKey | None, tuple[str, ...]] = {}
            moved |= {key: workload.addresses for key, workload in workloads.items() if key in placed}
            slices = [as_placed(each, moved) for each in slices]
            return balanced(service, slices, where, port, workloads=workloads, told=told)
    meshes = meshes_of(obj for obj in objects if isinstance(obj, MeshConfig))
    if meshes.of(meshes.default).outbound_traffic is OutboundTraffic.REGISTRY_ONLY:
        return None
    return "one", ((shown(where), port, "plaintext", ""),)


def as_placed(slice_: EndpointSlice, moved: Mapping[WorkloadKey | None, tuple[str, ...]]) -> EndpointSlice:
    """The slice with the pods that it names where they are placed, whatever it says of their addresses."""
    endpoints = tuple(
        msgspec.structs.replace(each, addresses=moved.get(each.pod, each.addresses)) for each in slice_.endpoints
    )
    return msgspec.structs.replace(slice_, endpoints=endpoints)


def shown(where: int) -> str:
    """The address as Envoy would write it."""
    if where >> 32 == 0xFFFF:
        return str(ipaddress.IPv4Address(where & 0xFFFFFFFF))
    return str(ipaddress.IPv6Address(where))


def is_of(slice_: EndpointSlice, service: Service) -> bool:
    return (slice_.meta.namespace, slice_.service) == (service.meta.namespace, service.meta.name)


def is_somebodys(where: int, workloads: Mapping[WorkloadKey, Workload], told: Told) -> bool:
    known = [*(each.addresses for each in workloads.values()), *(peer.addresses for peer in told.values())]
    return any(where in map(number, addresses) for addresses in known)


def speak(
    where: int, port: int, workloads: Mapping[WorkloadKey, Workload], told: Told, *, among: Iterable[WorkloadKey]
) -> Spoken | None:
    """How to speak to the one that is most likely meant, of those that were announced with the address."""

    def likelihood(key: WorkloadKey) -> tuple[object, ...]:
        there = workloads.get(key)
        return (
            there is None,
            key.kind in _MACHINES,
            there is None or there.terminating,
            there is None or port not in [declared.number for declared in there.ports],
            told[key].transport_to(port) == "plaintext",
            told[key].identity.uri,
            (key.namespace, key.name, key.kind),
        )

    having = [key for key in among if key in told and where in map(number, told[key].addresses)]
    if not having:
        return None
    peer = told[min(having, key=likelihood)]
    transport = peer.transport_to(port)
    return shown(where), port, str(transport), "" if transport == "plaintext" else peer.identity.uri


def balanced(
    service: Service,
    slices: Sequence[EndpointSlice],
    where: int,
    port: int,
    *,
    workloads: Mapping[WorkloadKey, Workload],
    told: Told,
) -> Answer | None:
    leads = [each for each in service.ports if (each.number, each.protocol) == (port, "TCP")][:1]
    if not leads:
        return None
    listed = list(in_slices(slices, leads[0].name))
    selected = list(by_selector(service, leads[0], workloads, machines_alone=bool(slices)))
    found: dict[Spot, Spoken | None] = {}
    for spot, _ in [*selected, *listed]:
        keys = [key for there, key in [*selected, *listed] if there == spot and key is not None]
        if keys or is_somebodys(spot[0], workloads, told):
            found[spot] = speak(*spot, workloads, told, among=keys or told)
        else:
            found[spot] = (shown(spot[0]), spot[1], "plaintext", "")
    reached = [
        spoken for spoken in found.values() if spoken is not None and (":" in spoken[0]) == (":" in shown(where))
    ]
    return "balanced", tuple(sorted(reached))


def in_slices(slices: Iterable[EndpointSlice], name: str) -> Iterator[tuple[Spot, WorkloadKey | None]]:
    """What is listed as ready, and which pod it says it is."""
    for slice_ in slices:
        numbers = [each.number for each in slice_.ports if each.name == name]
        for endpoint in slice_.endpoints:
            if endpoint.ready:
                yield from ((spot, endpoint.pod) for spot in spots(endpoint.addresses, numbers))


def by_selector(
    service: Service, leads: ServicePort, workloads: Mapping[WorkloadKey, Workload], *, machines_alone: bool
) -> Iterator[tuple[Spot, WorkloadKey]]:
    """What the selector selects and takes traffic."""
    for key, workload in workloads.items():
        selected = service.selector and service.selector <= workload.meta.labels
        takes = service.publish_not_ready or (workload.ready and not workload.terminating)
        if not (selected and takes and key.namespace == service.meta.namespace):
            continue
        if key.kind in _MACHINES or not machines_alone:
            numbers = [each.number for each in workload.ports if each.name == leads.target][:1]
            if isinstance(leads.target, int):
                mapped = [each.number for each in workload.ports if each.name == leads.name != ""]
                numbers = mapped[:1] if mapped and key.kind in _MACHINES else [leads.target]
            yield from ((spot, key) for spot in spots(workload.addresses, numbers))


def spots(addresses: Iterable[str], ports: Iterable[int]) -> Iterator[Spot]:
    for port in ports:
        yield from ((where, port) for where in map(number, addresses) if where is not None)
