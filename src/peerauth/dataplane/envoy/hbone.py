"""HBONE, terminated: HTTP/2 CONNECT over mutual TLS on port 15008, by sidecars and the node's proxy, under every mode.

A tunnel always requires a certificate of the mesh, so no PeerAuthentication touches this listener (Istio's sidecars do
the same). `:authority` must be the workload's own address. Status codes as Istio's ztunnel gives them: 400 for what is
not a CONNECT to this workload, 503 for the proxy's own ports and for an application that cannot be reached.

A limit of Envoy 1.40: when the application closes first, the tunnel ends in both directions, and what the client's
window has no room for at that moment is lost. A client that leaves room for `STREAM_WINDOW` loses nothing of an answer
up to that size; of a longer one that the server ends, a slow client may lose the tail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, protocol_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from google.protobuf import duration_pb2

from peerauth.dataplane.envoy import accesslog, parts, tls
from peerauth.model.endpoint import Endpoint
from peerauth.model.inventory import WorkloadKey
from peerauth.model.mesh import MeshConfig

HBONE = "hbone"
TUNNELED = "inbound|hbone"

MAX_STREAMS = 200
STREAM_WINDOW = 4 << 20
CONNECTION_WINDOW = 16 << 20
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"


def listener(
    name: str,
    *,
    workload: WorkloadKey,
    mesh: MeshConfig,
    hosts: Iterable[route_components_pb2.VirtualHost],
    certificate: str = tls.CERTIFICATE_SECRET,
    streams: int = MAX_STREAMS,
    before: Iterable[listener_components_pb2.Filter] = (),
) -> listener_pb2.Listener:
    """The listener of a workload's tunnels, still without an address; `hosts` say what each CONNECT request gets.

    `certificate` names the server's secret. `streams` is how many tunnels one connection may carry at a time. `before`
    are filters that a connection goes through first.
    """
    handshake = duration_pb2.Duration(seconds=tls.HANDSHAKE_TIMEOUT_S)
    chain = listener_components_pb2.FilterChain(
        name=HBONE,
        # Without the match a client that names no protocol would be let in: TLS itself does not insist on ALPN.
        filter_chain_match=listener_components_pb2.FilterChainMatch(
            transport_protocol="tls", application_protocols=tls.HBONE_ALPN
        ),
        transport_socket=tls.hbone_server_socket(mesh, certificate=certificate),
        transport_socket_connect_timeout=handshake,
        filters=[*before, _connection_manager(workload, hosts=hosts, streams=streams)],
    )
    made = listener_pb2.Listener(
        name=name,
        stat_prefix=HBONE,
        traffic_direction=base_pb2.INBOUND,
        filter_chains=[chain],
        access_log=[accesslog.connection_end(workload)],
        listener_filters_timeout=handshake,
    )
    inspector = tls.packed(tls_inspector_pb2.TlsInspector())
    made.listener_filters.add(name="envoy.filters.listener.tls_inspector", typed_config=inspector)
    return made


def tunneled_cluster() -> cluster_pb2.Cluster:
    """The cluster that goes where `:authority` says: a tunnel was not redirected, so that is its destination."""
    cluster = parts.original_destination_cluster(TUNNELED, mark=parts.PROXY_MARK)
    cluster.original_dst_lb_config.use_http_header = True
    cluster.original_dst_lb_config.http_header_name = ":authority"
    return cluster


def _connection_manager(
    workload: WorkloadKey, *, hosts: Iterable[route_components_pb2.VirtualHost], streams: int
) -> listener_components_pb2.Filter:
    manager = hcm_pb2.HttpConnectionManager(
        stat_prefix=HBONE,
        codec_type=hcm_pb2.HttpConnectionManager.HTTP2,
        route_config=route_pb2.RouteConfiguration(name=HBONE, virtual_hosts=hosts),
        http_filters=[
            hcm_pb2.HttpFilter(name="envoy.filters.http.router", typed_config=tls.packed(router_pb2.Router()))
        ],
        upgrade_configs=[hcm_pb2.HttpConnectionManager.UpgradeConfig(upgrade_type="CONNECT")],
        access_log=accesslog.tunnel_logs(workload),
        stream_idle_timeout=duration_pb2.Duration(),  # a tunnelled connection may be silent for as long as any other
        server_header_transformation=hcm_pb2.HttpConnectionManager.PASS_THROUGH,
        http2_protocol_options=http2_options(streams=streams),
    )
    manager.access_log_options.flush_log_on_tunnel_successfully_established = True
    manager.use_remote_address.value = True
    manager.generate_request_id.value = False
    return listener_components_pb2.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=tls.packed(manager)
    )


def http2_options(*, streams: int = MAX_STREAMS) -> protocol_pb2.Http2ProtocolOptions:
    """The windows and limits of ztunnel, and its pings."""
    options = protocol_pb2.Http2ProtocolOptions(allow_connect=True)
    options.max_concurrent_streams.value = streams
    options.initial_stream_window_size.value = STREAM_WINDOW
    options.initial_connection_window_size.value = CONNECTION_WINDOW
    options.connection_keepalive.interval.seconds = 10
    options.connection_keepalive.timeout.seconds = 20
    return options


def own_hosts(
    addresses: Iterable[str], *, served: Mapping[int, str], others: str = ""
) -> list[route_components_pb2.VirtualHost]:
    """What CONNECT requests to a workload at these addresses get; any other request, and any other authority, gets 400.

    `served` has the cluster of each port that is served; `others` is the cluster of every other port, none if empty.
    """
    own = [str(Endpoint(address, 0)).removesuffix(":0") for address in addresses]
    hosts = [
        _host(f"port_{port}", [f"{host}:{port}" for host in own], [_connect(cluster)])
        for port, cluster in served.items()
    ]
    for port in parts.PROXY_PORTS:
        hosts.append(_host(f"self_{port}", [f"{host}:{port}" for host in own], [_answer(503)]))
    rest = [_connect(others, authority=f"{_escaped(host)}:{_PORT}") for host in own if others]
    hosts.append(_host("other", ["*"], [*rest, _answer(400)]))
    return hosts


def _escaped(host: str) -> str:
    return host.replace(".", "\\.").replace("[", "\\[").replace("]", "\\]")


def _host(
    name: str, domains: list[str], routes: Iterable[route_components_pb2.Route]
) -> route_components_pb2.VirtualHost:
    # Whatever is not a CONNECT falls through to the 400 at the end.
    return route_components_pb2.VirtualHost(name=name, domains=domains, routes=[*routes, _answer(400, anything=True)])


def _connect(cluster: str, *, authority: str = "") -> route_components_pb2.Route:
    route = route_components_pb2.Route(
        match=_connect_match(authority),
        route=route_components_pb2.RouteAction(
            cluster=cluster, timeout=duration_pb2.Duration(), idle_timeout=duration_pb2.Duration()
        ),
    )
    upgrade = route.route.upgrade_configs.add(upgrade_type="CONNECT")
    upgrade.connect_config.SetInParent()
    return route


def _connect_match(authority: str = "") -> route_components_pb2.RouteMatch:
    match = route_components_pb2.RouteMatch(connect_matcher=route_components_pb2.RouteMatch.ConnectMatcher())
    if authority:
        header = match.headers.add(name=":authority")
        header.string_match.safe_regex.regex = authority
    return match


def _answer(status: int, *, anything: bool = False) -> route_components_pb2.Route:
    match = route_components_pb2.RouteMatch(prefix="/") if anything else _connect_match()
    return route_components_pb2.Route(
        match=match, direct_response=route_components_pb2.DirectResponseAction(status=status)
    )
