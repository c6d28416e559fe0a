"""A Service of many endpoints in pieces, so that one endpoint that comes or goes costs one piece, for everybody.

Pure, and without memory: which piece an endpoint is in follows from its address and port alone, so that every replica
of a control plane says the same, and all clients share all pieces. A piece is the endpoints whose hash begins with its
label, a string of `0` and `1`. One that has more than `MOST_ENDPOINTS` is two, each a bit longer; so a change touches
the piece that it is in, and another only where one becomes two or two become one.

A label goes on meaning what it means: a client that knows a piece by an old label reaches the endpoints below it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from hashlib import blake2b

import msgspec

from peerauth.policy.announced import DestinationEndpoint

MOST_ENDPOINTS = 64
"""Of one piece: one that changes is at most 11 KB, and takes Envoy some 2 ms."""
LONGEST_LABEL = 64


class Shard(msgspec.Struct, frozen=True, order=True):
    """A piece of a Service: its label, and its share of the connections, which is the number of its endpoints."""

    label: str
    weight: int


class Sharded:
    """The endpoints of one Service's port, each once, and the pieces that they make."""

    def __init__(self, endpoints: Iterable[DestinationEndpoint]) -> None:
        by_hash = sorted([(_hash(end), end.address, end.port, end) for end in endpoints])
        self._hashes = [each[0] for each in by_hash]
        self._endpoints = [each[-1] for each in by_hash]

    def __len__(self) -> int:
        return len(self._hashes)

    def below(self, label: str) -> tuple[tuple[DestinationEndpoint, ...], tuple[Shard, ...]]:
        """The endpoints that a label leads to, ascending, or the pieces below it if they are too many for one."""
        start, end = self._range(label)
        if _is_one(label, end - start):
            found = self._endpoints[start:end]
            return tuple(sorted(found, key=lambda each: (each.address, each.port))), ()
        return (), tuple(self._pieces(label))

    def _pieces(self, label: str) -> Iterator[Shard]:
        start, end = self._range(label)
        if not _is_one(label, end - start):
            yield from self._pieces(label + "0")
            yield from self._pieces(label + "1")
        elif start < end:
            yield Shard(label, end - start)

    def _range(self, label: str) -> tuple[int, int]:
        free = LONGEST_LABEL - len(label)
        first = int(label or "0", 2) << free
        return bisect_left(self._hashes, first), bisect_left(self._hashes, first + (1 << free))


def _is_one(label: str, size: int) -> bool:
    return size <= MOST_ENDPOINTS or len(label) == LONGEST_LABEL


def _hash(endpoint: DestinationEndpoint) -> int:
    digest = blake2b(f"{endpoint.address} {endpoint.port}".encode(), digest_size=LONGEST_LABEL // 8).digest()
    return int.from_bytes(digest)
