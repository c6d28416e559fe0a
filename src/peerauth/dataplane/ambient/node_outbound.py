"""Connections that leave an ambient workload: HBONE to the mesh, with the workload's own certificate; the rest as sent.

A workload's listener on 15001 knows the workload and nothing of the mesh; it hands every connection to one listener
inside the proxy that knows the mesh and no workload: a matcher from address to filter chain, and a chain for each
identity. What the first knows travels as filter state, so the configuration is the sum of the two, not their product:

- a cluster for each identity of the node has its certificate; the first listener names it;
- a chain for each identity of the mesh says whom the server must be, in the filter state that Envoy checks names by.

A server that cannot prove that identity gets nothing: there is no way back to plaintext. Workloads of the mesh come and
go as entries of the matcher, which Envoy replaces without touching a connection. Source: Envoy's well-known filter
state keys.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.matching.common_inputs.network.v3 import network_inputs_pb2
from envoy.extensions.transport_sockets.internal_upstream.v3 import internal_upstream_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from xds.type.matcher.v3 import matcher_pb2

from peerauth.dataplane.ambient import node_parts
from peerauth.dataplane.ambient.node_inbound import LOOP, MAX_STREAMS
from peerauth.dataplane.ambient.node_parts import NEXT_HOP, STRING, state
from peerauth.dataplane.ambient.node_values import HbonePeer, NodeWorkload
from peerauth.dataplane.envoy import accesslog, hbone, matching, parts, tls
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.mesh import MeshConfig

MESH = "mesh"
"""The listener inside the proxy, and the cluster that leads to it."""
PASSTHROUGH = "outbound|passthrough"
CAPTURED = "captured"

_SOURCE = "peerauth.source_cluster"
_WORKLOAD = "peerauth.workload"
_SERVER_NAMES = "envoy.network.upstream_subject_alt_names"
_CLUSTER = "envoy.tcp_proxy.cluster"
_LOCAL = "envoy.filters.listener.original_dst.local_ip"
_REMOTE = "envoy.filters.listener.original_dst.remote_ip"


def workload_listener(workload: NodeWorkload) -> listener_pb2.Listener:
    """The listener on 15001 in one workload's namespace."""
    knows = [
        node_parts.namespace_of(workload),
        state(_SOURCE, node_parts.literal(source_cluster_name(workload.identity)), factory=STRING, shared=NEXT_HOP),
        state(_WORKLOAD, node_parts.literal(str(workload.key)), factory=STRING, shared=NEXT_HOP),
        state(_LOCAL, "%DOWNSTREAM_LOCAL_ADDRESS%", shared=NEXT_HOP),
        state(_REMOTE, "%DOWNSTREAM_REMOTE_ADDRESS%", shared=NEXT_HOP),
    ]
    chain = listener_components_pb2.FilterChain(
        name=CAPTURED, filters=[node_parts.remember(knows), parts.tcp_proxy(CAPTURED, MESH)]
    )
    listener = listener_pb2.Listener(
        name=f"outbound|{workload.key}",
        stat_prefix="outbound",
        traffic_direction=base_pb2.OUTBOUND,
        filter_chains=[chain],
    )
    node_parts.bind_inside(listener, workload, parts.OUTBOUND_PORT)
    node_parts.restore_destination(listener)
    return listener


def mesh_listener(peers: tuple[HbonePeer, ...]) -> listener_pb2.Listener:
    """The listener that sends each connection on by where it was going."""
    chains = [_chain(LOOP, parts.BLACKHOLE), _chain(PASSTHROUGH, PASSTHROUGH)]
    chains += [_peer_chain(identity) for identity in sorted({peer.identity for peer in peers})]
    listener = listener_pb2.Listener(
        name=MESH,
        stat_prefix=MESH,
        traffic_direction=base_pb2.OUTBOUND,
        filter_chains=chains,
        access_log=[accesslog.connection_end(f"%FILTER_STATE({_WORKLOAD}:PLAIN)%", direction=accesslog.OUTBOUND)],
    )
    listener.internal_listener.SetInParent()
    node_parts.restore_destination(listener)
    listener.filter_chain_matcher.CopyFrom(_matcher(peers))
    return listener


def shared_clusters() -> list[cluster_pb2.Cluster]:
    """What all workloads use: the way to the mesh listener, and the one past it."""
    inside = parts.static_cluster(MESH, None, marked=False)
    host = inside.load_assignment.endpoints.add().lb_endpoints.add().endpoint
    host.address.CopyFrom(
        address_pb2.Address(
            envoy_internal_address=address_pb2.EnvoyInternalAddress(server_listener_name=MESH, endpoint_id=MESH)
        )
    )
    inside.transport_socket.CopyFrom(
        base_pb2.TransportSocket(
            name="envoy.transport_sockets.internal_upstream",
            typed_config=tls.packed(internal_upstream_pb2.InternalUpstreamTransport(transport_socket=tls.raw_socket())),
        )
    )
    passthrough = parts.original_destination_cluster(PASSTHROUGH, marked=True)
    return [inside, node_parts.connect_inside(passthrough)]


def source_cluster(identity: SpiffeId, *, mesh: MeshConfig) -> cluster_pb2.Cluster:
    """HBONE with the certificate of one identity of the node, to wherever the connection was going."""
    made = parts.original_destination_cluster(source_cluster_name(identity), marked=True)
    made.original_dst_lb_config.upstream_port_override.value = parts.HBONE_PORT
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.explicit_http_config.http2_protocol_options.CopyFrom(hbone.http2_options(streams=MAX_STREAMS))
    made.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].CopyFrom(
        tls.packed(options)
    )
    made.transport_socket.CopyFrom(tls.hbone_source_socket(mesh, certificate=identity.uri))
    return node_parts.connect_inside(made)


def source_cluster_name(identity: SpiffeId) -> str:
    """The cluster that speaks HBONE as an identity."""
    return f"outbound|hbone|{identity.uri}"


def _matcher(peers: Iterable[HbonePeer]) -> matcher_pb2.Matcher:
    """From destination to chain. The proxy's own ports come first: what is sent there would come back for ever."""
    chains = {peer.identity: matching.to_chain(_peer_name(peer.identity)) for peer in peers}
    by_address: dict[str, matcher_pb2.Matcher.OnMatch] = {}
    # Two peers on one address (host networking): the first by identity; a wrong guess is refused by the server's name.
    for peer in sorted(peers):
        for address in peer.addresses:
            by_address.setdefault(ipaddress.ip_address(address).compressed, chains[peer.identity])
    own = {str(port): matching.to_chain(LOOP) for port in (parts.OUTBOUND_PORT, parts.INBOUND_PORT)}
    otherwise = matching.to_chain(PASSTHROUGH)
    if by_address:
        otherwise = matching.lookup(network_inputs_pb2.DestinationIPInput(), by_address, otherwise=otherwise)
    return matching.lookup(network_inputs_pb2.DestinationPortInput(), own, otherwise=otherwise).matcher


def _peer_name(identity: SpiffeId) -> str:
    return f"hbone|{identity.uri}"


def _peer_chain(identity: SpiffeId) -> listener_components_pb2.FilterChain:
    decides = [
        state(_SERVER_NAMES, node_parts.literal(identity.uri)),
        state(_CLUSTER, f"%FILTER_STATE({_SOURCE}:PLAIN)%"),
    ]
    tunnel = tcp_proxy_pb2.TcpProxy.TunnelingConfig(hostname="%DOWNSTREAM_LOCAL_ADDRESS%")
    # The cluster is the filter state's; without it the connection goes nowhere.
    chain = _chain(_peer_name(identity), parts.BLACKHOLE, tunnel=tunnel)
    chain.filters.insert(0, node_parts.remember(decides))
    return chain


def _chain(
    name: str, cluster: str, *, tunnel: tcp_proxy_pb2.TcpProxy.TunnelingConfig | None = None
) -> listener_components_pb2.FilterChain:
    log = accesslog.connection_start(f"%FILTER_STATE({_WORKLOAD}:PLAIN)%", direction=accesslog.OUTBOUND)
    return listener_components_pb2.FilterChain(
        name=name, filters=[parts.tcp_proxy(name.partition("|")[0], cluster, log=log, tunnel=tunnel)]
    )
