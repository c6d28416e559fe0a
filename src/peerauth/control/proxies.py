"""What the control plane asks about proxies of those who serve them and of those who run them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from peerauth.dataplane.type_urls import TypeUrl
from peerauth.xds.status import Answer
from peerauth.xds.wire import ProxyKey

Heard = Callable[[ProxyKey, TypeUrl | None, Collection[str]], object]


class Acknowledgements(Protocol):
    """What is asked of the discovery server."""

    def connected(self, proxy: ProxyKey) -> bool:
        """Whether the proxy has a stream open now."""
        ...

    def answer(self, proxy: ProxyKey, type_url: TypeUrl, name: str) -> Answer:
        """What it says of one resource now."""
        ...

    def follow(self, follower: Heard) -> None:
        """Calls `follower` with the names that a proxy says something about; with None when a stream opens or ends."""
        ...


class Process(Protocol):
    """A proxy's process, as its supervisor knows it."""

    @property
    def pid(self) -> int | None:
        """The process that runs, None between two."""
        ...

    @property
    def live(self) -> bool:
        """Whether it has had a configuration."""
        ...

    def end(self) -> None:
        """Kills it, stopped or not, and starts it anew."""
        ...
