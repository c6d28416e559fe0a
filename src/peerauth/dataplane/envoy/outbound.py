"""Connections that leave the workload: auto mTLS to endpoints of the mesh, everything else as the application sent it.

Transparent capture: one listener on 15001 looks at where the application was going. A matcher from address (and port,
where a peer has exceptions) to filter chain is the whole of what changes when workloads come and go, and Envoy replaces
it without touching a connection; chains and clusters are one per identity and transport, not per workload.

Explicit capture: one listener per `Sidecar` egress port, in front of the endpoints of the hosts it names. Each endpoint
brings its own transport and its own expected identity; HBONE takes a detour through a listener inside the proxy,
because a tunnel belongs to a listener and not to an endpoint.

A server that cannot prove the expected identity gets nothing: there is no way back to plaintext.
"""

from __future__ import annotations

import ipaddress

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.matching.common_inputs.network.v3 import network_inputs_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from xds.type.matcher.v3 import matcher_pb2

from peerauth.dataplane.envoy import accesslog, filterstate, hops, matching, parts, tls
from peerauth.dataplane.envoy.captured import REMEMBER_SOURCE, lead
from peerauth.dataplane.envoy.hbone import MAX_STREAMS, http2_options
from peerauth.dataplane.resources import EgressPort, SidecarWorkload
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.placement import Capture
from peerauth.policy.outbound import OutboundPeer, Transport

VIRTUAL_OUTBOUND = "virtualOutbound"
_MATCH_KEY = "envoy.transport_socket_match"


def outbound_listeners(workload: SidecarWorkload) -> list[listener_pb2.Listener]:
    """What the application dials, knowingly or not."""
    if workload.capture is Capture.TRANSPARENT:
        return [_virtual_outbound(workload)]
    listeners = [_egress_listener(workload, port) for port in sorted(workload.egress, key=_egress_name)]
    return [*listeners, *_hops(workload)] if listeners else []


def outbound_clusters(workload: SidecarWorkload) -> list[cluster_pb2.Cluster]:
    """Where those connections go on to."""
    if workload.capture is Capture.TRANSPARENT:
        return [
            parts.original_destination_cluster(parts.PASSTHROUGH, mark=parts.PROXY_MARK),
            *(_peer_cluster(transport, identity) for transport, identity in _spoken(workload.peers)),
        ]
    clusters = [_egress_cluster(port) for port in sorted(workload.egress, key=_egress_name)]
    return [*clusters, *_ways(workload, marked=False)] if clusters else []


# Transparent capture


def _virtual_outbound(workload: SidecarWorkload) -> listener_pb2.Listener:
    chains = [_chain(parts.PASSTHROUGH, parts.PASSTHROUGH), _chain(parts.LOOP, parts.BLACKHOLE)]
    for transport, identity in _spoken(workload.peers):
        name = _peer_name(transport, identity)
        tunnel = _tunnel("%DOWNSTREAM_LOCAL_ADDRESS%") if transport is Transport.HBONE else None
        chains.append(_chain(name, name, tunnel=tunnel))
    listener = _listener(workload, VIRTUAL_OUTBOUND, chains)
    parts.bind(listener, parts.wildcards(workload.addresses), parts.OUTBOUND_PORT)
    parts.restore_destination(listener)
    listener.filter_chain_matcher.CopyFrom(_matcher(workload.peers))
    return listener


def _spoken(peers: tuple[OutboundPeer, ...]) -> list[tuple[Transport, SpiffeId]]:
    """Every identity that is spoken to other than in plaintext, and how."""
    pairs = {(transport, peer.identity) for peer in peers for transport in _transports(peer)}
    return sorted(pair for pair in pairs if pair[0] is not Transport.PLAINTEXT)


def _transports(peer: OutboundPeer) -> set[Transport]:
    return {peer.transport, *(exception.transport for exception in peer.exceptions)}


def _matcher(peers: tuple[OutboundPeer, ...]) -> matcher_pb2.Matcher:
    """From destination to chain."""
    by_address: dict[str, matcher_pb2.Matcher.OnMatch] = {}
    # Two peers on one address (host networking): the first by identity; a wrong guess is refused by the server's name.
    for peer in sorted(peers, key=lambda peer: (peer.identity, peer.addresses)):
        for address in peer.addresses:
            by_address.setdefault(ipaddress.ip_address(address).compressed, _to_peer(peer))
    otherwise = matching.to_chain(parts.PASSTHROUGH)
    if by_address:
        otherwise = matching.lookup(network_inputs_pb2.DestinationIPInput(), by_address, otherwise=otherwise)
    return matching.past_own_ports(otherwise)


def _to_peer(peer: OutboundPeer) -> matcher_pb2.Matcher.OnMatch:
    otherwise = matching.to_chain(_peer_name(peer.transport, peer.identity))
    if not peer.exceptions:
        return otherwise
    ports = {
        str(entry.port): matching.to_chain(_peer_name(entry.transport, peer.identity)) for entry in peer.exceptions
    }
    return matching.lookup(network_inputs_pb2.DestinationPortInput(), ports, otherwise=otherwise)


def _peer_name(transport: Transport, identity: SpiffeId) -> str:
    return parts.PASSTHROUGH if transport is Transport.PLAINTEXT else f"outbound|{transport.value}|{identity.uri}"


def _peer_cluster(transport: Transport, identity: SpiffeId) -> cluster_pb2.Cluster:
    cluster = parts.original_destination_cluster(_peer_name(transport, identity), mark=parts.PROXY_MARK)
    if transport is Transport.HBONE:
        cluster.original_dst_lb_config.upstream_port_override.value = parts.HBONE_PORT
        _speak_hbone(cluster, identity)
    else:
        cluster.transport_socket.CopyFrom(tls.client_socket_to(identity))
    return cluster


# Transparent capture, destinations on demand


def on_demand_listeners(
    workload: SidecarWorkload, ranges: tuple[str, ...], *, closed: bool
) -> list[listener_pb2.Listener]:
    """The listener on 15001, and one inside the proxy for each transport."""
    captured = listener_pb2.Listener(
        name=VIRTUAL_OUTBOUND,
        stat_prefix=VIRTUAL_OUTBOUND,
        traffic_direction=base_pb2.OUTBOUND,
        access_log=[accesslog.not_handed_on(workload.key)],
    )
    parts.bind(captured, parts.wildcards(workload.addresses), parts.OUTBOUND_PORT)
    parts.restore_destination(captured)
    lead(captured, own=workload.addresses, ranges=ranges, closed=closed)
    return [captured, *_hops(workload)]


def on_demand_clusters(workload: SidecarWorkload) -> list[cluster_pb2.Cluster]:
    """Where those go on to."""
    return _ways(workload, marked=True)


_WAYS = {
    Transport.MUTUAL_TLS: "outbound|mtls",
    Transport.HBONE: "outbound|hbone",
    Transport.PLAINTEXT: parts.PASSTHROUGH,
}


def _hops(workload: SidecarWorkload) -> list[listener_pb2.Listener]:
    return [hops.hop_listener(transport, cluster, workload=workload.key) for transport, cluster in _WAYS.items()]


def _ways(workload: SidecarWorkload, *, marked: bool) -> list[cluster_pb2.Cluster]:
    mark = parts.PROXY_MARK if marked else None
    mutual_tls, hbone = _WAYS[Transport.MUTUAL_TLS], _WAYS[Transport.HBONE]
    return [
        parts.original_destination_cluster(parts.PASSTHROUGH, mark=mark),
        hops.mutual_tls_cluster(mutual_tls, mesh=workload.mesh, mark=parts.CALL_MARK if marked else None),
        hops.hbone_cluster(
            hbone, mesh=workload.mesh, mark=mark, certificate=tls.CERTIFICATE_SECRET, streams=MAX_STREAMS
        ),
    ]


# Explicit capture


def _egress_name(port: EgressPort) -> str:
    return f"egress|{port.port}|{port.name}"


def _egress_listener(workload: SidecarWorkload, port: EgressPort) -> listener_pb2.Listener:
    name = _egress_name(port)
    chain = listener_components_pb2.FilterChain(
        name=name, filters=[filterstate.remember([REMEMBER_SOURCE]), parts.tcp_proxy(name, name)]
    )
    listener = listener_pb2.Listener(
        name=name,
        stat_prefix=name,
        traffic_direction=base_pb2.OUTBOUND,
        filter_chains=[chain],
        access_log=[accesslog.not_handed_on(workload.key)],
    )
    parts.bind(listener, [port.bind], port.port)
    return listener


def _egress_cluster(port: EgressPort) -> cluster_pb2.Cluster:
    cluster = hops.endpoint_cluster(_egress_name(port))
    cluster.type = cluster_pb2.Cluster.STATIC
    cluster.load_assignment.CopyFrom(hops.load_assignment(cluster.name, port.endpoints))
    return cluster


# Both


def _listener(
    workload: SidecarWorkload,
    name: str,
    chains: list[listener_components_pb2.FilterChain],
    *,
    kind: str = accesslog.CONNECTION,
) -> listener_pb2.Listener:
    return listener_pb2.Listener(
        name=name,
        stat_prefix=name,
        traffic_direction=base_pb2.OUTBOUND,
        filter_chains=chains,
        access_log=[accesslog.connection_end(workload.key, direction=accesslog.OUTBOUND, kind=kind)],
    )


def _chain(
    name: str, cluster: str, *, tunnel: tcp_proxy_pb2.TcpProxy.TunnelingConfig | None = None
) -> listener_components_pb2.FilterChain:
    return listener_components_pb2.FilterChain(name=name, filters=[parts.tcp_proxy(name, cluster, tunnel=tunnel)])


def _tunnel(authority: str) -> tcp_proxy_pb2.TcpProxy.TunnelingConfig:
    return tcp_proxy_pb2.TcpProxy.TunnelingConfig(hostname=authority)


def _speak_hbone(cluster: cluster_pb2.Cluster, server: SpiffeId) -> None:
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.explicit_http_config.http2_protocol_options.CopyFrom(http2_options())
    cluster.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].CopyFrom(
        tls.packed(options)
    )
    cluster.transport_socket.CopyFrom(tls.hbone_client_socket_to(server))
