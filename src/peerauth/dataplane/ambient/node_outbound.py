"""Connections that leave an ambient workload: HBONE to the mesh, with the workload's own certificate; the rest as sent.

A workload's listener on 15001 knows the workload and nothing of the mesh; it hands every connection to one listener
inside the proxy that knows the mesh and no workload (`node_mesh`). What the first knows travels as filter state, so the
configuration is the sum of the two, not their product. A cluster for each identity of the node has its certificate; the
first listener names it. Source: Envoy's well-known filter state keys.
"""

from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.transport_sockets.internal_upstream.v3 import internal_upstream_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from peerauth.dataplane.ambient import node_parts
from peerauth.dataplane.ambient.node_inbound import MAX_STREAMS
from peerauth.dataplane.ambient.node_mesh import MESH, SOURCE, WORKLOAD
from peerauth.dataplane.ambient.node_values import NodeWorkload
from peerauth.dataplane.envoy import filterstate, hbone, parts, tls
from peerauth.dataplane.envoy.filterstate import NEXT_HOP, STRING, state
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.mesh import MeshConfig

CAPTURED = "captured"

_LOCAL = "envoy.filters.listener.original_dst.local_ip"
_REMOTE = "envoy.filters.listener.original_dst.remote_ip"


def workload_listener(workload: NodeWorkload) -> listener_pb2.Listener:
    """The listener on 15001 in one workload's namespace."""
    knows = [
        node_parts.namespace_of(workload),
        state(SOURCE, filterstate.literal(source_cluster_name(workload.identity)), factory=STRING, shared=NEXT_HOP),
        state(WORKLOAD, filterstate.literal(str(workload.key)), factory=STRING, shared=NEXT_HOP),
        state(_LOCAL, "%DOWNSTREAM_LOCAL_ADDRESS%", shared=NEXT_HOP),
        state(_REMOTE, "%DOWNSTREAM_REMOTE_ADDRESS%", shared=NEXT_HOP),
    ]
    chain = listener_components_pb2.FilterChain(
        name=CAPTURED, filters=[filterstate.remember(knows), parts.tcp_proxy(CAPTURED, MESH)]
    )
    listener = listener_pb2.Listener(
        name=f"outbound|{workload.key}",
        stat_prefix="outbound",
        traffic_direction=base_pb2.OUTBOUND,
        filter_chains=[chain],
    )
    node_parts.bind_inside(listener, workload, parts.OUTBOUND_PORT)
    parts.restore_destination(listener)
    return listener


def shared_clusters() -> list[cluster_pb2.Cluster]:
    """What all workloads use: the way to the mesh listener, and the one past it."""
    inside = parts.static_cluster(MESH, None, mark=None)
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
    passthrough = parts.original_destination_cluster(parts.PASSTHROUGH, mark=parts.PROXY_MARK)
    return [inside, node_parts.connect_inside(passthrough)]


def source_cluster(identity: SpiffeId, *, mesh: MeshConfig) -> cluster_pb2.Cluster:
    """HBONE with the certificate of one identity of the node, to wherever the connection was going."""
    made = parts.original_destination_cluster(source_cluster_name(identity), mark=parts.PROXY_MARK)
    made.original_dst_lb_config.upstream_port_override.value = parts.HBONE_PORT
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.explicit_http_config.http2_protocol_options.CopyFrom(hbone.http2_options(streams=MAX_STREAMS))
    made.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].CopyFrom(
        tls.packed(options)
    )
    made.transport_socket.CopyFrom(tls.hbone_client_socket(mesh, certificate=identity.uri))
    return node_parts.connect_inside(made)


def source_cluster_name(identity: SpiffeId) -> str:
    """The cluster that speaks HBONE as an identity."""
    return f"outbound|hbone|{identity.uri}"
