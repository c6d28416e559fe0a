"""What an Envoy is started with: who it is, where its control plane and its certificates are.

Both are Unix sockets of the agent beside it, which holds the credentials; the Envoy itself has none and opens no TCP
port that discovery has not named: no admin port, no metrics port. Until the control plane has answered and the
certificates are there, nothing listens.
"""

from __future__ import annotations

import msgspec
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, config_source_pb2, grpc_service_pb2, protocol_pb2
from envoy.config.overload.v3 import overload_pb2
from envoy.extensions.bootstrap.internal_listener.v3 import internal_listener_pb2
from envoy.extensions.resource_monitors.downstream_connections.v3 import downstream_connections_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import duration_pb2, json_format, struct_pb2

from peerauth.dataplane.envoy import parts
from peerauth.dataplane.envoy.destinations import PREFIX as DESTINATION
from peerauth.dataplane.envoy.tls import SDS_CLUSTER, packed
from peerauth.model.endpoint import Endpoint

XDS_CLUSTER = "xds-grpc"
RECONNECT_MS = (100, 1000)
"""The least and the most that Envoy waits before it tries to reach its control plane again, at random between."""
MAX_CONNECTIONS = 50_000
"""Clients beyond this are turned away at once, so that a flood cannot take the file descriptors of discovery."""


class Sockets(msgspec.Struct, frozen=True):
    """Paths of the Unix sockets an Envoy uses: its own admin interface, discovery (ADS) and certificates (SDS).

    At most 107 bytes each: the kernel's limit.
    """

    admin: str
    xds: str
    sds: str


def bootstrap(node_id: str, *, cluster: str, sockets: Sockets, metadata: tuple[tuple[str, str], ...] = ()) -> str:
    """The bootstrap as JSON, for `envoy --config-path FILE.json`. It opens no port before the control plane answers.

    `metadata` becomes the node's metadata that the control plane sees (`NAMESPACE`, `NAME`, ...).
    """
    node = base_pb2.Node(id=node_id, cluster=cluster)
    if metadata:
        node.metadata.update(dict(metadata))
    message = bootstrap_pb2.Bootstrap(node=node, dynamic_resources=_discovery(), overload_manager=_overload())
    message.admin.address.CopyFrom(parts.endpoint_address(Endpoint(path=sockets.admin)))
    for name, path in ((XDS_CLUSTER, sockets.xds), (SDS_CLUSTER, sockets.sds)):
        message.static_resources.clusters.append(_agent_cluster(name, path))
    message.bootstrap_extensions.add(
        name="envoy.bootstrap.internal_listener", typed_config=packed(internal_listener_pb2.InternalListener())
    )
    message.layered_runtime.layers.add(name="static", static_layer=_runtime())
    _stay_small(message)
    return json_format.MessageToJson(message, preserving_proto_field_name=True, sort_keys=True)


def _discovery() -> bootstrap_pb2.Bootstrap.DynamicResources:
    envoy_grpc = grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=XDS_CLUSTER)
    # A control plane that comes back is asked before those who wait for its answer are out of time.
    back_off = envoy_grpc.retry_policy.retry_back_off
    back_off.base_interval.FromMilliseconds(RECONNECT_MS[0])
    back_off.max_interval.FromMilliseconds(RECONNECT_MS[1])
    ads = config_source_pb2.ApiConfigSource(
        api_type=config_source_pb2.ApiConfigSource.DELTA_GRPC,
        transport_api_version=config_source_pb2.V3,
        grpc_services=[grpc_service_pb2.GrpcService(envoy_grpc=envoy_grpc)],
        # Without it every acknowledgement carries the node again: 61 KB.
        set_node_on_first_message_only=True,
    )
    source = config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        resource_api_version=config_source_pb2.V3,
        initial_fetch_timeout=duration_pb2.Duration(),  # for ever: no configuration, no port
    )
    return bootstrap_pb2.Bootstrap.DynamicResources(ads_config=ads, lds_config=source, cds_config=source)


def _stay_small(message: bootstrap_pb2.Bootstrap) -> None:
    """A destination costs what its use costs: it has no statistics of its own, and is nothing before its first use."""
    message.stats_config.stats_matcher.exclusion_list.patterns.add(prefix=f"cluster.{DESTINATION}")
    message.cluster_manager.enable_deferred_cluster_creation = True
    message.deferred_stat_options.enable_deferred_creation_stats = True


def _agent_cluster(name: str, path: str) -> cluster_pb2.Cluster:
    cluster = parts.static_cluster(name, Endpoint(path=path), mark=None)
    http2 = protocol_pb2.Http2ProtocolOptions()
    http2.connection_keepalive.interval.seconds = 30
    http2.connection_keepalive.timeout.seconds = 10
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.explicit_http_config.http2_protocol_options.CopyFrom(http2)
    cluster.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].CopyFrom(
        packed(options)
    )
    return cluster


def _runtime() -> struct_pb2.Struct:
    """Behaviour of Envoy 1.40 that only its runtime can change.

    A listener inside the proxy would take the orderly end of a tunnel (END_STREAM, then RST_STREAM) for a reset, and
    a reset costs the client what is still under way.
    """
    layer = struct_pb2.Struct()
    layer.update({"envoy.reloadable_features.enable_send_rst_on_user_space_socket": False})
    return layer


def _overload() -> overload_pb2.OverloadManager:
    manager = overload_pb2.OverloadManager()
    limit = downstream_connections_pb2.DownstreamConnectionsConfig(max_active_downstream_connections=MAX_CONNECTIONS)
    manager.resource_monitors.add(
        name="envoy.resource_monitors.global_downstream_max_connections", typed_config=packed(limit)
    )
    return manager
