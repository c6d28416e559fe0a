"""The whole configuration of one node's Envoy, which serves every ambient workload of the node.

Each workload has three listeners of its own, so that its policy's change is the change of one of them; certificates are
secrets named by identity, for the identities of the node alone. What workloads dial is asked for when they do. Size and
updates grow with the node's workloads and what they dial, not with the mesh.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2

from peerauth.dataplane.ambient import node_inbound, node_outbound
from peerauth.dataplane.ambient.node_values import NodeProxy, NodeWorkload
from peerauth.dataplane.resources import Resources, serialize
from peerauth.dataplane.type_urls import CLUSTER, LISTENER
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.mesh import MeshConfig

__all__ = ["NodeProxy", "NodeWorkload", "render_node", "render_shared", "render_source", "render_workload"]


def render_node(node: NodeProxy) -> Resources:
    """All resources of one node's Envoy, serialized: clusters, then listeners. Equal nodes give equal bytes."""
    clusters: dict[str, bytes] = {}
    listeners: dict[str, bytes] = {}
    pieces = [render_shared()]
    pieces += [render_source(identity, mesh=node.mesh) for identity in {w.identity for w in node.workloads}]
    pieces += [render_workload(workload, mesh=node.mesh, ranges=node.ranges) for workload in node.workloads]
    for piece in pieces:
        clusters |= piece.get(CLUSTER, {})
        listeners |= piece.get(LISTENER, {})
    return {CLUSTER: dict(sorted(clusters.items())), LISTENER: dict(sorted(listeners.items()))}


def render_workload(workload: NodeWorkload, *, mesh: MeshConfig, ranges: tuple[str, ...]) -> Resources:
    """What is one workload's own: its listeners, and in explicit capture the way to its application."""
    listeners = node_inbound.inbound_listeners(workload, mesh=mesh)
    if workload.namespace:
        listeners.append(node_outbound.workload_listener(workload, mesh=mesh, ranges=ranges))
    return {CLUSTER: _serialized(node_inbound.application_clusters(workload)), LISTENER: _serialized(listeners)}


def render_source(identity: SpiffeId, *, mesh: MeshConfig) -> Resources:
    """What one identity of the node needs, however many workloads have it."""
    return {CLUSTER: _serialized([node_outbound.source_cluster(identity, mesh=mesh)])}


def render_shared() -> Resources:
    """What all workloads share: the ways to applications, and those to what is dialled."""
    clusters = [*node_inbound.inbound_clusters(), node_outbound.passthrough_cluster()]
    return {CLUSTER: _serialized(clusters), LISTENER: _serialized(node_outbound.hop_listeners())}


def _serialized(messages: Iterable[cluster_pb2.Cluster | listener_pb2.Listener]) -> dict[str, bytes]:
    return {message.name: serialize(message) for message in messages}
