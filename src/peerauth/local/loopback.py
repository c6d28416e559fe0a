"""Where workloads live on this machine: an address each, and where each port's application really listens.

Explicit capture has no network namespaces: every workload gets an address of its own in 127.0.0.0/8, where its proxy
listens, and a second one, its twin in the next block, for its application. Who dials the twin goes round the proxy;
that is what explicit capture cannot prevent, and the output says so.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from peerauth.errors import PlatformError
from peerauth.model.inventory import WorkloadKey

FIRST_BLOCK = 64
"""The second byte of the first loopback block; run N has 127.(64+2N) for proxies and the next for applications."""

CAPACITY = 256 * 254


class LoopbackPair(msgspec.Struct, frozen=True, order=True):
    """One workload's addresses: its own, as others dial it, and its application's."""

    address: str
    application: str


class LoopbackPlan:
    """Gives every workload a place and lets it keep it: adding a workload moves no other."""

    def __init__(self, instance: int) -> None:
        self._block = FIRST_BLOCK + 2 * instance
        self._places: dict[WorkloadKey, LoopbackPair] = {}
        self._free = iter(range(CAPACITY))

    def place(self, workloads: Iterable[WorkloadKey]) -> dict[WorkloadKey, LoopbackPair]:
        """The place of each workload, in the order of their names; raises PlatformError when addresses run out."""
        return {key: self._places.get(key) or self._next(key) for key in sorted(workloads)}

    def _next(self, key: WorkloadKey) -> LoopbackPair:
        index = next(self._free, None)
        if index is None:
            raise PlatformError(f"no loopback address is left for {key}: {CAPACITY} is the most one run can hold")
        third, fourth = divmod(index, 254)
        place = LoopbackPair(f"127.{self._block}.{third}.{fourth + 1}", f"127.{self._block + 1}.{third}.{fourth + 1}")
        self._places[key] = place
        return place
