"""What runs beside one workload: its certificate, the socket its Envoy gets it from, and the Envoy itself.

The private key is made in `agent.sds`, lies in this process's memory and in Envoy's, and crosses one Unix socket in a
folder of mode 0700. The control plane is reached by a socket of its own, so it may die while certificates go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from peerauth.agent.sds import Signer, WorkloadCertificate
from peerauth.agent.supervisor import EnvoyLaunch, EnvoySupervisor
from peerauth.aio import spawn
from peerauth.dataplane.envoy.bootstrap import Sockets, bootstrap
from peerauth.dataplane.resources import SECRET
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.inventory import WorkloadKey
from peerauth.runtime.control_plane import proxy_key
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import DiscoveryServer, Service, UdsBinding


class NodeAgent:
    """One sidecar's agent. `run` keeps everything going until it is cancelled; `ready` waits for a live Envoy.

    `folder` is private to this run and short enough for sockets. `on_line` gets each line of the access log.
    """

    def __init__(
        self,
        key: WorkloadKey,
        *,
        identity: SpiffeId,
        folder: Path,
        envoy: Path,
        sign: Signer,
        on_line: Callable[[bytes], None],
        network_namespace: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.key = key
        self.discovery = folder / "xds.sock"
        self._secrets = folder / "sds.sock"
        self._bootstrap = folder / "bootstrap.json"
        self._folder = folder
        self._cache = ResourceCache()
        self._server = DiscoveryServer(self._cache)
        self.certificate = WorkloadCertificate(identity, sign=sign, publish=self._publish, now=now)
        self.supervisor = EnvoySupervisor(
            EnvoyLaunch(
                name=str(key),
                binary=envoy,
                bootstrap=self._bootstrap,
                admin=folder / "admin.sock",
                log=folder / "envoy.log",
                network_namespace=network_namespace,
            ),
            on_line=on_line,
        )

    def prepare(self) -> None:
        """Makes the folder and the file that Envoy starts from. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sockets = Sockets(admin=str(self.supervisor.launch.admin), xds=str(self.discovery), sds=str(self._secrets))
        node = proxy_key(self.key)
        cluster = f"{self.key.name}.{self.key.namespace}"
        self._bootstrap.touch(mode=0o600)
        self._bootstrap.write_text(bootstrap(node, cluster=cluster, sockets=sockets))

    async def run(self) -> None:
        """Serves certificates and keeps the Envoy running; on the way out both are stopped."""
        proxy = proxy_key(self.key)
        try:
            await self._server.serve(UdsBinding(self._secrets, proxy, (Service.SECRETS,)))
            async with asyncio.TaskGroup() as group:
                spawn(group, self.certificate.run(), name=f"{self.key}: certificate")
                spawn(group, self.supervisor.run(), name=f"{self.key}: Envoy")
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await self._server.stop()

    async def ready(self) -> None:
        """Waits until the certificate is there and Envoy is live. Raises ProxyError with what Envoy said last."""
        await self.certificate.ready.wait()
        await self.supervisor.ready()

    def _publish(self, name: str, secret: bytes) -> None:
        self._cache.update(proxy_key(self.key), SECRET, {name: secret})
