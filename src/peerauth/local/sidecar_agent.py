"""What runs beside one workload: its certificate, the socket its Envoy gets it from, and the Envoy itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from peerauth.agent.outage import OnOutage, untold
from peerauth.agent.sds import Signer, WorkloadCertificate
from peerauth.aio import spawn
from peerauth.control.plane import proxy_key
from peerauth.identity.spiffe import SpiffeId
from peerauth.local.envoy_agent import EnvoyAgent
from peerauth.model.inventory import WorkloadKey


class SidecarAgent(EnvoyAgent):
    """One sidecar's agent. `run` keeps everything going until it is cancelled; `ready` waits for a live Envoy."""

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
        super().__init__(
            proxy_key(key),
            name=str(key),
            cluster=f"{key.name}.{key.namespace}",
            folder=folder,
            envoy=envoy,
            on_line=on_line,
            on_outage=on_outage,
            network_namespace=network_namespace,
        )
        self.key = key
        self.certificate = WorkloadCertificate(identity, sign=sign, publish=self._publish, now=now)

    async def run(self) -> None:
        """Keeps the certificate current and the Envoy running; on the way out all is stopped."""
        try:
            async with asyncio.TaskGroup() as group:
                spawn(group, self.certificate.run(), name=f"{self.key}: certificate")
                spawn(group, self.supervisor.run(), name=f"{self.key}: Envoy")
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await self.close()

    async def ready(self) -> None:
        """Waits until the certificate is there and Envoy is live. Raises ProxyError with what Envoy said last."""
        await self.certificate.ready.wait()
        await self.supervisor.ready()
