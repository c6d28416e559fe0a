"""The whole configuration of one sidecar."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2

from peerauth.dataplane.envoy.inbound import hbone_listener, inbound_clusters, port_listeners, served_ports
from peerauth.dataplane.envoy.outbound import outbound_clusters, outbound_listeners
from peerauth.dataplane.envoy.sidecar_values import SidecarWorkload
from peerauth.dataplane.resources import Resources, serialize
from peerauth.dataplane.type_urls import CLUSTER, LISTENER


class Rendered(NamedTuple):
    """A sidecar, and its resources."""

    workload: SidecarWorkload
    resources: Resources


def render_sidecar(workload: SidecarWorkload, *, had: Rendered | None = None) -> Resources:
    """All resources of one sidecar, serialized: clusters, then listeners. Equal workloads give equal bytes.

    `had` is what it was before: where nothing but modes has changed, the rest, which is most of it, is kept.
    """
    if had is not None and _only_modes_differ(had.workload, workload):
        changed = {CLUSTER: _by_name(inbound_clusters(workload)), LISTENER: _by_name(port_listeners(workload))}
        return {kind: {**had.resources[kind], **bodies} for kind, bodies in changed.items()}
    clusters = [*inbound_clusters(workload), *outbound_clusters(workload)]
    listeners = [*port_listeners(workload), hbone_listener(workload), *outbound_listeners(workload)]
    return {CLUSTER: _by_name(clusters), LISTENER: _by_name(listeners)}


def _only_modes_differ(old: SidecarWorkload, new: SidecarWorkload) -> bool:
    """Whether the two have the same resources, by their names, and only what is let in at ports may be another."""
    return served_ports(old) == served_ports(new) and msgspec.structs.replace(old, decision=new.decision) == new


def _by_name(messages: Iterable[cluster_pb2.Cluster | listener_pb2.Listener]) -> dict[str, bytes]:
    return {message.name: serialize(message) for message in sorted(messages, key=lambda message: message.name)}
