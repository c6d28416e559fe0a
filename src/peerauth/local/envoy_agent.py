"""What runs beside every Envoy: its process, and the socket that it gets certificates from.

Private keys are made in `agent.sds`, lie in this process's memory and in Envoy's, and cross one Unix socket in a folder
of mode 0700. The control plane is reached by a socket of its own, so it may die while certificates go on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from peerauth.agent.outage import OnOutage
from peerauth.agent.supervisor import EnvoyLaunch, EnvoySupervisor
from peerauth.dataplane.envoy.bootstrap import Sockets, bootstrap
from peerauth.dataplane.type_urls import SECRET
from peerauth.errors import PlatformError
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import Discovery, DiscoveryServer, UdsBinding
from peerauth.xds.wire import ProxyKey


class EnvoyAgent:
    """One Envoy's agent, whoever it serves.

    `proxy` is who it is to discovery servers, `discovery` the socket where it looks for the control plane. `folder` is
    private to this run and short enough for sockets. `on_line` gets each line of the access log, `on_outage` is told
    when the Envoy ends by itself and when it is back.
    """

    def __init__(
        self,
        proxy: ProxyKey,
        *,
        name: str,
        cluster: str,
        folder: Path,
        envoy: Path,
        on_line: Callable[[bytes], None],
        on_outage: OnOutage,
        network_namespace: str = "",
        concurrency: int = 1,
    ) -> None:
        self.proxy = proxy
        self.discovery = folder / "xds.sock"
        self._secrets = folder / "sds.sock"
        sockets = Sockets(admin=str(folder / "admin.sock"), xds=str(self.discovery), sds=str(self._secrets))
        self._cache = ResourceCache()
        self._server = DiscoveryServer(self._cache)
        self.supervisor = EnvoySupervisor(
            EnvoyLaunch(
                name=name,
                binary=envoy,
                bootstrap=folder / "bootstrap.json",
                configuration=bootstrap(proxy, cluster=cluster, sockets=sockets),
                admin=folder / "admin.sock",
                log=folder / "envoy.log",
                network_namespace=network_namespace,
                concurrency=concurrency,
            ),
            on_line=on_line,
            on_outage=on_outage,
        )

    async def open(self) -> None:
        """Opens the socket that the Envoy gets its certificates from. Raises PlatformError; ends with `run`."""
        await self._server.serve(UdsBinding(self._secrets, self.proxy, (Discovery.SECRETS,)))

    async def open_with(self, control_plane: DiscoveryServer) -> None:
        """Opens that socket and the one where `control_plane` serves the Envoy: both or none. Raises PlatformError."""
        await self.open()
        try:
            await control_plane.serve(UdsBinding(self.discovery, self.proxy, (Discovery.AGGREGATED,)))
        except PlatformError:
            await self.close()
            raise

    async def close(self) -> None:
        """Closes the socket of an agent that does not run."""
        await self._server.stop()

    async def restore(self) -> None:
        """Opens the socket again if someone has removed it. Raises PlatformError."""
        await self._server.restore()

    def _publish(self, name: str, secret: bytes) -> None:
        self._cache.update(self.proxy, SECRET, {name: secret})
