"""The sidecars of a mesh on this machine: an agent with its Envoy beside each workload that is placed for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from peerauth.agent.outage import OnOutage
from peerauth.agent.sds import Signer
from peerauth.agent.supervisor import EnvoySupervisor
from peerauth.aio import spawn
from peerauth.control.plane import ControlPlane, proxy_key
from peerauth.identity.spiffe import SpiffeId
from peerauth.local.sidecar_agent import SidecarAgent
from peerauth.model.inventory import WorkloadKey
from peerauth.model.placement import Captor, Placement
from peerauth.policy.outbound import identity_of
from peerauth.xds.server import DiscoveryServer
from peerauth.xds.wire import ProxyKey


class _Running(msgspec.Struct):
    """An agent at work, and what it was started for: with another of these it must be started anew."""

    agent: SidecarAgent
    identity: SpiffeId
    placement: Placement
    task: asyncio.Task[None]


class LocalSidecars:
    """All of them. `stop` before placements are told to the control plane, `start` when it has taken them."""

    def __init__(
        self,
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
        self._plane = plane
        self._folder = folder
        self._envoy = envoy
        self._sign = sign
        self._on_line = on_line
        self._on_outage = on_outage
        self._now = now
        self._running: dict[WorkloadKey, _Running] = {}
        self._numbers = iter(range(1_000_000))
        self.processes: dict[ProxyKey, EnvoySupervisor] = {}

    def agents(self) -> Mapping[WorkloadKey, SidecarAgent]:
        """The agents at work, by workload."""
        return {key: running.agent for key, running in sorted(self._running.items())}

    async def stop(self, placements: Iterable[Placement]) -> None:
        """Stops those whose workload is gone, has no sidecar any more, or is to be another or elsewhere."""
        wanted = {each.workload: each for each in placements if each.captor is Captor.SIDECAR}
        for key, running in tuple(self._running.items()):
            placement = wanted.get(key)
            if placement is None or (self._identity(key), placement) != (running.identity, running.placement):
                await self._stop(key)
            if placement is None:
                await self._discovery.wait_connected(proxy_key(key), connected=False)
                self._discovery.forget(proxy_key(key))

    async def start(self, *, group: asyncio.TaskGroup) -> None:
        """Starts those that are missing. Raises PlatformError."""
        for key in self._plane.sidecars():
            if key not in self._running:
                await self._start(key, group)

    async def ready(self) -> None:
        """Waits until every Envoy is live. Raises ProxyError."""
        await asyncio.gather(*(running.agent.ready() for running in self._running.values()))

    async def restore(self) -> None:
        """Opens sockets again that someone has removed. Raises PlatformError."""
        for running in self._running.values():
            await running.agent.restore()

    def end(self) -> None:
        """Begins to end all of them; their task group waits for it."""
        for running in self._running.values():
            running.task.cancel()

    async def _start(self, key: WorkloadKey, group: asyncio.TaskGroup) -> None:
        identity, placement = self._identity(key), self._plane.mesh.world.placements[key]
        agent = SidecarAgent(
            key,
            identity=identity,
            folder=self._folder / str(next(self._numbers)),
            envoy=self._envoy,
            sign=self._sign(identity),
            on_line=self._on_line,
            on_outage=self._on_outage,
            network_namespace=placement.network_namespace,
            now=self._now,
        )
        await agent.open_with(self._discovery)
        task = spawn(group, agent.run(), name=f"{key}: agent")
        self._running[key] = _Running(agent, identity, placement, task)
        self.processes[proxy_key(key)] = agent.supervisor

    async def _stop(self, key: WorkloadKey) -> None:
        running = self._running.pop(key)
        del self.processes[proxy_key(key)]
        running.task.cancel()
        await asyncio.wait([running.task])
        await self._discovery.stop(running.agent.discovery)

    def _identity(self, key: WorkloadKey) -> SpiffeId:
        world = self._plane.mesh.world
        return identity_of(world.workloads[key], mesh=world.mesh)
