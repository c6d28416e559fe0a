"""A whole mesh on this machine for a test: real Envoys, counting applications, clients, and who never stops dialling.

Everything that a test touches is here by the name of what it is; what the mesh itself does is `LocalMesh`'s. Documents
are given as text or paths; the fixed address of the example's egress listeners is moved, so that runs do not meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from peerauth.agent.echo import listen_tcp
from peerauth.agent.netns import unsupported
from peerauth.agent.supervisor import find_envoy
from peerauth.ca.service import CertificateAuthority
from peerauth.ca.store import open_state
from peerauth.identity.x509 import SVID_LIFETIME
from peerauth.local.instance import claim
from peerauth.local.mesh import LocalMesh
from peerauth.local.networks import LoopbackNetwork, NamespaceNetwork, Network
from peerauth.local.proof import probe_credentials
from peerauth.model.connections import ConnectionSeen
from peerauth.model.inventory import Sidecar, WorkloadKey
from peerauth.model.placement import Capture
from peerauth.model.world import MeshObject, Reset
from peerauth.probe import Credentials, SocketFactory
from peerauth.probe.credentials import ClientCertificate, client_context
from peerauth.runtime import settings
from peerauth.sources.files import collect, load
from peerauth.sources.reader import DocumentReader
from peerauth.telemetry.accesslog import AccessLog
from rigs.clients import Connection, loopback
from rigs.envoycounts import envoy_stats

EXAMPLE = Path(__file__).parents[2] / "examples" / "finance"
DOCUMENTED_BIND = "127.0.0.21"
TRUST_DOMAIN = "cluster.local"
PATIENCE_S = 20.0
FORBIDDEN = b"plaintext that must not arrive\n"

CLIENT = WorkloadKey("foo", "client", "Deployment")
FINANCE = WorkloadKey("foo", "finance", "Deployment")
WEB = WorkloadKey("foo", "web", "Deployment")
LEGACY = WorkloadKey("legacy", "client", "Deployment")

NO_ROOT = unsupported()
EGRESS = loopback(251)


def example(*policies: str) -> tuple[MeshObject, ...]:
    """The workloads of examples/finance with some of its policies, as paths below it or as text."""
    return objects(EXAMPLE / "mesh.yaml", *(EXAMPLE / each if each.count("\n") == 0 else each for each in policies))


def objects(*documents: str | Path) -> tuple[MeshObject, ...]:
    """What documents say; they must be without fault."""
    found: list[MeshObject] = []
    for document in documents:
        if isinstance(document, Path):
            loaded = load([str(document)])
        else:
            loaded = collect(DocumentReader().stream(document.encode(), file="test.yaml"))
        assert loaded.diagnostics == ()
        found += loaded.objects
    return tuple(_moved(each) for each in found)


def _moved(said: MeshObject) -> MeshObject:
    if not isinstance(said, Sidecar):
        return said
    listeners = tuple(
        msgspec.structs.replace(each, bind=EGRESS if each.bind == DOCUMENTED_BIND else each.bind)
        for each in said.egress
    )
    return msgspec.structs.replace(said, egress=listeners)


def policy(where: str, mode: str, *, app: str = "", ports: Mapping[int, str] | None = None) -> str:
    """A PeerAuthentication as text; `where` is its namespace, `app` the label it selects."""
    name = app or "default"
    lines = ["apiVersion: security.istio.io/v1", "kind: PeerAuthentication"]
    lines += [f"metadata: {{name: {name}, namespace: {where}}}", "spec:"]
    if app:
        lines += [f"  selector: {{matchLabels: {{app: {app}}}}}"]
    lines += [f"  mtls: {{mode: {mode}}}"]
    if ports:
        lines += ["  portLevelMtls:", *(f"    {port}: {{mode: {said}}}" for port, said in ports.items())]
    return "\n".join(lines) + "\n"


class Ledger:
    """An application that repeats what it hears and remembers whether what must not arrive did."""

    def __init__(self) -> None:
        self.connections = 0
        self.received = 0
        self.forbidden = 0
        self.open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.add(writer)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                self.received += len(data)
                self.forbidden += FORBIDDEN in data
                writer.write(data)
        writer.close()
        self.open.discard(writer)


@contextlib.asynccontextmanager
async def application(listener: socket.socket, ledger: Ledger) -> AsyncIterator[None]:
    """Serves a listening socket, TCP or Unix."""
    start = asyncio.start_unix_server if listener.family == socket.AF_UNIX else asyncio.start_server
    server = await start(ledger.serve, sock=listener)
    try:
        yield
    finally:
        server.close()
        for writer in tuple(ledger.open):
            writer.transport.abort()


class Hammer:
    """One who dials a port in plaintext for as long as the test lasts; `outcomes` counts what became of it."""

    def __init__(
        self, address: str, port: int, *, sockets: SocketFactory | None = None, connect_seconds: float = PATIENCE_S
    ) -> None:
        self._address, self._port, self._sockets = address, port, sockets
        self._connect_seconds = connect_seconds
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._news = asyncio.Condition()
        self.outcomes: Counter[str] = Counter()

    async def run(self) -> None:
        while True:
            outcome = await self._dial()
            self.outcomes[outcome] += 1
            async with self._news:
                self._news.notify_all()
            if outcome == "unreachable":
                await asyncio.sleep(0.001)  # nothing listens: refused at once, and nothing else would run

    async def more(self, count: int, *kinds: str) -> None:
        """Returns when it has met one of these outcomes, or any, so many times more."""
        wanted = self._met(kinds) + count
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: self._met(kinds) >= wanted)

    def _met(self, kinds: Collection[str]) -> int:
        return sum(count for kind, count in self.outcomes.items() if not kinds or kind in kinds)

    async def _dial(self) -> str:
        loop = asyncio.get_running_loop()
        made = self._sockets(self._family) if self._sockets else socket.socket(self._family)
        with made:
            made.setblocking(False)
            try:
                async with asyncio.timeout(self._connect_seconds):
                    await loop.sock_connect(made, (self._address, self._port))
            except OSError:
                return "unreachable"
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await loop.sock_sendall(made, FORBIDDEN)
                    return "answered" if await loop.sock_recv(made, 100) else "refused"
            except TimeoutError:
                return "silent"
            except OSError:
                return "refused"


@contextlib.asynccontextmanager
async def hammering(*targets: tuple[str, int], sockets: SocketFactory | None = None) -> AsyncIterator[list[Hammer]]:
    """Hammers at addresses and ports until left."""
    hammers = [Hammer(address, port, sockets=sockets) for address, port in targets for _ in range(2)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(hammer.run()) for hammer in hammers]
        try:
            yield hammers
        finally:
            for task in tasks:
                task.cancel()


class Machine:
    """A running mesh and what a test does with it."""

    def __init__(
        self, mesh: LocalMesh, *, log: AccessLog, presented: Credentials, stack: contextlib.AsyncExitStack
    ) -> None:
        self.mesh, self.log, self.presented = mesh, log, presented
        self._stack = stack
        self._news = asyncio.Condition()

    @property
    def network(self) -> Network:
        return self.mesh.network

    async def load(self, said: Iterable[MeshObject]) -> None:
        """Takes documents in, all there are, and returns when every proxy has what follows from them."""
        await self.take(said)
        await self.mesh.ready()

    async def take(self, said: Iterable[MeshObject]) -> None:
        """The same without waiting."""
        await self.mesh.apply(Reset("documents", tuple(said)))

    async def serve(self, key: WorkloadKey, *ports: int, ledger: Ledger | None = None) -> Ledger:
        """An application behind ports of a workload, where the workload's application has to listen."""
        ledger = ledger or Ledger()
        place = self.mesh.placement(key)
        for port in ports:
            for address in (place.application,) if place.application else place.addresses:
                listener = listen_tcp(address, port, sockets=self.network.sockets(key))
                await self._stack.enter_async_context(application(listener, ledger))
        return ledger

    def at(self, key: WorkloadKey, *, ipv6: bool = False) -> str:
        """A workload's address, as others dial it."""
        return next(address for address in self.mesh.placement(key).addresses if (":" in address) is ipv6)

    async def dial(
        self,
        key: WorkloadKey,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        by: WorkloadKey | None = None,
        ipv6: bool = False,
    ) -> Connection:
        """Connects from outside the mesh, or as a workload's application; it lives until the test ends it."""
        return await self.dial_at(self.at(key, ipv6=ipv6), port, tls=tls, by=by)

    async def dial_at(
        self, address: str, port: int, *, tls: ssl.SSLContext | None = None, by: WorkloadKey | None = None
    ) -> Connection:
        sockets = self.network.sockets(by) if by else self.network.outside()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection = await Connection.open(address, port, tls, new_socket=lambda: sockets(family))
        self._stack.push_async_callback(connection.close)
        return connection

    async def reaches(
        self,
        key: WorkloadKey,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        by: WorkloadKey | None = None,
        ipv6: bool = False,
    ) -> bool:
        """Whether a new connection gets an answer from the application."""
        try:
            connection = await self.dial(key, port, tls=tls, by=by, ipv6=ipv6)
        except OSError:
            return False
        answered = await connection.echoes()
        await connection.close()
        return answered

    def mutual(
        self,
        *,
        certificate: ClientCertificate | None = None,
        alpn: Sequence[str] = ("istio",),
        newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
    ) -> ssl.SSLContext:
        """TLS as a mesh client speaks it, with the mesh's certificate or another."""
        context = client_context(certificate or self.presented.mesh, roots=self.presented.roots, alpn=tuple(alpn))
        context.maximum_version = newest
        return context

    async def stats(self, key: WorkloadKey) -> dict[str, int]:
        """The counters and gauges of a workload's Envoy."""
        return await envoy_stats(self.mesh.agents()[key].supervisor.launch.admin)

    @contextlib.contextmanager
    def arrivals(self) -> Iterator[asyncio.Queue[ConnectionSeen]]:
        """What the servers' proxies log of connections from now on."""
        queue: asyncio.Queue[ConnectionSeen] = asyncio.Queue()
        with self.log.heard_by(queue.put_nowait):
            yield queue


async def until(condition: Callable[[], bool], *, seconds: float = PATIENCE_S) -> None:
    """Polls, where nothing tells."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def now() -> datetime:
    return datetime.now(UTC)


def network_of(capture: Capture, *, instance: int) -> Network:
    return NamespaceNetwork() if capture is Capture.TRANSPARENT else LoopbackNetwork(instance)


@contextlib.asynccontextmanager
async def machine(
    folder: Path,
    *,
    capture: Capture = Capture.EXPLICIT,
    applications: bool = False,
    lifetime: timedelta = SVID_LIFETIME,
    trust_domain: str = TRUST_DOMAIN,
    network: Callable[[int], Network] | None = None,
    ztunnel: Path | None = None,
) -> AsyncIterator[Machine]:
    """A mesh that has nothing yet: `load` gives it documents. `folder` keeps the authority's keys."""
    issuer = open_state(folder / "ca", trust_domain=trust_domain, now=now())
    authority = CertificateAuthority(issuer, trust_domain=trust_domain, now=now, default_lifetime=lifetime)
    log = AccessLog()
    with claim(settings.from_environment().sockets) as instance:
        mesh = LocalMesh(
            network(instance.number) if network else network_of(capture, instance=instance.number),
            authority=authority,
            folder=instance.folder,
            envoy=find_envoy(),
            with_applications=applications,
            ztunnel=ztunnel,
            on_line=log.feed,
        )
        presented = probe_credentials(issuer, trust_domain=trust_domain, now=now(), serial=secrets.randbits(120))
        async with mesh.running(), contextlib.AsyncExitStack() as stack:
            yield Machine(mesh, log=log, presented=presented, stack=stack)
