"""The mesh on this machine: a control plane, an authority, and beside each sidecar workload an agent with its Envoy.

`apply` takes what sources say and makes the machine look like it: workloads get places, agents and applications start
and stop, and policies reach proxies that go on running. Order matters for one thing only, and holds
in any: where a policy is enforced, nothing but the proxy listens at the workload's address.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from peerauth.agent.outage import OnOutage, untold
from peerauth.agent.sds import Signer
from peerauth.agent.supervisor import EnvoySupervisor, Supervisor
from peerauth.agent.ztunnel import ZtunnelLaunch
from peerauth.aio import spawn
from peerauth.ca.service import CertificateAuthority
from peerauth.control.plane import ControlPlane, proxy_key
from peerauth.control.proxies import Process
from peerauth.dataplane.envoy.sidecar_values import ApplicationPort
from peerauth.errors import PlatformError
from peerauth.identity.csr import CsrRefusal, IssuedCertificate
from peerauth.identity.spiffe import SpiffeId
from peerauth.local.applications import Applications, undeclared_port
from peerauth.local.networks import Network
from peerauth.local.node import LocalNode
from peerauth.local.node_agent import NodeAgent
from peerauth.local.sidecar_agent import SidecarAgent
from peerauth.local.sidecars import LocalSidecars
from peerauth.local.ztunnel import LocalZtunnel
from peerauth.model.endpoint import Endpoint
from peerauth.model.inventory import WorkloadKey
from peerauth.model.placement import Placement
from peerauth.model.world import Reset
from peerauth.view import MeshView
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import DiscoveryServer
from peerauth.xds.wire import ProxyKey

PLACEMENTS = "this machine"
"""The source of where workloads run."""


class LocalMesh:
    """One mesh. Use it as `async with mesh.running():`, then `apply` as often as the documents change.

    `node` is what this machine is called in it. `ztunnel` is a binary of Istio's ztunnel, to serve ambient workloads
    instead of an Envoy; it takes transparent capture. `on_line` gets every line of every access log, `on_outage` every
    end of a proxy and every return. `folder` is private and short (Unix sockets lie in it).
    """

    def __init__(
        self,
        network: Network,
        *,
        authority: CertificateAuthority,
        folder: Path,
        envoy: Path,
        with_applications: bool,
        ztunnel: Path | None = None,
        on_line: Callable[[bytes], None],
        on_outage: OnOutage = untold,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        node: str = "local",
    ) -> None:
        self.network = network
        self.authority = authority
        self._folder = folder
        self._node_name = node
        self._envoy = envoy
        self._on_line = on_line
        self._on_outage = on_outage
        self._now = now
        self._cache = ResourceCache()
        self.discovery = DiscoveryServer(self._cache)
        self.control_plane = ControlPlane(self._cache, acknowledgements=self.discovery, processes=self._process)
        self.view = MeshView(self.control_plane.mesh.world)
        self.control_plane.follow(self.view.update)
        self._applications = Applications(network) if with_applications else None
        self._sidecars = LocalSidecars(
            self.discovery,
            plane=self.control_plane,
            folder=folder,
            envoy=envoy,
            sign=self._signer,
            on_line=on_line,
            on_outage=on_outage,
            now=now,
        )
        self._node = self._envoy_node() if ztunnel is None else self._ztunnel_node(ztunnel)
        self._group: asyncio.TaskGroup | None = None
        self._applying = asyncio.Lock()
        self._unfinished: dict[str, Reset] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[LocalMesh]:
        """Everything that was started is stopped on the way out, whichever way that is."""
        async with self.network:
            try:
                async with asyncio.TaskGroup() as group:
                    self._group = group
                    roll = spawn(group, self.control_plane.run(), name="control plane")
                    try:
                        yield self
                    finally:
                        roll.cancel()
                        self._node.stop()
                        self._sidecars.end()
            finally:
                await self.discovery.stop()
                if self._applications is not None:
                    await self._applications.close()

    async def apply(self, *changes: Reset) -> None:
        """Makes the mesh be what sources say now, all at once. Raises PlatformError where this machine cannot."""
        async with self._applying:
            self._unfinished.update({change.source: change for change in changes})
            await self._apply()

    async def finish(self) -> bool:
        """Tries again what could not be done of the last changes, if anything; whether it is done now.

        Raises PlatformError.
        """
        async with self._applying:
            if not self._unfinished:
                return False
            await self._apply()
        return True

    async def restore(self) -> None:
        """Opens sockets again that someone has removed. Raises PlatformError."""
        async with self._applying:
            await self.discovery.restore()
            await self._node.restore()
            await self._sidecars.restore()

    async def _apply(self) -> None:
        try:
            await self._make_it_be()
        except OSError as error:
            raise PlatformError(f"this machine cannot do what the documents say: {error}") from error
        self._unfinished = {}

    async def _make_it_be(self) -> None:
        """What is decided says for whose proxy a workload is placed; what it is placed for, that proxy is told.

        Who is to give an address up has done so before another is told to take it.
        """
        plane = self.control_plane
        plane.apply(*self._unfinished.values())
        await plane.published()
        decided = {key: decision.dataplane.captor for key, decision in plane.mesh.decisions.items()}
        placements = await self.network.place(decided, node=self._node_name)
        await self._sidecars.stop(placements)
        plane.apply(Reset(PLACEMENTS, placements))
        await plane.published()
        await self._sidecars.start(group=self._tasks())
        await self._node.reconcile(group=self._tasks())
        if self._applications is not None:
            await self._applications.serve(self._application_ports())

    async def ready(self) -> None:
        """Waits until every Envoy is live and has what the control plane has for it. Raises ProxyError."""
        await asyncio.gather(self._node.ready(), self._sidecars.ready())
        await self.control_plane.settled()

    def placement(self, key: WorkloadKey) -> Placement:
        """Where a workload runs here; KeyError if it does not."""
        return self.control_plane.mesh.world.placements[key]

    def proxies(self) -> Mapping[ProxyKey, str]:
        """Every proxy, by who it is to the discovery server, and what it is called in a sentence."""
        sidecars = {proxy_key(key): f"the proxy of {key}" for key in self.control_plane.sidecars()}
        return sidecars | {self._node.key: "the node's proxy"}

    def node(self) -> NodeAgent:
        """The Envoy of all ambient workloads; for a mesh without a ztunnel."""
        if not isinstance(self._node, LocalNode):
            raise RuntimeError("ambient workloads are served by a ztunnel here")
        return self._node.proxy

    def ztunnel(self) -> Supervisor[ZtunnelLaunch]:
        """The ztunnel of all ambient workloads; for a mesh with one that has such workloads."""
        if not isinstance(self._node, LocalZtunnel) or self._node.supervisor is None:
            raise RuntimeError("there is no ztunnel here")
        return self._node.supervisor

    def agents(self) -> Mapping[WorkloadKey, SidecarAgent]:
        """The agents at work, by workload."""
        return self._sidecars.agents()

    def supervisors(self) -> tuple[EnvoySupervisor | Supervisor[ZtunnelLaunch], ...]:
        """Those of every proxy's process."""
        node = self._node.process
        return (*self._sidecars.processes.values(), *([] if node is None else [node]))

    def _envoy_node(self) -> LocalNode | LocalZtunnel:
        return LocalNode(
            self.discovery,
            plane=self.control_plane,
            node=self._node_name,
            folder=self._folder / "node",
            envoy=self._envoy,
            sign=self._signer,
            on_line=self._on_line,
            on_outage=self._on_outage,
            now=self._now,
        )

    def _ztunnel_node(self, binary: Path) -> LocalNode | LocalZtunnel:
        return LocalZtunnel(
            self._cache,
            self.discovery,
            plane=self.control_plane,
            node=self._node_name,
            folder=self._folder / "node",
            binary=binary,
            authority=self.authority,
            on_line=self._on_line,
            on_outage=self._on_outage,
            now=self._now,
        )

    def _process(self, proxy: ProxyKey) -> Process | None:
        return self._node.process if proxy == self._node.key else self._sidecars.processes.get(proxy)

    def _tasks(self) -> asyncio.TaskGroup:
        if self._group is None:
            raise RuntimeError("apply is for a running mesh")
        return self._group

    def _signer(self, identity: SpiffeId) -> Signer:
        async def sign(csr: bytes, /) -> IssuedCertificate | CsrRefusal:
            return await self.authority.sign(csr, caller=identity)

        return sign

    def _application_ports(self) -> dict[WorkloadKey, tuple[Endpoint, ...]]:
        """Where each workload's application has to listen."""
        found: dict[WorkloadKey, tuple[Endpoint, ...]] = {}
        for key, workload in self.control_plane.mesh.world.workloads.items():
            declared, placement = list(self.control_plane.declared(key)), self.placement(key)
            spare = undeclared_port(placement.capture, (port.number for port in declared))
            if spare is not None:
                declared.append(ApplicationPort(spare))
            own = placement.application or workload.addresses[0]
            found[key] = tuple(port.endpoint or Endpoint(own, port.number) for port in declared)
        return found
