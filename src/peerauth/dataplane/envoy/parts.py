"""The building blocks that every direction shares: addresses, TCP proxies, clusters."""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2, socket_option_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from google.protobuf import duration_pb2

from peerauth.dataplane.envoy.tls import packed
from peerauth.model.endpoint import Endpoint

OUTBOUND_PORT = 15001
INBOUND_PORT = 15006
HBONE_PORT = 15008
PROXY_PORTS = (OUTBOUND_PORT, INBOUND_PORT, HBONE_PORT)
"""The sidecar's own ports: never a destination that it forwards to."""

PROXY_MARK = 0x539
"""The mark on the sidecar's own connections; the redirection rules let them by."""
CALL_MARK = 0x53A
"""The mark on connections that speak mutual TLS for the application: one that ends at its own workload is taken in as
any other is, by the rules of `peerauth.agent.nft`."""

BLACKHOLE = "blackhole"
LOOP = "loop"
"""The chain of what must lead nowhere: it would come back to the proxy, or is not for its workload."""
PASSTHROUGH = "outbound|passthrough"
"""The chain and the cluster of what goes out as the application sent it."""
UNLIMITED = 0xFFFFFFFF
CONNECT_TIMEOUT_S = 10

KEEPALIVE_IDLE_S = 180
KEEPALIVE_PROBES = 9
"""As ztunnel does: a connection may be silent for ever, but not to a peer that is gone."""

_SOL_SOCKET = 1
_SO_KEEPALIVE = 9
_SO_MARK = 36
_IPPROTO_TCP = 6
_TCP_KEEPIDLE = 4
_TCP_KEEPINTVL = 5
_TCP_KEEPCNT = 6


def socket_address(address: str, port: int) -> address_pb2.Address:
    """A TCP address."""
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=address, port_value=port))


def endpoint_address(endpoint: Endpoint) -> address_pb2.Address:
    """An endpoint's address, TCP or Unix."""
    if endpoint.path:
        return address_pb2.Address(pipe=address_pb2.Pipe(path=endpoint.path))
    return socket_address(endpoint.address, endpoint.port)


def bind(listener: listener_pb2.Listener, addresses: Iterable[str], port: int) -> None:
    """Binds a listener to one port of one or more addresses."""
    # A process that shares the port (an Envoy left over from an earlier run, say) would get some of the connections.
    listener.enable_reuse_port.value = False
    first, *others = addresses
    listener.address.CopyFrom(socket_address(first, port))
    for other in others:
        listener.additional_addresses.add(address=socket_address(other, port))
    # Accepted connections inherit these.
    listener.socket_options.extend(
        socket_option_pb2.SocketOption(level=level, name=option, int_value=value)
        for level, option, value in (
            (_SOL_SOCKET, _SO_KEEPALIVE, 1),
            (_IPPROTO_TCP, _TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
            (_IPPROTO_TCP, _TCP_KEEPINTVL, KEEPALIVE_IDLE_S),
            (_IPPROTO_TCP, _TCP_KEEPCNT, KEEPALIVE_PROBES),
        )
    )


def restore_destination(listener: listener_pb2.Listener) -> None:
    """Finds out where a redirected connection was going."""
    listener.listener_filters.add(
        name="envoy.filters.listener.original_dst", typed_config=packed(original_dst_pb2.OriginalDst())
    )


def wildcards(addresses: Iterable[str]) -> tuple[str, ...]:
    """The unspecified address of each family that a workload has; IPv4 alone where it has none."""
    families = {":" in address for address in addresses} or {False}
    return tuple("::" if six else "0.0.0.0" for six in sorted(families))  # noqa: S104  redirected traffic only


def tcp_proxy(
    stat_prefix: str,
    cluster: str,
    *,
    log: accesslog_pb2.AccessLog | None = None,
    after_handshake: bool = False,
    tunnel: tcp_proxy_pb2.TcpProxy.TunnelingConfig | None = None,
    asking: tcp_proxy_pb2.TcpProxy.OnDemand | None = None,
) -> listener_components_pb2.Filter:
    """Forwards a connection to a cluster, without a limit on how long it may be silent.

    `after_handshake`: no connection is opened for a client before its certificate has been verified. `asking`: a
    cluster that the connection's filter state names and that is not there is asked for.
    """
    proxy = tcp_proxy_pb2.TcpProxy(
        stat_prefix=stat_prefix,
        cluster=cluster,
        idle_timeout=duration_pb2.Duration(),
        tunneling_config=tunnel,
        on_demand=asking,
    )
    if log is not None:
        proxy.access_log.append(log)
        proxy.access_log_options.flush_access_log_on_connected = True
    if after_handshake:
        proxy.upstream_connect_mode = tcp_proxy_pb2.ON_DOWNSTREAM_TLS_HANDSHAKE
        proxy.max_early_data_bytes.value = 0
    return listener_components_pb2.Filter(name="envoy.filters.network.tcp_proxy", typed_config=packed(proxy))


def cluster(name: str, *, mark: int | None, metadata: base_pb2.Metadata | None = None) -> cluster_pb2.Cluster:
    """A cluster without endpoints. `mark`: what the redirection rules know its connections by."""
    made = cluster_pb2.Cluster(
        name=name,
        connect_timeout=duration_pb2.Duration(seconds=CONNECT_TIMEOUT_S),
        circuit_breakers=unlimited(),
        metadata=metadata,
    )
    keep_alive(made)
    if mark is not None:
        made.upstream_bind_config.socket_options.append(
            socket_option_pb2.SocketOption(
                description="not redirected again", level=_SOL_SOCKET, name=_SO_MARK, int_value=mark
            )
        )
    return made


def over_ads() -> config_source_pb2.ConfigSource:
    """Where more of the configuration comes from: the same stream."""
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.V3
    )


def unlimited() -> circuit_breaker_pb2.CircuitBreakers:
    """Envoy's defaults (1024 connections) are for HTTP pools; here every client is one connection."""
    limits = circuit_breaker_pb2.CircuitBreakers.Thresholds()
    for limit in (limits.max_connections, limits.max_pending_requests, limits.max_requests, limits.max_retries):
        limit.value = UNLIMITED
    return circuit_breaker_pb2.CircuitBreakers(thresholds=[limits])


def keep_alive(cluster: cluster_pb2.Cluster) -> None:
    """Ends connections whose other end is gone. Not for clusters with an endpoint that is no TCP address."""
    keepalive = cluster.upstream_connection_options.tcp_keepalive
    keepalive.keepalive_time.value = keepalive.keepalive_interval.value = KEEPALIVE_IDLE_S
    keepalive.keepalive_probes.value = KEEPALIVE_PROBES


def static_cluster(
    name: str, endpoint: Endpoint | None, *, mark: int | None, metadata: base_pb2.Metadata | None = None
) -> cluster_pb2.Cluster:
    """A cluster of one endpoint, or of none: then every connection ends at once."""
    made = cluster(name, mark=mark, metadata=metadata)
    made.type = cluster_pb2.Cluster.STATIC
    made.load_assignment.cluster_name = name
    if endpoint is None or endpoint.path:
        made.ClearField("upstream_connection_options")
    if endpoint is not None:
        host = endpoint_components_pb2.Endpoint(address=endpoint_address(endpoint))
        made.load_assignment.endpoints.add(lb_endpoints=[endpoint_components_pb2.LbEndpoint(endpoint=host)])
    return made


def original_destination_cluster(
    name: str, *, mark: int | None, metadata: base_pb2.Metadata | None = None
) -> cluster_pb2.Cluster:
    """A cluster whose endpoint is wherever the connection was going before it was redirected."""
    made = cluster(name, mark=mark, metadata=metadata)
    made.type = cluster_pb2.Cluster.ORIGINAL_DST
    made.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED
    return made
