"""The ambient half of a mesh on this machine, served by Istio's ztunnel: the sibling of `node`, chosen instead.

ztunnel is a stranger that has what anyone's would have: a TCP socket with discovery and the certificate service, a
token in a file, and the node agent's socket. What it may have certificates for is what the control plane has placed on
its node. The key that signs tokens is made for the run, and nobody else has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from peerauth.agent.outage import OnOutage, untold
from peerauth.agent.supervisor import Supervisor
from peerauth.agent.zds import ZdsServer, ZdsWorkload
from peerauth.agent.ztunnel import ZtunnelLaunch, require_free_port
from peerauth.aio import spawn
from peerauth.ca.attest import Caller
from peerauth.ca.keyfiles import make_private_folder, replace_file
from peerauth.ca.node_token import issue_token
from peerauth.ca.service import CertificateAuthority
from peerauth.ca.serving import ServingCertificate
from peerauth.control.plane import ControlPlane
from peerauth.control.ztunnels import ZtunnelFeed, ztunnel_key
from peerauth.dataplane.type_urls import ADDRESS, AUTHORIZATION
from peerauth.errors import PlatformError
from peerauth.identity.keys import CURVE
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.placement import Captor
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import DiscoveryServer, ServerCertificate, TlsBinding
from peerauth.xds.wire import ProxyKey

HOSTNAME = "control-plane.peerauth.internal"
NAMESPACE, SERVICE_ACCOUNT = "istio-system", "ztunnel"
TOKEN_LIFETIME = timedelta(hours=24)
RENEWAL_SECONDS = 3600.0
"""How often the token and the roots are written anew; ztunnel reads the token's file for every request."""


class LocalZtunnel:
    """One ztunnel for all ambient workloads that are placed on a node. `reconcile` after every change.

    To be made before the world has anything in it. `folder` is private to this run and short enough for sockets.
    """

    def __init__(
        self,
        cache: ResourceCache,
        discovery: DiscoveryServer,
        *,
        plane: ControlPlane,
        node: str,
        folder: Path,
        binary: Path,
        authority: CertificateAuthority,
        on_line: Callable[[bytes], None],
        on_outage: OnOutage = untold,
        now: Callable[[], datetime],
    ) -> None:
        self.key = ztunnel_key(node)
        self._node = node
        self._discovery = discovery
        self._folder = folder
        self._binary = binary
        self._authority = authority
        self._on_line = on_line
        self._on_outage = on_outage
        self._now = now
        self._feed = ZtunnelFeed(cache, mesh=plane.mesh)
        plane.project(self._feed.resources, proxy=ProxyKey, members=lambda _: (self.key,))
        self._plane = plane
        self._token_key = ec.generate_private_key(CURVE)
        self._serving: ServingCertificate | None = None
        self._stale = False
        self._zds = ZdsServer(folder / "zds.sock")
        self._task: asyncio.Task[None] | None = None
        self.supervisor: Supervisor[ZtunnelLaunch] | None = None

    async def reconcile(self, *, group: asyncio.TaskGroup) -> None:
        """Hands over the namespaces of the ambient workloads that are placed here.

        What the control plane says of them has been told before, by `ControlPlane.apply`.
        """
        world = self._plane.mesh.world
        here = {
            key: placement.network_namespace
            for key, placement in sorted(world.placements.items())
            if placement.node == self._node and placement.captor is Captor.NODE and placement.network_namespace
        }
        self._zds.serve(
            ZdsWorkload(
                uid=namespace,
                name=key.name,
                namespace=key.namespace,
                service_account=world.workloads[key].service_account,
                network_namespace=namespace,
            )
            for key, namespace in here.items()
        )
        if self._task is None and here:
            launch = await self._prepare()
            self.supervisor = Supervisor(launch, on_line=self._on_line, on_outage=self._on_outage)
            self._task = spawn(group, self._run(self.supervisor), name="ztunnel")

    async def ready(self) -> None:
        """Waits until ztunnel is live, has what it is told, and has every workload. Raises ProxyError."""
        if self.supervisor is None:
            return
        await self.supervisor.ready()
        for kind in (AUTHORIZATION, ADDRESS):
            await self._discovery.wait_acked(self.key, kind)
        await self._zds.settled()

    @property
    def process(self) -> Supervisor[ZtunnelLaunch] | None:
        """Ztunnel's process, once there is an ambient workload."""
        return self.supervisor

    def stop(self) -> None:
        """Begins to end ztunnel, if it runs; its task group waits for it."""
        if self._task is not None:
            self._task.cancel()

    async def restore(self) -> None:
        """Makes again what someone has removed, or what could not be written. Raises PlatformError."""
        if self.supervisor is None:
            return
        launch = self.supervisor.launch
        make_private_folder(self._folder)
        self._zds.restore()
        if self._stale or not (launch.token.exists() and launch.roots.exists()):
            self._write_credentials(launch)

    async def _prepare(self) -> ZtunnelLaunch:
        """Opens the control plane's socket and writes what ztunnel reads. Raises PlatformError and OSError."""
        require_free_port()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        public = self._token_key.public_key()
        certificates = self._feed.certificates(self._authority, key=public, now=self._now)
        port = await self._discovery.serve_tls(
            TlsBinding(
                "127.0.0.1:0",
                certificate=self._certificate,
                authenticate=self._feed.authenticator(key=public, now=self._now),
                others=(certificates.handler(),),
            )
        )
        launch = ZtunnelLaunch(
            binary=self._binary,
            node=self._node,
            control_plane=f"127.0.0.1:{port}",
            hostname=HOSTNAME,
            roots=self._folder / "roots.pem",
            token=self._folder / "token",
            agent=self._folder / "zds.sock",
            certificate_seconds=int(self._authority.default_lifetime.total_seconds()),
            log=self._folder / "ztunnel.log",
            is_live=lambda: self._zds.connected and self._discovery.connected(self.key),
        )
        self._write_credentials(launch)
        return launch

    async def _run(self, supervisor: Supervisor[ZtunnelLaunch]) -> None:
        async with asyncio.TaskGroup() as group:
            spawn(group, self._keep_credentials(supervisor.launch), name="ztunnel: token")
            spawn(group, self._zds.run(), name="ztunnel: workloads")
            spawn(group, supervisor.run(), name="ztunnel: process")

    async def _keep_credentials(self, launch: ZtunnelLaunch) -> None:
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            try:
                self._write_credentials(launch)
            except PlatformError:
                self._stale = True  # for `restore`

    def _write_credentials(self, launch: ZtunnelLaunch) -> None:
        identity = SpiffeId(self._authority.trust_domain, NAMESPACE, SERVICE_ACCOUNT)
        caller = Caller(identity, self._node)
        token = issue_token(caller, key=self._token_key, now=self._now(), lifetime=TOKEN_LIFETIME)
        replace_file(launch.token, token.encode())
        replace_file(launch.roots, self._authority.roots_pem)
        self._stale = False

    def _certificate(self) -> ServerCertificate:
        """The socket's certificate, made anew when it is due."""
        if self._serving is None or self._now() >= self._serving.renew_at:
            self._serving = self._authority.serving_certificate([HOSTNAME])
        return ServerCertificate(self._serving.chain, self._serving.key)
