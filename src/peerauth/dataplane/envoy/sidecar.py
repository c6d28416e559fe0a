"""The whole configuration of one sidecar."""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2

from peerauth.dataplane.envoy.inbound import inbound_clusters, inbound_listeners
from peerauth.dataplane.envoy.outbound import outbound_clusters, outbound_listeners
from peerauth.dataplane.envoy.sidecar_values import SidecarWorkload
from peerauth.dataplane.resources import Resources, serialize
from peerauth.dataplane.type_urls import CLUSTER, LISTENER


def render_sidecar(workload: SidecarWorkload) -> Resources:
    """All resources of one sidecar, serialized: clusters, then listeners. Equal workloads give equal bytes."""
    clusters = [*inbound_clusters(workload), *outbound_clusters(workload)]
    listeners = [*inbound_listeners(workload), *outbound_listeners(workload)]
    return {CLUSTER: _by_name(clusters), LISTENER: _by_name(listeners)}


def _by_name(messages: Iterable[cluster_pb2.Cluster | listener_pb2.Listener]) -> dict[str, bytes]:
    return {message.name: serialize(message) for message in sorted(messages, key=lambda message: message.name)}
