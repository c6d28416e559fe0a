"""What runs once on a node: the Envoy that serves its ambient workloads, and a certificate for each identity of theirs.

The Envoy stays in the machine's own network and opens sockets inside the workloads' namespaces, which takes root. It
gets certificates over one Unix socket, by identity, for the identities of workloads that are on the node and no other;
keys lie in this process's memory and in Envoy's. The control plane is reached by a socket of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from peerauth.agent.outage import OnOutage, untold
from peerauth.agent.sds import Signer, WorkloadCertificate
from peerauth.agent.supervisor import EnvoyLaunch, EnvoySupervisor
from peerauth.aio import spawn
from peerauth.dataplane.envoy.bootstrap import Sockets, bootstrap
from peerauth.dataplane.type_urls import SECRET
from peerauth.identity.spiffe import SpiffeId
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import Discovery, DiscoveryServer, UdsBinding
from peerauth.xds.wire import ProxyKey


def node_key(node: str) -> ProxyKey:
    """The node id of a node's Envoy."""
    return ProxyKey(f"node~{node}")


class _Held(msgspec.Struct):
    certificate: WorkloadCertificate
    task: asyncio.Task[None]


class NodeAgent:
    """One node's agent. `run` keeps everything going until it is cancelled; `hold` says for which identities.

    `key` is who it is to the discovery server. `folder` is private to this run and short enough for sockets. `sign`
    gives the signer of an identity. `on_line` gets each line of the access log.
    """

    def __init__(
        self,
        key: ProxyKey,
        *,
        folder: Path,
        envoy: Path,
        sign: Callable[[SpiffeId], Signer],
        on_line: Callable[[bytes], None],
        on_outage: OnOutage = untold,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.key = key
        self.discovery = folder / "xds.sock"
        self._secrets = folder / "sds.sock"
        sockets = Sockets(admin=str(folder / "admin.sock"), xds=str(self.discovery), sds=str(self._secrets))
        self._sign = sign
        self._now = now
        self._cache = ResourceCache()
        self._server = DiscoveryServer(self._cache)
        self._held: dict[SpiffeId, _Held] = {}
        self._wanted: frozenset[SpiffeId] = frozenset()
        self._group: asyncio.TaskGroup | None = None
        self.supervisor = EnvoySupervisor(
            EnvoyLaunch(
                name="node proxy",
                binary=envoy,
                bootstrap=folder / "bootstrap.json",
                configuration=bootstrap(key, cluster="node", sockets=sockets),
                admin=folder / "admin.sock",
                log=folder / "envoy.log",
                # Both ends of a tunnel within the node are this one process.
                concurrency=len(os.sched_getaffinity(0)),
            ),
            on_line=on_line,
            on_outage=on_outage,
        )

    async def open(self) -> None:
        """Opens the socket that the Envoy gets its certificates from. Raises PlatformError; ends with `run`."""
        await self._server.serve(UdsBinding(self._secrets, self.key, (Discovery.SECRETS,)))

    async def run(self) -> None:
        """Keeps the certificates current and the Envoy running; on the way out all is stopped."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                spawn(group, self.supervisor.run(), name="node proxy: Envoy")
                self._reconcile()
        finally:
            self._group = None
            self._held.clear()
            with contextlib.suppress(asyncio.CancelledError):
                await self.close()

    async def close(self) -> None:
        """Closes the socket of a proxy that does not run."""
        await self._server.stop()

    async def restore(self) -> None:
        """Opens the socket again if someone has removed it. Raises PlatformError."""
        await self._server.restore()

    def hold(self, identities: Iterable[SpiffeId]) -> None:
        """Certificates for these identities and no other; those of others are taken away at once."""
        self._wanted = frozenset(identities)
        self._reconcile()

    def identities(self) -> tuple[SpiffeId, ...]:
        """The identities that have, or are to get, a certificate here."""
        return tuple(sorted(self._held))

    async def ready(self) -> None:
        """Waits until every certificate is there and Envoy is live. Raises ProxyError with what Envoy said last."""
        await self.supervisor.ready()
        await asyncio.gather(*(held.certificate.ready.wait() for held in self._held.values()))

    def _reconcile(self) -> None:
        if self._group is None:
            return  # `run` does it
        for identity in self._held.keys() - self._wanted:
            self._held.pop(identity).task.cancel()
            self._cache.update(self.key, SECRET, {}, removed=[identity.uri])
        for identity in sorted(self._wanted - self._held.keys()):
            certificate = WorkloadCertificate(
                identity,
                sign=self._sign(identity),
                publish=self._publish,
                now=self._now,
                certificate_name=identity.uri,
            )
            task = spawn(self._group, certificate.run(), name=f"{identity}: certificate")
            self._held[identity] = _Held(certificate, task)

    def _publish(self, name: str, secret: bytes) -> None:
        self._cache.update(self.key, SECRET, {name: secret})
