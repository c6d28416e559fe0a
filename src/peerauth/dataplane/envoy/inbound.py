"""Connections that arrive at the workload: one listener per port, so that no port's change touches another's.

A listener's filter chains are what its mode is; everything else in it is the same for PERMISSIVE and STRICT, and so is
the chain `mtls_PORT`: Envoy then replaces only the other chains, and mutual-TLS connections outlive the change while
plaintext ends. DISABLE has no listener filters at all, because waiting for a first byte would hang protocols in which
the server speaks first.

The wait for a first flight ends after the mesh's protocol detection timeout; the connection then counts as plaintext,
in both modes: PERMISSIVE lets a silent or slow client through late, STRICT refuses it.
"""

from __future__ import annotations

import ipaddress

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from google.protobuf import duration_pb2

from peerauth.dataplane.envoy import accesslog, hbone, parts, tls
from peerauth.dataplane.envoy.sidecar_values import ApplicationPort, SidecarWorkload
from peerauth.model.endpoint import Endpoint
from peerauth.model.placement import Capture
from peerauth.policy.decision import Dataplane, EffectiveMode

ANY = "any"
"""Stands for the port in the names of what serves ports that no one declared."""
VIRTUAL_INBOUND = "virtualInbound"

_Match = listener_components_pb2.FilterChainMatch


def port_listeners(workload: SidecarWorkload) -> list[listener_pb2.Listener]:
    """One for each port that has one, and for transparent capture the one that catches the rest."""
    listeners = [_port_listener(workload, port) for port in served_ports(workload)]
    if workload.capture is Capture.TRANSPARENT:
        listeners.append(_virtual_inbound(workload))
    return listeners


def inbound_clusters(workload: SidecarWorkload) -> list[cluster_pb2.Cluster]:
    """The application behind each port, each with the reason of the port's mode, and where refused connections go."""
    declared = {port.number: port for port in workload.declared}
    clusters = [parts.static_cluster(parts.BLACKHOLE, None, mark=None)]
    for port in served_ports(workload):
        clusters.append(_application(workload, declared.get(port, ApplicationPort(port))))
    if workload.capture is Capture.TRANSPARENT:
        name, why = inbound_cluster(ANY), _why(workload, None)
        clusters.append(parts.original_destination_cluster(name, mark=parts.PROXY_MARK, metadata=why))
        clusters.append(hbone.tunneled_cluster())
    return clusters


def served_ports(workload: SidecarWorkload) -> list[int]:
    """The ports with a listener of their own: the declared, and where all are captured those that a policy names."""
    ports = {port.number for port in workload.declared}
    if workload.capture is Capture.TRANSPARENT:
        ports |= {entry.port for entry in workload.decision.ports}
    return sorted(ports - set(parts.PROXY_PORTS))


def inbound_cluster(port: int | str) -> str:
    """The name of the cluster that is the application behind a port."""
    return f"inbound|{port}"


def mode_in_force(workload: SidecarWorkload, port: int | None) -> EffectiveMode:
    """What the sidecar does on a port; None is every port that no one declared."""
    return Dataplane.SIDECAR.in_force(workload.decision.mode_of(port))


def _port_listener(workload: SidecarWorkload, port: int) -> listener_pb2.Listener:
    mode = mode_in_force(workload, port)
    listener = _listener(workload, f"inbound_{port}", _chains(workload, port, mode))
    if mode is not EffectiveMode.DISABLE:
        _inspect(listener, workload)
    if workload.capture is Capture.EXPLICIT:
        parts.bind(listener, workload.addresses, port)
    else:
        parts.bind(listener, parts.wildcards(workload.addresses), port)
        listener.bind_to_port.value = False
        del listener.socket_options[:]
    return listener


def _virtual_inbound(workload: SidecarWorkload) -> listener_pb2.Listener:
    mode = mode_in_force(workload, None)
    chains = [_loop_chain(workload), *_chains(workload, None, mode)]
    listener = _listener(workload, VIRTUAL_INBOUND, chains)
    parts.bind(listener, parts.wildcards(workload.addresses), parts.INBOUND_PORT)
    listener.use_original_dst.value = True
    parts.restore_destination(listener)
    if mode is not EffectiveMode.DISABLE:
        _inspect(listener, workload)
        # Ports with a listener of their own are handed to it after these filters: it decides whether to wait.
        _skip_ports(listener.listener_filters[-1], (*served_ports(workload), *parts.PROXY_PORTS))
    return listener


def _listener(
    workload: SidecarWorkload, name: str, chains: list[listener_components_pb2.FilterChain]
) -> listener_pb2.Listener:
    return listener_pb2.Listener(
        name=name,
        stat_prefix=name,
        traffic_direction=base_pb2.INBOUND,
        filter_chains=chains,
        access_log=[accesslog.connection_end(workload.key)],
    )


def _inspect(listener: listener_pb2.Listener, workload: SidecarWorkload) -> None:
    inspector = tls_inspector_pb2.TlsInspector()
    listener.listener_filters.add(name="envoy.filters.listener.tls_inspector", typed_config=tls.packed(inspector))
    listener.listener_filters_timeout.FromTimedelta(workload.mesh.protocol_detection_timeout)
    listener.continue_on_listener_filters_timeout = True


def _skip_ports(inspector: listener_components_pb2.ListenerFilter, ports: tuple[int, ...]) -> None:
    rules = []
    for port in sorted(ports):
        rule = listener_components_pb2.ListenerFilterChainMatchPredicate()
        rule.destination_port_range.start, rule.destination_port_range.end = port, port + 1
        rules.append(rule)
    inspector.filter_disabled.or_match.rules.extend(rules)


def _chains(
    workload: SidecarWorkload, port: int | None, mode: EffectiveMode
) -> list[listener_components_pb2.FilterChain]:
    label = ANY if port is None else str(port)
    start = accesslog.connection_start(workload.key)
    to = inbound_cluster(label)
    match mode:
        case EffectiveMode.DISABLE:
            return [_chain(f"disabled_{label}", _Match(), to, start)]
        case EffectiveMode.PERMISSIVE:
            return [
                _mutual_tls(workload, f"mtls_{label}", tls.ISTIO_ALPN, to),
                _chain(f"tlspass_{label}", _Match(transport_protocol="tls"), to, start),
                _chain(f"plain_{label}", _Match(transport_protocol="raw_buffer"), to, start),
            ]
        case EffectiveMode.STRICT:
            refused = _chain(f"refused_{label}", _Match(transport_protocol="raw_buffer"), parts.BLACKHOLE, None)
            refused.metadata.CopyFrom(_why(workload, port))
            return [
                _mutual_tls(workload, f"mtls_{label}", tls.ISTIO_ALPN, to),
                _mutual_tls(workload, f"mtlsany_{label}", (), to),
                refused,
            ]


def _chain(
    name: str, match: listener_components_pb2.FilterChainMatch, to: str, log: accesslog_pb2.AccessLog | None
) -> listener_components_pb2.FilterChain:
    return listener_components_pb2.FilterChain(
        name=name, filter_chain_match=match, filters=[parts.tcp_proxy(name, to, log=log)]
    )


def _mutual_tls(
    workload: SidecarWorkload, name: str, alpn: tuple[str, ...], to: str
) -> listener_components_pb2.FilterChain:
    log = accesslog.connection_start(workload.key)
    return listener_components_pb2.FilterChain(
        name=name,
        filter_chain_match=_Match(transport_protocol="tls", application_protocols=alpn),
        transport_socket=tls.server_socket(workload.mesh),
        transport_socket_connect_timeout=duration_pb2.Duration(seconds=tls.HANDSHAKE_TIMEOUT_S),
        filters=[parts.tcp_proxy(name, to, log=log, after_handshake=True)],
    )


def hbone_listener(workload: SidecarWorkload) -> listener_pb2.Listener:
    """Tunnels, to every port that is served; where all are captured also to those that nobody declared.

    Whatever the mode of a port, HBONE is let in there: no mode is in it.
    """
    transparent = workload.capture is Capture.TRANSPARENT
    served = {port: _behind_tunnels(workload, port) for port in served_ports(workload)}
    hosts = hbone.own_hosts(workload.addresses, served=served, others=hbone.TUNNELED if transparent else "")
    listener = hbone.listener(hbone.HBONE, workload=workload.key, mesh=workload.mesh, hosts=hosts)
    addresses = parts.wildcards(workload.addresses) if transparent else workload.addresses
    parts.bind(listener, addresses, parts.HBONE_PORT)
    return listener


def _behind_tunnels(workload: SidecarWorkload, port: int) -> str:
    """A tunnel was not redirected: what goes to the original destination otherwise goes to `:authority` here."""
    at_own_address = all(declared.endpoint is None for declared in workload.declared if declared.number == port)
    return hbone.TUNNELED if at_own_address and workload.capture is Capture.TRANSPARENT else inbound_cluster(port)


def _loop_chain(workload: SidecarWorkload) -> listener_components_pb2.FilterChain:
    """Connections to the sidecar's own port would come back to it for ever."""
    match = _Match()
    match.destination_port.value = parts.INBOUND_PORT
    return _chain(parts.LOOP, match, parts.BLACKHOLE, None)


def _application(workload: SidecarWorkload, port: ApplicationPort) -> cluster_pb2.Cluster:
    name, why = inbound_cluster(port.number), _why(workload, port.number)
    transparent = workload.capture is Capture.TRANSPARENT
    if port.endpoint is None and transparent:
        return parts.original_destination_cluster(name, mark=parts.PROXY_MARK, metadata=why)
    endpoint = None if _comes_back(workload, port.endpoint) else port.endpoint
    return parts.static_cluster(name, endpoint, mark=parts.PROXY_MARK if transparent else None, metadata=why)


def _comes_back(workload: SidecarWorkload, endpoint: Endpoint | None) -> bool:
    """Whether connecting there reaches the sidecar itself: then there must be no endpoint at all.

    In transparent capture it has its own ports on every address of the namespace, and those alone; in explicit capture
    it has the workload's addresses, and there the declared ports too.
    """
    if endpoint is None or endpoint.path:
        return False
    if workload.capture is Capture.TRANSPARENT:
        here = endpoint.address in workload.addresses or ipaddress.ip_address(endpoint.address).is_loopback
        return here and endpoint.port in parts.PROXY_PORTS
    own = {port.number for port in workload.declared} | set(parts.PROXY_PORTS)
    return endpoint.address in workload.addresses and endpoint.port in own


def _why(workload: SidecarWorkload, port: int | None) -> base_pb2.Metadata:
    return accesslog.reason_metadata(mode_in_force(workload, port), workload.decision.deciding(port))
