"""The echo applications behind the workloads' ports, for examples that have none of their own (`--apps`)."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Mapping

from peerauth.agent.echo import EchoApplication
from peerauth.errors import PlatformError
from peerauth.local.networks import Network
from peerauth.model.endpoint import Endpoint
from peerauth.model.inventory import WorkloadKey
from peerauth.model.placement import Capture


class Applications:
    """Runs one echo application per endpoint; `serve` starts what is missing and stops what is gone."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._serving: dict[tuple[WorkloadKey, Endpoint], contextlib.AsyncExitStack] = {}

    async def serve(self, wanted: Mapping[WorkloadKey, tuple[Endpoint, ...]]) -> None:
        """Raises PlatformError for an address that is taken."""
        endpoints = {(key, endpoint) for key, found in wanted.items() for endpoint in found}
        for gone in self._serving.keys() - endpoints:
            await self._serving.pop(gone).aclose()
        for key, endpoint in sorted(endpoints - self._serving.keys()):
            stack = contextlib.AsyncExitStack()
            listener = self._listen(key, endpoint)
            await stack.enter_async_context(EchoApplication(listener, workload=str(key)))
            self._serving[key, endpoint] = stack

    async def close(self) -> None:
        """Stops all of them."""
        await self.serve({})

    def _listen(self, key: WorkloadKey, endpoint: Endpoint) -> socket.socket:
        try:
            if endpoint.path:
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                listener.bind("\0" + endpoint.path[1:] if endpoint.path.startswith("@") else endpoint.path)
            else:
                version = ipaddress.ip_address(endpoint.address).version
                listener = self._network.sockets(key)(socket.AF_INET6 if version == 6 else socket.AF_INET)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((endpoint.address, endpoint.port))
        except OSError as error:
            raise PlatformError(
                f"the application of {key} cannot listen on {endpoint}: {error.strerror}",
                hint="stop what uses that address, or leave --apps out and run your own applications there",
            ) from error
        listener.listen(128)
        listener.setblocking(False)
        return listener


def undeclared_port(capture: Capture, declared: Iterable[int]) -> int | None:
    """A port that nobody declared, to prove the catch-all with; None where such ports are not covered."""
    if capture is Capture.EXPLICIT:
        return None
    taken = set(declared)
    return next(port for port in range(18080, 65536) if port not in taken)
