"""The last stretch of a connection that leaves a workload: fixed listeners inside the proxy, one for each transport.

What is dialled leads to a cluster of endpoints (`destinations`, or an egress listener's). Such an endpoint is one of
these listeners, with metadata that says where the connection goes and whom the server's certificate must name. The
listener restores that destination, says who is expected in the filter state that Envoy checks names by, and connects
through one cluster that goes wherever the connection was going. So nothing that is fixed names a server, and a server
costs one endpoint.

Fail closed: without an expected name the server would have to be called `-`; without a destination there is nowhere to
go. Sources: Envoy's internal listeners and their upstream transport, its original-destination filter; Istio's ambient
sidecars use the same metadata.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.transport_sockets.internal_upstream.v3 import internal_upstream_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.type.metadata.v3 import metadata_pb2

from peerauth.dataplane.envoy import accesslog, filterstate, hbone, parts, tls
from peerauth.dataplane.envoy.filterstate import state
from peerauth.model.endpoint import Endpoint
from peerauth.model.inventory import WorkloadKey
from peerauth.model.mesh import MeshConfig
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.outbound import Transport

METADATA = "peerauth"
SERVER = "san"
SHARD = "shard"
TO_SHARD = "to-shard"
"""The listener inside the proxy that leads to a piece of a Service."""
_DESTINATION = "envoy.filters.listener.original_dst"
"""The metadata that the original-destination filter reads, by its own name."""


def hop_name(transport: Transport) -> str:
    """The listener inside the proxy that speaks a transport."""
    return f"to-{transport.value}"


def hop_listener(
    transport: Transport,
    cluster: str,
    *,
    workload: WorkloadKey | str,
    decides: Iterable[value_pb2.FilterStateValue] = (),
) -> listener_pb2.Listener:
    """The listener of a transport, which goes on to `cluster`; `decides` is what else it says of the connection."""
    name = hop_name(transport)
    tunnel = tcp_proxy_pb2.TcpProxy.TunnelingConfig(hostname="%DOWNSTREAM_LOCAL_ADDRESS%")
    says = list(decides)
    if transport is not Transport.PLAINTEXT:
        says.insert(0, state(filterstate.SERVER_NAMES, f"%DYNAMIC_METADATA({METADATA}:{SERVER})%"))
    proxy = parts.tcp_proxy(name, cluster, tunnel=tunnel if transport is Transport.HBONE else None)
    filters = [filterstate.remember(says), proxy] if says else [proxy]
    return inner_listener(name, filters, log=accesslog.connection_end(workload, direction=accesslog.OUTBOUND))


def inner_listener(
    name: str, filters: Iterable[listener_components_pb2.Filter], *, log: accesslog_pb2.AccessLog
) -> listener_pb2.Listener:
    """A listener inside the proxy, for connections that bring along where they go."""
    listener = listener_pb2.Listener(
        name=name,
        stat_prefix=name,
        traffic_direction=base_pb2.OUTBOUND,
        filter_chains=[listener_components_pb2.FilterChain(name=name, filters=filters)],
        access_log=[log],
    )
    listener.internal_listener.SetInParent()
    parts.restore_destination(listener)
    return listener


def mutual_tls_cluster(name: str, *, mesh: MeshConfig, mark: int | None) -> cluster_pb2.Cluster:
    """Mutual TLS to wherever the connection is going."""
    cluster = parts.original_destination_cluster(name, mark=mark)
    cluster.transport_socket.CopyFrom(tls.client_socket(mesh))
    return cluster


def hbone_cluster(
    name: str, *, mesh: MeshConfig, mark: int | None, certificate: str, streams: int
) -> cluster_pb2.Cluster:
    """HBONE, with the certificate of that name, to the proxy at wherever the connection is going."""
    cluster = parts.original_destination_cluster(name, mark=mark)
    cluster.original_dst_lb_config.upstream_port_override.value = parts.HBONE_PORT
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.explicit_http_config.http2_protocol_options.CopyFrom(hbone.http2_options(streams=streams))
    cluster.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].CopyFrom(
        tls.packed(options)
    )
    cluster.transport_socket.CopyFrom(tls.hbone_client_socket(mesh, certificate=certificate))
    return cluster


def endpoint_cluster(name: str) -> cluster_pb2.Cluster:
    """A cluster for endpoints that are `lb_endpoint`s, without any yet."""
    cluster = cluster_pb2.Cluster(name=name, transport_socket=_TO_HOP)
    cluster.circuit_breakers.CopyFrom(parts.unlimited())
    return cluster


def lb_endpoint(end: DestinationEndpoint) -> endpoint_components_pb2.LbEndpoint:
    """An endpoint as one of the listeners inside the proxy, and what that listener has to know of it."""
    where = str(Endpoint(end.address, end.port))
    made = endpoint_components_pb2.LbEndpoint()
    made.endpoint.address.envoy_internal_address.server_listener_name = hop_name(end.transport)
    made.endpoint.address.envoy_internal_address.endpoint_id = where
    made.metadata.filter_metadata[_DESTINATION].update({"local": where})
    if end.transport is not Transport.PLAINTEXT:
        if end.identity is None:
            raise ValueError(f"{where} is to be spoken to in {end.transport.value}, but no identity is expected")
        made.metadata.filter_metadata[METADATA].update({SERVER: end.identity.uri})
    return made


def shard_endpoint(piece: str, whole: str, weight: int) -> endpoint_components_pb2.LbEndpoint:
    """A piece of a Service, by the name that it is asked for, as an endpoint of the Service at the place `whole`."""
    made = endpoint_components_pb2.LbEndpoint()
    made.endpoint.address.envoy_internal_address.server_listener_name = TO_SHARD
    made.endpoint.address.envoy_internal_address.endpoint_id = piece
    made.load_balancing_weight.value = weight
    made.metadata.filter_metadata[_DESTINATION].update({"local": whole})
    made.metadata.filter_metadata[METADATA].update({SHARD: piece})
    return made


def load_assignment(name: str, ends: Iterable[DestinationEndpoint]) -> endpoint_pb2.ClusterLoadAssignment:
    """The endpoints of a cluster, in whatever order they come."""
    made = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    if found := sorted(ends, key=lambda end: (end.address, end.port, end.transport)):
        made.endpoints.add(lb_endpoints=map(lb_endpoint, found))
    return made


def _to_hop() -> base_pb2.TransportSocket:
    config = internal_upstream_pb2.InternalUpstreamTransport(transport_socket=tls.raw_socket())
    for name in (METADATA, _DESTINATION):
        of_the_endpoint = metadata_pb2.MetadataKind(host=metadata_pb2.MetadataKind.Host())
        config.passthrough_metadata.add(kind=of_the_endpoint, name=name)
    return base_pb2.TransportSocket(name="envoy.transport_sockets.internal_upstream", typed_config=tls.packed(config))


_TO_HOP = _to_hop()
