"""The two ways in which workloads live on one machine, behind one interface.

Explicit: addresses of 127.0.0.0/8, no root; the proxy binds the workload's address, the application its twin.
Transparent: a network namespace per workload, root; whatever arrives or leaves is redirected to the proxy.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from peerauth.agent.netns import MeshNetwork, WorkloadNamespace, sockets_of
from peerauth.local.loopback import LoopbackPlan
from peerauth.model.inventory import WorkloadKey
from peerauth.model.placement import Captor, Capture, Placement
from peerauth.probe import SocketFactory


class Network(Protocol):
    """Places workloads on this machine; an async context manager that takes all back. Raises PlatformError."""

    capture: Capture

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def place(self, workloads: Mapping[WorkloadKey, Captor], *, node: str) -> tuple[Placement, ...]:
        """Places each workload for whoever is to capture its traffic; keeps those that are so, frees what is gone."""
        ...

    def sockets(self, key: WorkloadKey) -> SocketFactory:
        """Makes sockets that dial or listen as that workload."""
        ...

    def outside(self) -> SocketFactory:
        """Makes sockets that dial from outside the mesh."""
        ...

    @property
    def outside_namespace(self) -> str:
        """The network namespace outside the mesh, for other processes to dial from; empty for this machine's."""
        ...


class LoopbackNetwork:
    """Explicit capture: nothing is made and nothing has to be cleaned."""

    capture = Capture.EXPLICIT

    def __init__(self, instance: int) -> None:
        self._plan = LoopbackPlan(instance)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def place(self, workloads: Mapping[WorkloadKey, Captor], *, node: str) -> tuple[Placement, ...]:
        """Two loopback addresses each; without a proxy the application has the workload's own."""
        return tuple(
            Placement(
                key,
                node,
                (place.address,),
                self.capture,
                workloads[key],
                application=place.address if workloads[key] is Captor.NOBODY else place.application,
            )
            for key, place in self._plan.place(workloads).items()
        )

    def sockets(self, key: WorkloadKey) -> SocketFactory:
        """Ordinary sockets: every workload is on this machine's loopback."""
        return ordinary_socket

    def outside(self) -> SocketFactory:
        """The same: who dials is not told apart."""
        return ordinary_socket

    @property
    def outside_namespace(self) -> str:
        """None is needed."""
        return ""


class NamespaceNetwork:
    """Transparent capture: a namespace with redirection for each workload that has a proxy, a bare one for others."""

    capture = Capture.TRANSPARENT

    def __init__(self) -> None:
        self._network = MeshNetwork()
        self._made: dict[WorkloadKey, tuple[WorkloadNamespace, bool]] = {}
        self._times: Counter[WorkloadKey] = Counter()
        self._outside: WorkloadNamespace | None = None

    async def __aenter__(self) -> Self:
        await self._network.__aenter__()
        try:
            self._outside = await self._network.add("peerauth/probe", capture=False)
        except BaseException:
            await self._network.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._network.__aexit__(kind, error, trace)

    async def place(self, workloads: Mapping[WorkloadKey, Captor], *, node: str) -> tuple[Placement, ...]:
        """A namespace each; one whose redirection is to change is made anew, closed first."""
        redirected = {key: captor is not Captor.NOBODY for key, captor in sorted(workloads.items())}
        for key, (namespace, captured) in tuple(self._made.items()):
            if redirected.get(key) is not captured:
                del self._made[key]
                await self._network.remove(namespace)
        for key, captured in redirected.items():
            if key not in self._made:
                self._times[key] += 1
                # A path never comes to mean another namespace: a proxy that knows it could still be in the old one.
                again = f"-{self._times[key]}" if self._times[key] > 1 else ""
                name = f"{key.namespace}/{key.name}-{key.kind.lower()}{again}"
                self._made[key] = (await self._network.add(name, capture=captured), captured)
        return tuple(
            Placement(key, node, made.addresses, self.capture, workloads[key], network_namespace=made.path)
            for key, (made, _) in sorted(self._made.items())
        )

    def sockets(self, key: WorkloadKey) -> SocketFactory:
        """Sockets that belong to the workload's namespace."""
        return sockets_of(self._made[key][0].path)

    def outside(self) -> SocketFactory:
        """Sockets of a namespace without redirection, on the same network."""
        return sockets_of(self.outside_namespace)

    @property
    def outside_namespace(self) -> str:
        """The path of that namespace."""
        if self._outside is None:
            raise RuntimeError("the network is not entered")
        return self._outside.path


def ordinary_socket(family: int) -> socket.socket:
    """A TCP socket of this process's own network namespace."""
    return socket.socket(family, socket.SOCK_STREAM)
