"""A network namespace per workload, joined by a bridge that lives in a namespace of its own.

Nothing is added to the host's network: no link, no route, no rule. One instance owns namespaces named
`peerauth-<instance>-...` and holds a lock (flock) for as long as it lives; what a killed instance left behind is
recognized by its lock being free, and removed by the next one. A namespace is captured (`redirect`) before its link
comes up, so no packet reaches an application past the proxy. Needs root and iproute2.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from peerauth.agent.nft import Capture


class WorkloadNamespace(msgspec.Struct, frozen=True):
    """A workload's network: the namespace's name (`ip netns exec NAME`), its path, and its addresses (v4, v6)."""

    name: str
    path: str
    addresses: tuple[str, ...]


class MeshNetwork:
    """The namespaces of one running instance: an async context manager; leaving it removes everything."""

    def __init__(
        self, *, instance: str = "", locks: Path = Path("/run/peerauth"), names: Path = Path("/run/netns")
    ) -> None:
        raise NotImplementedError

    @property
    def instance(self) -> str:
        """The part of the names that tells this instance's namespaces from another's."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        """Remove leftovers of dead instances, take the lock, make the hub. Raises PlatformError."""
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError

    async def add(
        self, workload: str, *, addresses: Sequence[str] = (), capture: Capture | None = None
    ) -> WorkloadNamespace:
        """Make a namespace with these addresses (without any: one of each family is chosen), captured if asked."""
        raise NotImplementedError

    async def remove(self, namespace: WorkloadNamespace) -> None:
        """Remove a namespace; processes in it lose their network."""
        raise NotImplementedError


def socket_in(path: str, family: int) -> socket.socket:
    """A TCP socket that belongs to the namespace at `path`, whichever namespace uses it. Raises PlatformError."""
    raise NotImplementedError


def sockets_of(path: str) -> Callable[[int], socket.socket]:
    """`socket_in` for one namespace, as the probe and the echo application take it."""
    raise NotImplementedError


def unsupported() -> str:
    """Why namespaces cannot be used here (not root, a missing tool), or an empty string."""
    raise NotImplementedError
