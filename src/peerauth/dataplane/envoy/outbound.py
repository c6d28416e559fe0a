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
from envoy.config.endpoint.v3 import endpoint_components_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.matching.common_inputs.network.v3 import network_inputs_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from xds.type.matcher.v3 import matcher_pb2

from peerauth.dataplane.envoy import accesslog, matching, parts, tls
from peerauth.dataplane.envoy.hbone import http2_options
from peerauth.dataplane.resources import Capture, EgressEndpoint, EgressPort, Endpoint, SidecarWorkload
from peerauth.identity.spiffe import SpiffeId
from peerauth.policy.outbound import OutboundPeer, Transport

VIRTUAL_OUTBOUND = "virtualOutbound"
_MATCH_KEY = "envoy.transport_socket_match"


def outbound_listeners(workload: SidecarWorkload) -> list[listener_pb2.Listener]:
    """What the application dials, knowingly or not."""
    if workload.capture is Capture.TRANSPARENT:
        return [_virtual_outbound(workload)]
    listeners = [_egress_listener(workload, port) for port in sorted(workload.egress)]
    tunnels = sorted({end for port in workload.egress for end in port.endpoints if end.transport is Transport.HBONE})
    return listeners + [_tunnel_listener(workload, end) for end in tunnels]


def outbound_clusters(workload: SidecarWorkload) -> list[cluster_pb2.Cluster]:
    """Where those connections go on to."""
    if workload.capture is Capture.TRANSPARENT:
        return [
            parts.original_destination_cluster(parts.PASSTHROUGH, marked=True),
            *(_peer_cluster(transport, identity) for transport, identity in _spoken(workload.peers)),
        ]
    clusters = [_egress_cluster(port) for port in sorted(workload.egress)]
    tunnels = sorted({end for port in workload.egress for end in port.endpoints if end.transport is Transport.HBONE})
    return clusters + [_tunnel_cluster(end) for end in tunnels]


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
    cluster = parts.original_destination_cluster(_peer_name(transport, identity), marked=True)
    if transport is Transport.HBONE:
        cluster.original_dst_lb_config.upstream_port_override.value = parts.HBONE_PORT
        _speak_hbone(cluster, identity)
    else:
        cluster.transport_socket.CopyFrom(tls.client_socket(identity))
    return cluster


# Explicit capture


def _egress_name(port: EgressPort) -> str:
    return f"egress|{port.port}|{port.name}"


def _egress_listener(workload: SidecarWorkload, port: EgressPort) -> listener_pb2.Listener:
    name = _egress_name(port)
    listener = _listener(workload, name, [_chain(name, name)])
    parts.bind(listener, [port.bind], port.port)
    return listener


def _egress_cluster(port: EgressPort) -> cluster_pb2.Cluster:
    cluster = parts.static_cluster(_egress_name(port), None, marked=False)
    sockets: dict[str, base_pb2.TransportSocket] = {}
    locality = endpoint_components_pb2.LocalityLbEndpoints()
    for end in sorted(set(port.endpoints), key=_endpoint_order):
        key, socket = _endpoint_socket(end)
        sockets[key] = socket
        host = locality.lb_endpoints.add()
        host.endpoint.address.CopyFrom(parts.endpoint_address(end.endpoint))
        if end.transport is Transport.HBONE:
            host.endpoint.address.envoy_internal_address.server_listener_name = _tunnel_name(end)
            host.endpoint.address.envoy_internal_address.endpoint_id = str(end.endpoint)
        host.metadata.filter_metadata[_MATCH_KEY].update({"peerauth": key})
    if all(end.transport is not Transport.HBONE and not end.endpoint.path for end in port.endpoints):
        parts.keep_alive(cluster)
    if locality.lb_endpoints:
        cluster.load_assignment.endpoints.append(locality)
    for key in sorted(sockets):
        match = cluster.transport_socket_matches.add(name=key, transport_socket=sockets[key])
        match.match.update({"peerauth": key})
    return cluster


def _endpoint_order(end: EgressEndpoint) -> tuple[str, str]:
    return str(end.endpoint), end.transport.value


def _endpoint_socket(end: EgressEndpoint) -> tuple[str, base_pb2.TransportSocket]:
    if end.transport is Transport.MUTUAL_TLS:
        return f"mtls|{_expected(end).uri}", tls.client_socket(_expected(end))
    return "raw", tls.raw_socket()


def _expected(end: EgressEndpoint) -> SpiffeId:
    if end.identity is None:
        raise ValueError(f"{end.endpoint} is to be spoken to in {end.transport.value}, but no identity is expected")
    return end.identity


def _tunnel_name(end: EgressEndpoint) -> str:
    return f"tunnel|{end.endpoint}|{_expected(end).uri}"


def _tunnel_listener(workload: SidecarWorkload, end: EgressEndpoint) -> listener_pb2.Listener:
    name = _tunnel_name(end)
    chain = listener_components_pb2.FilterChain(
        name=name, filters=[parts.tcp_proxy(name, name, tunnel=_tunnel(str(end.endpoint)))]
    )
    listener = _listener(workload, name, [chain], kind=accesslog.TUNNEL)
    listener.internal_listener.SetInParent()
    return listener


def _tunnel_cluster(end: EgressEndpoint) -> cluster_pb2.Cluster:
    gate = Endpoint(end.endpoint.address, parts.HBONE_PORT)
    cluster = parts.static_cluster(_tunnel_name(end), gate, marked=False)
    _speak_hbone(cluster, _expected(end))
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
    cluster.transport_socket.CopyFrom(tls.hbone_client_socket(server))
