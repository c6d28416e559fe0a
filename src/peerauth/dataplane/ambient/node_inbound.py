"""Connections that arrive at an ambient workload: HBONE on 15008, everything else on 15006, both in its namespace.

Plaintext is admitted or refused by where it was going: a matcher of ports over filter chains, one for each port that
is declared or named by a policy and one for the rest. A chain is what its port's mode is, so a change of mode replaces
that chain alone: Envoy closes its connections and leaves every other. Nothing looks at the bytes: a certificate of the
mesh does not help outside HBONE, and the application's own TLS is the application's.

HBONE always requires a certificate of the mesh, so no PeerAuthentication touches 15008. Facts: Istio's ztunnel.

Explicit capture has no namespace and no redirection: there is a listener for each declared port on the workload's own
address instead of the one on 15006, and a cluster for the application behind it.
"""

from __future__ import annotations

import ipaddress

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.matching.common_inputs.network.v3 import network_inputs_pb2
from xds.type.matcher.v3 import matcher_pb2

from peerauth.dataplane.ambient import node_parts
from peerauth.dataplane.ambient.node_values import NodeWorkload
from peerauth.dataplane.envoy import accesslog, hbone, matching, parts
from peerauth.dataplane.envoy.inbound import ANY
from peerauth.model.endpoint import Endpoint
from peerauth.model.mesh import MeshConfig
from peerauth.policy.decision import EffectiveMode

PLAINTEXT = "inbound|plaintext"
MAX_STREAMS = 2048
"""Tunnels in one connection. One node's proxy stands for all of its workloads; a peer of ztunnel's kind opens 100."""


def inbound_listeners(workload: NodeWorkload, *, mesh: MeshConfig) -> list[listener_pb2.Listener]:
    """HBONE's listener, and the one for plaintext or, in explicit capture, one for each declared port."""
    if not workload.namespace:
        return [*(_declared(workload, port) for port in _served(workload)), _hbone(workload, mesh)]
    return [_plaintext(workload), _hbone(workload, mesh)]


def application_clusters(workload: NodeWorkload) -> list[cluster_pb2.Cluster]:
    """In explicit capture: the application behind each declared port. Never the proxy itself, which has the address."""
    own = workload.application in {"", *workload.addresses}
    return [
        parts.static_cluster(
            _application(workload, port), None if own else Endpoint(workload.application, port), mark=None
        )
        for port in _served(workload)
        if not workload.namespace
    ]


def inbound_clusters() -> list[cluster_pb2.Cluster]:
    """The ways to applications in namespaces, the same for all: each in the namespace of the connection it is for."""
    plaintext = parts.original_destination_cluster(PLAINTEXT, mark=parts.PROXY_MARK)
    blackhole = parts.static_cluster(parts.BLACKHOLE, None, mark=None)
    return [blackhole, node_parts.connect_inside(plaintext), node_parts.connect_inside(hbone.tunneled_cluster())]


def _plaintext(workload: NodeWorkload) -> listener_pb2.Listener:
    ports = _ports_apart(workload)
    chains = [_chain(workload, parts.LOOP, parts.BLACKHOLE), *(_port_chain(workload, port) for port in (*ports, None))]
    listener = _listener(workload, f"inbound|{workload.key}", chains)
    node_parts.bind_inside(listener, workload, parts.INBOUND_PORT)
    parts.restore_destination(listener)
    listener.filter_chain_matcher.CopyFrom(_matcher(workload, ports))
    return listener


def _declared(workload: NodeWorkload, port: int) -> listener_pb2.Listener:
    listener = _listener(workload, f"inbound|{workload.key}|{port}", [_port_chain(workload, port)])
    node_parts.bind_inside(listener, workload, port)
    return listener


def _served(workload: NodeWorkload) -> list[int]:
    return sorted(set(workload.ports) - set(parts.PROXY_PORTS))


def _application(workload: NodeWorkload, port: int | None) -> str:
    """The cluster behind a port."""
    return PLAINTEXT if workload.namespace else f"inbound|{workload.key}|{port}"


def _ports_apart(workload: NodeWorkload) -> tuple[int, ...]:
    named = {entry.port for entry in workload.decision.ports}
    return tuple(sorted((named | set(workload.ports)) - set(parts.PROXY_PORTS)))


def _matcher(workload: NodeWorkload, ports: tuple[int, ...]) -> matcher_pb2.Matcher:
    """Own addresses only: the redirection takes whatever is sent to the namespace, and this is no router."""
    by_port = {str(port): matching.to_chain(parts.LOOP) for port in parts.PROXY_PORTS}
    by_port |= {str(port): matching.to_chain(_chain_name(workload, port)) for port in ports}
    any_port = matching.to_chain(_chain_name(workload, None))
    to_port = matching.lookup(network_inputs_pb2.DestinationPortInput(), by_port, otherwise=any_port)
    own = {ipaddress.ip_address(address).compressed: to_port for address in workload.addresses}
    elsewhere = matching.to_chain(parts.LOOP)
    return matching.lookup(network_inputs_pb2.DestinationIPInput(), own, otherwise=elsewhere).matcher


def _chain_name(workload: NodeWorkload, port: int | None) -> str:
    strict = workload.mode_in_force(port) is EffectiveMode.STRICT
    return f"{'refused' if strict else 'plain'}_{ANY if port is None else port}"


def _port_chain(workload: NodeWorkload, port: int | None) -> listener_components_pb2.FilterChain:
    strict = workload.mode_in_force(port) is EffectiveMode.STRICT
    chain = _chain(workload, _chain_name(workload, port), parts.BLACKHOLE if strict else _application(workload, port))
    if strict:
        why = workload.decision.deciding(port)
        chain.metadata.CopyFrom(accesslog.reason_metadata(workload.mode_in_force(port), why))
    elif port is None:
        # A port that nobody declared and a policy now refuses was this chain's until then: let it begin anew.
        undeclared = set(_ports_apart(workload)) - set(workload.ports)
        refused = [p for p in sorted(undeclared) if workload.mode_in_force(p) is EffectiveMode.STRICT]
        if refused:
            chain.metadata.filter_metadata["peerauth.without"].update({"ports": ",".join(map(str, refused))})
    return chain


def _chain(workload: NodeWorkload, name: str, cluster: str) -> listener_components_pb2.FilterChain:
    if cluster == parts.BLACKHOLE:
        return listener_components_pb2.FilterChain(name=name, filters=[parts.tcp_proxy(name, cluster)])
    proxy = parts.tcp_proxy(name, cluster, log=accesslog.connection_start(workload.key))
    return listener_components_pb2.FilterChain(name=name, filters=[*node_parts.inside(workload), proxy])


def _hbone(workload: NodeWorkload, mesh: MeshConfig) -> listener_pb2.Listener:
    declared = {} if workload.namespace else {port: _application(workload, port) for port in _served(workload)}
    others = hbone.TUNNELED if workload.namespace else ""
    hosts = hbone.own_hosts(workload.addresses, served=declared, others=others)
    listener = hbone.listener(
        f"{hbone.HBONE}|{workload.key}",
        workload=workload.key,
        mesh=mesh,
        hosts=hosts,
        certificate=workload.identity.uri,
        streams=MAX_STREAMS,
        before=node_parts.inside(workload),
    )
    node_parts.bind_inside(listener, workload, parts.HBONE_PORT)
    return listener


def _listener(
    workload: NodeWorkload, name: str, chains: list[listener_components_pb2.FilterChain]
) -> listener_pb2.Listener:
    return listener_pb2.Listener(
        name=name,
        stat_prefix=name.partition("|")[0],
        traffic_direction=base_pb2.INBOUND,
        filter_chains=chains,
        access_log=[accesslog.connection_end(workload.key)],
    )
