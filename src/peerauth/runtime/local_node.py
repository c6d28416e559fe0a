"""The ambient half of a mesh on this machine: its node proxy, started with the first ambient workload there is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from peerauth.agent.outage import OnOutage
from peerauth.agent.sds import Signer
from peerauth.agent.supervisor import EnvoySupervisor
from peerauth.aio import spawn
from peerauth.dataplane.resources import CLUSTER, LISTENER
from peerauth.errors import PlatformError
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.inventory import WorkloadKey
from peerauth.model.mesh import Injector, MeshConfig
from peerauth.policy.decision import Dataplane
from peerauth.policy.mesh import Step
from peerauth.policy.strictness import closed_by
from peerauth.runtime.control_plane import ControlPlane
from peerauth.runtime.networks import Placed
from peerauth.runtime.node_configuration import NodeConfiguration
from peerauth.runtime.node_proxy import NODE, NodeProxy
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import Discovery, DiscoveryServer, UdsBinding


class LocalNode:
    """One node proxy for all ambient workloads that have a place here. `reconcile` after every change of the world."""

    key = NODE
    title = "node proxy"

    def __init__(
        self,
        cache: ResourceCache,
        discovery: DiscoveryServer,
        *,
        plane: ControlPlane,
        folder: Path,
        envoy: Path,
        sign: Callable[[SpiffeId], Signer],
        on_line: Callable[[bytes], None],
        on_outage: OnOutage,
        now: Callable[[], datetime],
    ) -> None:
        self._discovery = discovery
        self.configuration = NodeConfiguration(cache, proxy=NODE, mesh=plane.mesh)
        plane.follow(self._take)
        self._outstanding = plane.outstanding
        self._closes: list[str] = []
        self.proxy = NodeProxy(folder=folder, envoy=envoy, sign=sign, on_line=on_line, on_outage=on_outage, now=now)
        self._task: asyncio.Task[None] | None = None

    def workloads(self) -> tuple[WorkloadKey, ...]:
        """The workloads that the node proxy serves."""
        return tuple(sorted(self.configuration.workloads))

    async def reconcile(self, places: Mapping[WorkloadKey, Placed], *, group: asyncio.TaskGroup) -> None:
        """Serves the ambient workloads that have a place here."""
        names = self.configuration.serve(places)
        self._outstanding.tell(NODE, {CLUSTER: names, LISTENER: names}, closes=self._closes if names else ())
        self._closes.clear()
        self.proxy.hold(self.configuration.identities())
        if self._task is None and self.configuration.workloads:
            await self.proxy.open()
            try:
                await self._discovery.serve(UdsBinding(self.proxy.discovery, NODE, (Discovery.AGGREGATED,)))
            except PlatformError:
                await self.proxy.close()
                raise
            self._task = spawn(group, self.proxy.run(), name="node proxy")

    async def ready(self) -> None:
        """Waits until the proxy is live and has, or has refused, what it is told. Raises ProxyError."""
        if self._task is None:
            return
        await self.proxy.ready()
        await self._discovery.wait_connected(NODE)
        for kind in (CLUSTER, LISTENER):
            await self._discovery.wait_acked(NODE, kind)

    async def restore(self) -> None:
        """Opens its socket again if someone has removed it. Raises PlatformError."""
        await self.proxy.restore()

    @property
    def process(self) -> EnvoySupervisor:
        """The proxy's process."""
        return self.proxy.supervisor

    def _take(self, step: Step) -> None:
        self.configuration.take(step)
        self._closes += closed_by(step.decisions, on=Dataplane.AMBIENT)
        sides = (side for edit in step.edits for side in (edit.before, edit.after))
        if any(isinstance(side, MeshConfig | Injector) for side in sides):
            self._closes.append("another mesh configuration")

    def stop(self) -> None:
        """Begins to end the proxy, if it runs; its task group waits for it."""
        if self._task is not None:
            self._task.cancel()
