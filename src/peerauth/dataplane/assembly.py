"""From the world and its decisions to the one value that a sidecar is rendered from.

Pure: names become addresses here (a Sidecar's `defaultEndpoint`, the hosts of its egress listeners), so that renderers
see literals only. What cannot be resolved becomes a port or a listener that leads nowhere, never one that leads astray.
Source for `defaultEndpoint` and `hosts`: Istio's Sidecar reference.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping

from peerauth.dataplane.envoy.sidecar_values import ApplicationPort, EgressPort, SidecarWorkload
from peerauth.model.addresses import canonical
from peerauth.model.endpoint import Endpoint
from peerauth.model.inventory import EgressListener, Service, ServicePort, Workload, WorkloadKey
from peerauth.model.placement import Capture, Placement
from peerauth.model.world import World, target_number
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.decision import Decision
from peerauth.policy.outbound import OutboundPeer, Transport, identity_of

DEFAULT_BIND = "127.0.0.1"


def assemble(
    workload: Workload,
    placement: Placement,
    *,
    world: World,
    decision: Decision,
    peers: Mapping[WorkloadKey, OutboundPeer],
    ranges: tuple[str, ...],
) -> SidecarWorkload:
    """Everything `workload`'s sidecar depends on.

    `peers` holds every workload of the mesh as its clients see it, `ranges` the mesh's addresses.
    """
    transparent = placement.capture is Capture.TRANSPARENT
    return SidecarWorkload(
        key=workload.key,
        identity=identity_of(workload, mesh=world.mesh),
        addresses=workload.addresses,
        decision=decision,
        declared=tuple(_declared(workload, placement, world=world)),
        capture=placement.capture,
        mesh=world.mesh,
        egress=() if transparent else tuple(_egress(workload, world=world, peers=peers)),
        ranges=ranges if transparent else (),
    )


def namespaces_dialled(workload: Workload, *, world: World) -> frozenset[str]:
    """The namespaces of the hosts that a workload's egress listeners name; `*` is any."""
    sidecar = world.sidecar_of(workload)
    listeners = (listener for listener in (sidecar.egress if sidecar else ()) if listener.port is not None)
    named = (host.rpartition("/")[0] for listener in listeners for host in listener.hosts)
    return frozenset(workload.meta.namespace if namespace == "." else namespace for namespace in named)


def _declared(workload: Workload, placement: Placement, *, world: World) -> Iterator[ApplicationPort]:
    explicit = placement.capture is Capture.EXPLICIT
    own = workload.addresses[0] if workload.addresses else ""
    where = placement.application if explicit else own
    for port in world.declared_ports(workload):
        if port.endpoint:
            yield ApplicationPort(port.number, parse_endpoint(port.endpoint, own=where))
        else:
            yield ApplicationPort(port.number, Endpoint(where, port.number) if explicit else None)


def parse_endpoint(text: str, *, own: str) -> Endpoint | None:
    """A `defaultEndpoint`: `ADDRESS:PORT`, `[v6]:PORT` or `unix://PATH`; None if it is none of them.

    The unspecified addresses stand for `own`, the workload's address as its application has it.
    """
    if text.startswith("unix://"):
        path = text.removeprefix("unix://")
        return Endpoint(path=path) if path else None
    host, _, number = text.rpartition(":")
    # The kernel takes an IPv4 address in IPv6's clothes for what it is; so must whoever asks whose address this is.
    address = canonical(host.removeprefix("[").removesuffix("]"))
    try:
        port = int(number)
    except ValueError:
        return None
    if not address or not 0 < port < 65536:
        return None
    return Endpoint(own if ipaddress.ip_address(address).is_unspecified else address, port)


def _egress(workload: Workload, *, world: World, peers: Mapping[WorkloadKey, OutboundPeer]) -> Iterator[EgressPort]:
    sidecar = world.sidecar_of(workload)
    for listener in sidecar.egress if sidecar else ():
        if listener.port is None:
            continue
        services = [service for service in world.services.values() if _names(listener, service, workload)]
        found = [(service, port) for service in services for port in service.ports if port.number == listener.port]
        # A TCP listener stands for one Service. With several to choose from, any choice could be the wrong one.
        endpoints = _endpoints(*found[0], world=world, peers=peers) if len(found) == 1 else ()
        name = found[0][0].meta.full_name if len(found) == 1 else ",".join(sorted(listener.hosts))
        yield EgressPort(
            name,
            listener.bind or DEFAULT_BIND,
            listener.port,
            tuple(sorted(endpoints, key=lambda end: (end.address, end.port))),
        )


def _names(listener: EgressListener, service: Service, workload: Workload) -> bool:
    return any(_host_matches(host, service, own_namespace=workload.meta.namespace) for host in listener.hosts)


def _host_matches(host: str, service: Service, *, own_namespace: str) -> bool:
    """Whether `namespace/dnsName` names a Service: `.` is the own namespace, `*` any, `*.suffix` a wildcard."""
    namespace, _, dns = host.rpartition("/")
    wanted = own_namespace if namespace == "." else namespace
    if wanted not in {"*", service.meta.namespace}:
        return False
    full = f"{service.meta.name}.{service.meta.namespace}.svc"
    if dns.startswith("*"):
        return f"{full}.cluster.local".endswith(dns[1:])
    return dns in {full, service.meta.name} or dns.startswith(f"{full}.")


def _endpoints(
    service: Service, port: ServicePort, *, world: World, peers: Mapping[WorkloadKey, OutboundPeer]
) -> Iterable[DestinationEndpoint]:
    if not service.selector:
        return
    for workload in world.workloads.in_namespace(service.meta.namespace).values():
        target = target_number(port, workload)
        peer = peers.get(workload.key)
        if target is None or peer is None or not service.selector <= workload.meta.labels:
            continue
        transport = peer.transport_to(target)
        identity = None if transport is Transport.PLAINTEXT else peer.identity
        for address in workload.addresses:
            yield DestinationEndpoint(address, target, transport, identity)
