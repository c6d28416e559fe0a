"""The one listener of a node's Envoy that knows the mesh: from a connection's destination to whom the server must be.

It is inside the proxy and knows no workload of the node; what the workload's own listener knows arrives as filter state
(`node_outbound`). A chain for each identity of the mesh says whom the server must be, in the filter state that Envoy
checks names by; a matcher from address to chain is all that changes while workloads of known identities come and go,
and Envoy replaces it without touching a connection. A server that cannot prove its identity gets nothing.

It is by far the largest resource, so it is kept as encoded pieces, one for each identity, and a workload that comes or
goes costs its identity's piece. Each piece is a Listener that has nothing but the identity's chain and addresses: of
several encodings behind one another a reader of protobuf makes one message (its encoding guide, "Last One Wins").
"""

from __future__ import annotations

import ipaddress
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.matching.common_inputs.network.v3 import network_inputs_pb2

from peerauth.dataplane.ambient.node_values import HbonePeer
from peerauth.dataplane.envoy import accesslog, filterstate, matching, parts
from peerauth.dataplane.envoy.filterstate import state
from peerauth.dataplane.resources import serialize
from peerauth.identity.spiffe import SpiffeId

MESH = "mesh"
"""The listener inside the proxy, and the cluster that leads to it."""
SOURCE = "peerauth.source_cluster"
WORKLOAD = "peerauth.workload"
"""Filter state of the workload's own listener: the cluster with its certificate, and its name."""

_SERVER_NAMES = "envoy.network.upstream_subject_alt_names"
_CLUSTER = "envoy.tcp_proxy.cluster"


class MeshListener:
    """The listener for a set of peers, which `put` changes and `encoded` serializes. Equal sets give equal bytes."""

    def __init__(self) -> None:
        self._peers: dict[Hashable, HbonePeer] = {}
        self._claims: dict[str, Counter[SpiffeId]] = {}  # who says that an address is theirs, and how many of them
        self._addresses: defaultdict[SpiffeId, set[str]] = defaultdict(set)  # of claims, those that hold
        self._members: Counter[SpiffeId] = Counter()
        self._pieces: dict[SpiffeId, bytes] = {}
        self._stale: set[SpiffeId] = set()

    def put(self, key: Hashable, peer: HbonePeer | None) -> bool:
        """Sets, replaces or removes the peer of a key; returns whether anything is different."""
        old = self._peers.get(key)
        if old == peer:
            return False
        if old is not None:
            del self._peers[key]
            self._claim(old, -1)
        if peer is not None:
            self._peers[key] = peer
            self._claim(peer, 1)
        return True

    def encoded(self) -> bytes:
        """The listener's bytes."""
        for identity in self._stale:
            if self._members[identity]:
                self._pieces[identity] = serialize(_piece(identity, sorted(self._addresses[identity])))
            else:
                for known in (self._pieces, self._members, self._addresses):
                    known.pop(identity, None)
        self._stale.clear()
        base = _base(any_address=bool(self._claims))
        return b"".join([serialize(base), *(self._pieces[identity] for identity in sorted(self._pieces))])

    def _claim(self, peer: HbonePeer, number: int) -> None:
        self._stale.add(peer.identity)
        self._members[peer.identity] += number
        for address in {ipaddress.ip_address(each).compressed for each in peer.addresses}:
            claims = self._claims.setdefault(address, Counter())
            owner = min(claims, default=None)
            claims[peer.identity] += number
            if not claims[peer.identity]:
                del claims[peer.identity]
            # Two on one address (host networking): the first by identity; a wrong guess is refused by the server name.
            self._move(address, owner, min(claims, default=None))
            if not claims:
                del self._claims[address]

    def _move(self, address: str, old: SpiffeId | None, new: SpiffeId | None) -> None:
        if old is not None:
            self._addresses[old].discard(address)
            self._stale.add(old)
        if new is not None:
            self._addresses[new].add(address)
            self._stale.add(new)


def _base(*, any_address: bool) -> listener_pb2.Listener:
    """The listener without its peers."""
    listener = listener_pb2.Listener(
        name=MESH,
        stat_prefix=MESH,
        traffic_direction=base_pb2.OUTBOUND,
        filter_chains=[_chain(parts.LOOP, parts.BLACKHOLE), _chain(parts.PASSTHROUGH, parts.PASSTHROUGH)],
        access_log=[accesslog.connection_end(f"%FILTER_STATE({WORKLOAD}:PLAIN)%", direction=accesslog.OUTBOUND)],
    )
    listener.internal_listener.SetInParent()
    parts.restore_destination(listener)
    otherwise = matching.to_chain(parts.PASSTHROUGH)
    if any_address:  # Envoy takes no table that is empty
        otherwise = matching.lookup(network_inputs_pb2.DestinationIPInput(), {}, otherwise=otherwise)
    listener.filter_chain_matcher.CopyFrom(matching.past_own_ports(otherwise))
    return listener


def _piece(identity: SpiffeId, addresses: Iterable[str]) -> listener_pb2.Listener:
    """What one identity adds: its chain, and the way there from each of its addresses."""
    listener = listener_pb2.Listener(filter_chains=[_peer_chain(identity)])
    to_chain = matching.to_chain(_peer_name(identity))
    for address in addresses:
        table = listener.filter_chain_matcher.on_no_match.matcher.matcher_tree.exact_match_map
        table.map[address].CopyFrom(to_chain)
    return listener


def _peer_name(identity: SpiffeId) -> str:
    return f"hbone|{identity.uri}"


def _peer_chain(identity: SpiffeId) -> listener_components_pb2.FilterChain:
    decides = [
        state(_SERVER_NAMES, filterstate.literal(identity.uri)),
        state(_CLUSTER, f"%FILTER_STATE({SOURCE}:PLAIN)%"),
    ]
    tunnel = tcp_proxy_pb2.TcpProxy.TunnelingConfig(hostname="%DOWNSTREAM_LOCAL_ADDRESS%")
    # The cluster is the filter state's; without it the connection goes nowhere.
    chain = _chain(_peer_name(identity), parts.BLACKHOLE, tunnel=tunnel)
    chain.filters.insert(0, filterstate.remember(decides))
    return chain


def _chain(
    name: str, cluster: str, *, tunnel: tcp_proxy_pb2.TcpProxy.TunnelingConfig | None = None
) -> listener_components_pb2.FilterChain:
    return listener_components_pb2.FilterChain(
        name=name, filters=[parts.tcp_proxy(name.partition("|")[0], cluster, tunnel=tunnel)]
    )
