"""The listener that gets whatever an application dials: where a connection was going is what its proxy asks for.

Inside the mesh's ranges the destination is the name of a cluster, which Envoy asks its control plane for when it is
first dialled; the connection waits for the answer, for `ASK_SECONDS` at most, and without one it is closed. So nothing
here names a server, and nothing goes out in plaintext because something is not known yet. Outside of the ranges no
question is asked. Facts: Envoy's `on_demand` of the TCP proxy; a chain's `prefix_ranges`, the longest first.

The private address space, which is always the mesh's, has one chain, and every other range one of its own: one that is
added or removed touches no connection of the others.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from envoy.config.core.v3 import address_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from google.protobuf import duration_pb2

from peerauth.dataplane.envoy import filterstate, parts
from peerauth.dataplane.envoy.destinations import ASKED_BY
from peerauth.dataplane.envoy.filterstate import NEXT_HOP, state
from peerauth.model.mesh import MeshConfig, OutboundTraffic
from peerauth.policy.ranges import PRIVATE

ASK_SECONDS = 5
"""How long a connection waits for what its destination is: longer than Envoy takes to reach a control plane that was
started anew (`bootstrap`), and than the answer takes."""
OWN = "own"
MESH = "mesh"
OUTSIDE = "outside"

REMEMBER_SOURCE = state(filterstate.REMOTE_ADDRESS, "%DOWNSTREAM_REMOTE_ADDRESS%", shared=NEXT_HOP)
"""Lets the listener that takes over say in its log whose connection it is."""

_Match = listener_components_pb2.FilterChainMatch


def lead(
    listener: listener_pb2.Listener,
    *,
    own: Iterable[str],
    ranges: Iterable[str],
    mesh: MeshConfig,
    knows: Iterable[value_pb2.FilterStateValue] = (),
) -> None:
    """Gives the listener its chains. `ranges` are the mesh's, as prefixes; `mesh` says whether to go beyond them.

    `own` are the workload's addresses, where it is on its own: what it sends there is not the mesh's business. `knows`
    is what goes with every connection.
    """
    known = list(knows)
    for port in (parts.OUTBOUND_PORT, parts.INBOUND_PORT):
        # What an application sends to a port of the proxy would come back for ever.
        match = _Match()
        match.destination_port.value = port
        listener.filter_chains.append(_chain(f"{parts.LOOP}|{port}", parts.BLACKHOLE, [], match))
    if addresses := sorted({_prefix(address) for address in own}):
        match = _Match(prefix_ranges=map(_cidr, addresses))
        listener.filter_chains.append(_chain(OWN, parts.PASSTHROUGH, known, match))
    says = [*known, REMEMBER_SOURCE, state(filterstate.CLUSTER, ASKED_BY)]
    prefixes = sorted({_prefix(each) for each in ranges} - set(addresses))
    apart = {f"{MESH}|{prefix}": [prefix] for prefix in prefixes if prefix not in PRIVATE}
    for name, blocks in {MESH: [prefix for prefix in prefixes if prefix in PRIVATE], **apart}.items():
        match = _Match(prefix_ranges=map(_cidr, blocks))
        if blocks:
            # The cluster is the filter state's; without it the connection goes nowhere.
            listener.filter_chains.append(_chain(name, parts.BLACKHOLE, says, match, asking=asking()))
    closed = mesh.outbound_traffic is OutboundTraffic.REGISTRY_ONLY
    beyond = _chain(OUTSIDE, parts.BLACKHOLE if closed else parts.PASSTHROUGH, [] if closed else known, _Match())
    listener.default_filter_chain.CopyFrom(beyond)


def asking() -> tcp_proxy_pb2.TcpProxy.OnDemand:
    """How a cluster that is not there is asked for."""
    return tcp_proxy_pb2.TcpProxy.OnDemand(
        odcds_config=parts.over_ads(), timeout=duration_pb2.Duration(seconds=ASK_SECONDS)
    )


def _chain(
    name: str,
    cluster: str,
    knows: list[value_pb2.FilterStateValue],
    match: listener_components_pb2.FilterChainMatch,
    *,
    asking: tcp_proxy_pb2.TcpProxy.OnDemand | None = None,
) -> listener_components_pb2.FilterChain:
    proxy = parts.tcp_proxy(name.partition("|")[0], cluster, asking=asking)
    filters = [filterstate.remember(knows), proxy] if knows else [proxy]
    return listener_components_pb2.FilterChain(name=name, filter_chain_match=match, filters=filters)


def _prefix(text: str) -> str:
    """A prefix, or an address as one."""
    return str(ipaddress.ip_network(text))


def _cidr(prefix: str) -> address_pb2.CidrRange:
    network = ipaddress.ip_network(prefix)
    made = address_pb2.CidrRange(address_prefix=str(network.network_address))
    made.prefix_len.value = network.prefixlen
    return made
