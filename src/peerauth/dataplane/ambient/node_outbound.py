"""Connections that leave an ambient workload: HBONE to the mesh, with the workload's own certificate; the rest as sent.

A workload's listener on 15001 knows the workload and nothing of the mesh: where a connection was going is the name of
what the proxy asks for (`envoy.captured`). What the listener knows travels as filter state: the namespace that the
connection stays in, and the cluster that has the workload's certificate, of which there is one for each identity of the
node. Nothing on a node names a workload that is not its own.
"""

from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2

from peerauth.dataplane.ambient import node_parts
from peerauth.dataplane.ambient.node_inbound import MAX_STREAMS
from peerauth.dataplane.ambient.node_values import NodeWorkload
from peerauth.dataplane.envoy import accesslog, captured, filterstate, hops, parts
from peerauth.dataplane.envoy.filterstate import NEXT_HOP, STRING, literal, state
from peerauth.dataplane.envoy.shards import shard_listener
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.mesh import MeshConfig
from peerauth.policy.outbound import Transport

SOURCE = "peerauth.source_cluster"
WORKLOAD = "peerauth.workload"
"""Filter state of the workload's listener: the cluster with its certificate, and its name."""


def workload_listener(workload: NodeWorkload, *, mesh: MeshConfig, ranges: tuple[str, ...]) -> listener_pb2.Listener:
    """The listener on 15001 in one workload's namespace."""
    listener = listener_pb2.Listener(
        name=f"outbound|{workload.key}",
        stat_prefix="outbound",
        traffic_direction=base_pb2.OUTBOUND,
        access_log=[accesslog.not_handed_on(workload.key)],
    )
    node_parts.bind_inside(listener, workload, parts.OUTBOUND_PORT)
    parts.restore_destination(listener)
    knows = [
        node_parts.namespace_of(workload),
        state(SOURCE, literal(source_cluster_name(workload.identity)), factory=STRING, shared=NEXT_HOP),
        state(WORKLOAD, literal(str(workload.key)), factory=STRING, shared=NEXT_HOP),
    ]
    captured.lead(listener, own=workload.addresses, ranges=ranges, mesh=mesh, knows=knows)
    return listener


def hop_listeners() -> list[listener_pb2.Listener]:
    """The listeners inside the proxy that speak for every workload of the node, each in its own name and namespace."""
    whose = f"%FILTER_STATE({WORKLOAD}:PLAIN)%"
    hands_on = [
        state(key, f"%FILTER_STATE({key}:PLAIN)%", factory=STRING, shared=NEXT_HOP) for key in (SOURCE, WORKLOAD)
    ]
    as_itself = state(filterstate.CLUSTER, f"%FILTER_STATE({SOURCE}:PLAIN)%")
    return [
        # The cluster is the filter state's; without it the connection goes nowhere.
        hops.hop_listener(Transport.HBONE, parts.BLACKHOLE, workload=whose, decides=[as_itself]),
        hops.hop_listener(Transport.PLAINTEXT, parts.PASSTHROUGH, workload=whose),
        shard_listener(whose, knows=hands_on),
    ]


def passthrough_cluster() -> cluster_pb2.Cluster:
    """The way of what goes out as it is."""
    return node_parts.connect_inside(parts.original_destination_cluster(parts.PASSTHROUGH, mark=parts.PROXY_MARK))


def source_cluster(identity: SpiffeId, *, mesh: MeshConfig) -> cluster_pb2.Cluster:
    """HBONE with the certificate of one identity of the node, to wherever the connection was going."""
    name = source_cluster_name(identity)
    return node_parts.connect_inside(
        hops.hbone_cluster(name, mesh=mesh, mark=parts.PROXY_MARK, certificate=identity.uri, streams=MAX_STREAMS)
    )


def source_cluster_name(identity: SpiffeId) -> str:
    """The cluster that speaks HBONE as an identity."""
    return f"outbound|hbone|{identity.uri}"
