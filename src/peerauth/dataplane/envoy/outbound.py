"""Connections that leave the workload: auto mTLS to endpoints of the mesh, everything else as the application sent it.

Transparent capture: one listener on 15001 gets whatever the application dials, and asks what is there (`captured`).
Explicit capture: one listener per `Sidecar` egress port, in front of the endpoints of the hosts it names. Both lead to
the listeners inside the proxy that speak each transport (`hops`); an endpoint brings where it is and whom to expect.

A server that cannot prove the expected identity gets nothing: there is no way back to plaintext.
"""

from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2

from peerauth.dataplane.envoy import accesslog, captured, filterstate, hops, parts, tls
from peerauth.dataplane.envoy.hbone import MAX_STREAMS
from peerauth.dataplane.envoy.shards import shard_listener
from peerauth.dataplane.envoy.sidecar_values import EgressPort, SidecarWorkload
from peerauth.model.placement import Capture
from peerauth.policy.outbound import Transport

VIRTUAL_OUTBOUND = "virtualOutbound"

_WAYS = {
    Transport.MUTUAL_TLS: "outbound|mtls",
    Transport.HBONE: "outbound|hbone",
    Transport.PLAINTEXT: parts.PASSTHROUGH,
}
"""The cluster that makes the connections of each transport."""


def outbound_listeners(workload: SidecarWorkload) -> list[listener_pb2.Listener]:
    """What the application dials, knowingly or not, and for each transport the listener inside the proxy."""
    if workload.capture is Capture.TRANSPARENT:
        dialled = [_virtual_outbound(workload), shard_listener(workload.key)]
    else:
        dialled = [_egress_listener(workload, port) for port in sorted(workload.egress, key=_egress_name)]
    spoken = [hops.hop_listener(transport, cluster, workload=workload.key) for transport, cluster in _WAYS.items()]
    return [*dialled, *spoken] if dialled else []


def outbound_clusters(workload: SidecarWorkload) -> list[cluster_pb2.Cluster]:
    """Where those connections go on to."""
    if workload.capture is Capture.TRANSPARENT:
        return _ways(workload, marked=True)
    clusters = [_egress_cluster(port) for port in sorted(workload.egress, key=_egress_name)]
    return [*clusters, *_ways(workload, marked=False)] if clusters else []


def _ways(workload: SidecarWorkload, *, marked: bool) -> list[cluster_pb2.Cluster]:
    mark = parts.PROXY_MARK if marked else None
    mutual_tls, hbone = _WAYS[Transport.MUTUAL_TLS], _WAYS[Transport.HBONE]
    certificate = tls.CERTIFICATE_SECRET
    return [
        parts.original_destination_cluster(_WAYS[Transport.PLAINTEXT], mark=mark),
        hops.mutual_tls_cluster(mutual_tls, mesh=workload.mesh, mark=parts.CALL_MARK if marked else None),
        hops.hbone_cluster(hbone, mesh=workload.mesh, mark=mark, certificate=certificate, streams=MAX_STREAMS),
    ]


def _virtual_outbound(workload: SidecarWorkload) -> listener_pb2.Listener:
    listener = _listener(workload, VIRTUAL_OUTBOUND)
    parts.bind(listener, parts.wildcards(workload.addresses), parts.OUTBOUND_PORT)
    parts.restore_destination(listener)
    captured.lead(listener, own=workload.addresses, ranges=workload.ranges, mesh=workload.mesh)
    return listener


def _egress_name(port: EgressPort) -> str:
    return f"egress|{port.port}|{port.name}"


def _egress_listener(workload: SidecarWorkload, port: EgressPort) -> listener_pb2.Listener:
    name = _egress_name(port)
    listener = _listener(workload, name)
    filters = [filterstate.remember([captured.REMEMBER_SOURCE]), parts.tcp_proxy(name, name)]
    listener.filter_chains.append(listener_components_pb2.FilterChain(name=name, filters=filters))
    parts.bind(listener, [port.bind], port.port)
    return listener


def _egress_cluster(port: EgressPort) -> cluster_pb2.Cluster:
    cluster = hops.endpoint_cluster(_egress_name(port))
    cluster.type = cluster_pb2.Cluster.STATIC
    cluster.load_assignment.CopyFrom(hops.load_assignment(cluster.name, port.endpoints))
    return cluster


def _listener(workload: SidecarWorkload, name: str) -> listener_pb2.Listener:
    return listener_pb2.Listener(
        name=name,
        stat_prefix=name,
        traffic_direction=base_pb2.OUTBOUND,
        access_log=[accesslog.not_handed_on(workload.key)],
    )
