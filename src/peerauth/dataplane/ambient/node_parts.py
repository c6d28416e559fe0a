"""What both directions of a node's Envoy share: sockets in a workload's namespace, and state that travels along.

A listener is opened inside the namespace that its address names. A connection is opened in the namespace that the
connection it is made for carries in its filter state; a cluster's own namespace is one that cannot exist, so that a
connection without that state goes nowhere instead of into the node's network. The state is hashable: a connection
made in one namespace is never used for another. Source: Envoy's well-known filter state keys.
"""

from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, extension_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from envoy.extensions.local_address_selectors.filter_state_override.v3 import config_pb2

from peerauth.dataplane.ambient.node_values import NodeWorkload
from peerauth.dataplane.envoy import filterstate, parts, tls
from peerauth.dataplane.envoy.filterstate import EVERY_HOP, HASHABLE_STRING, state

NOWHERE = "/dev/null/no-network-namespace"
NAMESPACE_KEY = "envoy.network.upstream_bind_override.network_namespace"


def inside(workload: NodeWorkload) -> list[listener_components_pb2.Filter]:
    """The filter that keeps what is made for a connection in the workload's namespace, if it has one."""
    return [filterstate.remember([namespace_of(workload)])] if workload.namespace else []


def namespace_of(workload: NodeWorkload) -> value_pb2.FilterStateValue:
    """Connections that are made for this one are made in the workload's namespace, hop after hop."""
    return state(NAMESPACE_KEY, filterstate.literal(workload.namespace), factory=HASHABLE_STRING, shared=EVERY_HOP)


def bind_inside(listener: listener_pb2.Listener, workload: NodeWorkload, port: int) -> None:
    """Opens a listener on a port: of every address inside the workload's namespace, or without one of its own."""
    if not workload.namespace:
        parts.bind(listener, workload.addresses, port)
        return
    parts.bind(listener, parts.wildcards(workload.addresses), port)
    listener.address.socket_address.network_namespace_filepath = workload.namespace
    for other in listener.additional_addresses:
        other.address.socket_address.network_namespace_filepath = workload.namespace


def connect_inside(cluster: cluster_pb2.Cluster) -> cluster_pb2.Cluster:
    """Makes a cluster connect in the namespace of the connection it connects for."""
    bind = cluster.upstream_bind_config
    bind.source_address.CopyFrom(_unspecified("0.0.0.0"))  # noqa: S104  the source, not a listener
    bind.extra_source_addresses.add(address=_unspecified("::"))
    bind.local_address_selector.CopyFrom(
        extension_pb2.TypedExtensionConfig(
            name="envoy.upstream.local_address_selector.filter_state_override",
            typed_config=tls.packed(config_pb2.Config()),
        )
    )
    return cluster


def _unspecified(address: str) -> address_pb2.SocketAddress:
    return address_pb2.SocketAddress(address=address, port_value=0, network_namespace_filepath=NOWHERE)
