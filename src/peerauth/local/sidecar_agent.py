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

from peerauth.agent.outage import OnOutage, untold
from peerauth.agent.sds import Signer, WorkloadCertificate
from peerauth.agent.supervisor import EnvoyLaunch, EnvoySupervisor
from peerauth.aio import spawn
from peerauth.control.plane import proxy_key
from peerauth.dataplane.envoy.bootstrap import Sockets, bootstrap
from peerauth.dataplane.type_urls import SECRET
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.inventory import WorkloadKey
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import Discovery, DiscoveryServer, UdsBinding


class SidecarAgent:
    """One sidecar's agent. `run` keeps everything going until it is cancelled; `ready` waits for a live Envoy.

    `folder` is private to this run and short enough for sockets. `on_line` gets each line of the access
    log, `on_outage` is told when the Envoy ends by itself and when it is back.
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
        on_outage: OnOutage = untold,
        network_namespace: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.key = key
        self.discovery = folder / "xds.sock"
        self._secrets = folder / "sds.sock"
        sockets = Sockets(admin=str(folder / "admin.sock"), xds=str(self.discovery), sds=str(self._secrets))
        self._cache = ResourceCache()
        self._server = DiscoveryServer(self._cache)
        self.certificate = WorkloadCertificate(identity, sign=sign, publish=self._publish, now=now)
        self.supervisor = EnvoySupervisor(
            EnvoyLaunch(
                name=str(key),
                binary=envoy,
                bootstrap=folder / "bootstrap.json",
                configuration=bootstrap(proxy_key(key), cluster=f"{key.name}.{key.namespace}", sockets=sockets),
                admin=folder / "admin.sock",
                log=folder / "envoy.log",
                network_namespace=network_namespace,
            ),
            on_line=on_line,
            on_outage=on_outage,
        )

    async def open(self) -> None:
        """Opens the socket that the Envoy gets its certificate from. Raises PlatformError; ends with `run`."""
        await self._server.serve(UdsBinding(self._secrets, proxy_key(self.key), (Discovery.SECRETS,)))

    async def run(self) -> None:
        """Keeps the certificate current and the Envoy running; on the way out all is stopped."""
        try:
            async with asyncio.TaskGroup() as group:
                spawn(group, self.certificate.run(), name=f"{self.key}: certificate")
                spawn(group, self.supervisor.run(), name=f"{self.key}: Envoy")
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await self.close()

    async def close(self) -> None:
        """Closes the socket of an agent that does not run."""
        await self._server.stop()

    async def restore(self) -> None:
        """Opens the socket again if someone has removed it. Raises PlatformError."""
        await self._server.restore()

    async def ready(self) -> None:
        """Waits until the certificate is there and Envoy is live. Raises ProxyError with what Envoy said last."""
        await self.certificate.ready.wait()
        await self.supervisor.ready()

    def _publish(self, name: str, secret: bytes) -> None:
        self._cache.update(proxy_key(self.key), SECRET, {name: secret})
