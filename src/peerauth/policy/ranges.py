"""Which destinations are the mesh's to know: the blocks of addresses for which a client's proxy asks.

Outside of them nobody is asked, so that the mesh's outage is not the internet's. The private address space is always
inside, for pods and Services mostly have their addresses there; beyond it, what documents say: the blocks of nodes'
pods and of Services, and blocks around the addresses that workloads and Services have. Nothing takes a range away: what
is sent to a workload outside of all ranges would go out as it is.
Sources: RFC 1918, RFC 6598, RFC 4193; Kubernetes' reference (Node, ServiceCIDR).
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator

from peerauth.model.addresses import Network, literals, network
from peerauth.model.changes import Edit, MeshObject
from peerauth.model.inventory import Node, Service, ServiceCIDR, Workload
from peerauth.model.world import World

_PRIVATE = tuple(
    map(ipaddress.ip_network, ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)
PRIVATE = frozenset(map(str, _PRIVATE))
"""The private address space: these are a mesh's ranges whatever is said, unless a wider one is said."""
AROUND = {4: 16, 6: 64}
"""How long the prefix of a block around an address is: so that another address does not mean another block."""


class MeshRanges:
    """The ranges of a mesh."""

    def __init__(self, world: World) -> None:
        self._said: Counter[Network] = Counter()
        for table in (world.workloads, world.services, world.nodes, world.service_cidrs):
            for obj in table.values():
                self._said.update(_blocks(obj))
        self.ranges = self._outermost()

    def update(self, edits: Iterable[Edit]) -> bool:
        """Takes edits of the world; returns whether the ranges are others now."""
        news: Counter[Network] = Counter()
        for edit in edits:
            news.subtract(_blocks(edit.before))
            news.update(_blocks(edit.after))
        if not any(news.values()):
            return False
        self._said.update(news)
        self._said = +self._said  # without those of which nobody speaks any more
        before, self.ranges = self.ranges, self._outermost()
        return before != self.ranges

    def _outermost(self) -> tuple[str, ...]:
        """The blocks that are in no other. Neighbours stay apart: who has one of them is not concerned by the other."""
        blocks = {*_PRIVATE, *self._said}
        ascending = sorted(blocks, key=lambda block: (block.version, int(block.network_address), block.prefixlen))
        outermost: list[Network] = []
        for block in ascending:
            if not outermost or not _is_within(block, outermost[-1:]):
                outermost.append(block)
        return tuple(map(str, outermost))


def _blocks(obj: MeshObject | None) -> Iterator[Network]:
    """The blocks beyond the private address space that an object speaks for."""
    match obj:
        case Workload():
            yield from _around(obj.addresses)
        case Service():
            yield from _around(obj.cluster_ips)
        case Node():
            yield from _beyond(map(network, obj.pod_cidrs))
        case ServiceCIDR():
            yield from _beyond(map(network, obj.cidrs))
        case _:
            pass


def _around(addresses: Iterable[str]) -> Iterator[Network]:
    for text in literals(addresses):
        address = ipaddress.ip_address(text)
        if not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified):
            yield from _beyond([network(f"{text}/{AROUND[address.version]}")])


def _beyond(blocks: Iterable[Network | None]) -> Iterator[Network]:
    return (block for block in blocks if block is not None and not _is_within(block, _PRIVATE))


def _is_within(block: Network, others: Iterable[Network]) -> bool:
    if isinstance(block, ipaddress.IPv4Network):
        return any(isinstance(other, ipaddress.IPv4Network) and block.subnet_of(other) for other in others)
    return any(isinstance(other, ipaddress.IPv6Network) and block.subnet_of(other) for other in others)
