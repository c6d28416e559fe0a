"""The ambient half of a mesh on this machine: its node proxy, started with the first ambient workload there is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from peerauth.agent.outage import OnOutage
from peerauth.agent.sds import Signer
from peerauth.agent.supervisor import EnvoySupervisor
from peerauth.aio import spawn
from peerauth.control.plane import ControlPlane
from peerauth.dataplane.ambient.nodes import Nodes
from peerauth.dataplane.type_urls import CLUSTER, LISTENER
from peerauth.identity.spiffe import SpiffeId
from peerauth.local.node_agent import NodeAgent, node_key
from peerauth.xds.server import DiscoveryServer


class LocalNode:
    """One node proxy for all ambient workloads that are placed on a node. `reconcile` after every change."""

    def __init__(
        self,
        discovery: DiscoveryServer,
        *,
        plane: ControlPlane,
        node: str,
        folder: Path,
        envoy: Path,
        sign: Callable[[SpiffeId], Signer],
        on_line: Callable[[bytes], None],
        on_outage: OnOutage,
        now: Callable[[], datetime],
    ) -> None:
        self.key = node_key(node)
        self._node = node
        self._discovery = discovery
        self._resources = Nodes(plane.mesh)
        plane.project(self._resources, proxy=node_key, on_demand=self._resources.on_demand)
        self.proxy = NodeAgent(
            self.key, folder=folder, envoy=envoy, sign=sign, on_line=on_line, on_outage=on_outage, now=now
        )
        self._task: asyncio.Task[None] | None = None

    async def reconcile(self, *, group: asyncio.TaskGroup) -> None:
        """Holds the certificates of the workloads that are placed here; starts the proxy with the first of them."""
        self.proxy.hold(self._resources.identities(self._node))
        if self._task is None and self._resources.workloads(self._node):
            await self.proxy.open_with(self._discovery)
            self._task = spawn(group, self.proxy.run(), name="node proxy")

    async def ready(self) -> None:
        """Waits until the proxy is live and has, or has refused, what it is told. Raises ProxyError."""
        if self._task is None:
            return
        await self.proxy.ready()
        await self._discovery.wait_connected(self.key)
        for kind in (CLUSTER, LISTENER):
            await self._discovery.wait_acked(self.key, kind)

    async def restore(self) -> None:
        """Opens its socket again if someone has removed it. Raises PlatformError."""
        await self.proxy.restore()

    @property
    def process(self) -> EnvoySupervisor:
        """The proxy's process."""
        return self.proxy.supervisor

    def stop(self) -> None:
        """Begins to end the proxy, if it runs; its task group waits for it."""
        if self._task is not None:
            self._task.cancel()
