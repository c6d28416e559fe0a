"""What runs once on a node: the Envoy that serves its ambient workloads, and a certificate for each identity of theirs.

The Envoy stays in the machine's own network and opens sockets inside the workloads' namespaces, which takes root. It
gets certificates by identity, for the identities of workloads that are on the node and no other.
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
from peerauth.aio import spawn
from peerauth.dataplane.type_urls import SECRET
from peerauth.identity.spiffe import SpiffeId
from peerauth.local.envoy_agent import EnvoyAgent
from peerauth.xds.wire import ProxyKey


def node_key(node: str) -> ProxyKey:
    """The node id of a node's Envoy."""
    return ProxyKey(f"node~{node}")


class _Held(msgspec.Struct):
    certificate: WorkloadCertificate
    task: asyncio.Task[None]


class NodeAgent(EnvoyAgent):
    """One node's agent. `run` keeps everything going until it is cancelled; `hold` says for which identities.

    `sign` gives the signer of an identity.
    """

    def __init__(
        self,
        proxy: ProxyKey,
        *,
        folder: Path,
        envoy: Path,
        sign: Callable[[SpiffeId], Signer],
        on_line: Callable[[bytes], None],
        on_outage: OnOutage = untold,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(
            proxy,
            name="node proxy",
            cluster="node",
            folder=folder,
            envoy=envoy,
            on_line=on_line,
            on_outage=on_outage,
            # Both ends of a tunnel within the node are this one process.
            concurrency=len(os.sched_getaffinity(0)),
        )
        self._sign = sign
        self._now = now
        self._held: dict[SpiffeId, _Held] = {}
        self._wanted: frozenset[SpiffeId] = frozenset()
        self._group: asyncio.TaskGroup | None = None

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
            self._cache.update(self.proxy, SECRET, {}, removed=[identity.uri])
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
