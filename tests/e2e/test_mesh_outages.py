"""What goes away comes back without anyone noticing: the control plane, a proxy, a certificate."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from peerauth.agent.echo import listen_tcp
from peerauth.agent.supervisor import find_envoy
from peerauth.ca.service import CertificateAuthority
from peerauth.ca.store import open_state
from peerauth.identity.csr import CsrRefusal, IssuedCertificate
from peerauth.identity.spiffe import SpiffeId
from peerauth.local.instance import claim
from peerauth.local.networks import LoopbackNetwork
from peerauth.local.proof import probe_credentials
from peerauth.local.sidecar_agent import SidecarAgent
from peerauth.model.inventory import Workload, WorkloadKey
from peerauth.model.placement import Captor, Placement
from peerauth.probe.credentials import client_context
from peerauth.runtime import settings
from peerauth.telemetry.accesslog import AccessLog
from rigs import control_plane_process
from rigs.clients import Connection, serial_of
from rigs.control_plane_process import Plan, Proxy
from rigs.envoycounts import STANDS_STILL, envoy_stats, failed_handshakes
from rigs.mesh_on_this_machine import (
    DOCUMENTED_BIND,
    EGRESS,
    EXAMPLE,
    FINANCE,
    TRUST_DOMAIN,
    WEB,
    Ledger,
    application,
    example,
    hammering,
    machine,
    now,
    objects,
    policy,
    until,
)

pytestmark = pytest.mark.envoy


class Traffic:
    """Clients who never stop: on connections that stay open, and on a new one each time. `failed` must stay empty."""

    def __init__(self) -> None:
        self.done = 0
        self.stopped = False
        self.failed: list[str] = []

    async def keep_using(self, connection: Connection, name: str) -> None:
        while not self.stopped:
            self._count(await connection.echoes(), name)
            await asyncio.sleep(0.001)  # an answer is there at once: leave the machine to others now and then

    async def keep_dialling(self, address: str, port: int, tls: ssl.SSLContext | None) -> None:
        while not self.stopped:
            try:
                connection = await Connection.open(address, port, tls)
            except OSError as error:
                self.failed.append(f"{address}:{port} after {self.done}: {error}")
                return
            self._count(await connection.echoes(), f"a new connection to {address}:{port}")
            await connection.close()

    def _count(self, answered: bool, name: str) -> None:
        self.done += 1
        if not answered:
            self.failed.append(f"{name} after {self.done}")
            self.stopped = True

    async def more(self, count: int) -> None:
        wanted = self.done + count
        await until(lambda: self.done >= wanted or bool(self.failed))


class Detached:
    """Agents with their Envoys in this process, the control plane in another."""

    def __init__(
        self, folder: Path, agents: dict[WorkloadKey, SidecarAgent], places: dict[WorkloadKey, Placement]
    ) -> None:
        self.documents = folder / "documents"
        self.agents = agents
        self.places = places
        self._process: asyncio.subprocess.Process | None = None

    def write(self, *policies: str) -> None:
        """The documents as the control plane will read them next."""
        self.documents.mkdir(exist_ok=True)
        mesh = (EXAMPLE / "mesh.yaml").read_text().replace(DOCUMENTED_BIND, EGRESS)
        (self.documents / "mesh.yaml").write_text(mesh)
        (self.documents / "policy.yaml").write_text("---\n".join(policies))

    async def start(self) -> None:
        sockets = {key: str(agent.discovery) for key, agent in self.agents.items()}
        proxies = tuple(Proxy(place, sockets.get(key, "")) for key, place in self.places.items())
        plan = msgspec.json.encode(Plan(str(self.documents), proxies)).decode()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", control_plane_process.__name__, plan),
            cwd=Path(__file__).parents[1],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )

    async def settled(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            assert await self._process.stdout.readline() == b"settled\n"

    async def read_again(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        await self.settled()

    async def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.communicate()

    async def stats(self, key: WorkloadKey) -> dict[str, int]:
        found = await envoy_stats(self.agents[key].supervisor.launch.admin)
        return {name: found[name] for name in STANDS_STILL}


@contextlib.asynccontextmanager
async def detached(folder: Path, authority: CertificateAuthority) -> AsyncIterator[Detached]:
    workloads = [each for each in objects(EXAMPLE / "mesh.yaml") if isinstance(each, Workload)]
    captors = {each.key: Captor.SIDECAR if each.meta.namespace == "foo" else Captor.NOBODY for each in workloads}
    with claim(settings.from_environment().sockets) as instance:
        placed = await LoopbackNetwork(instance.number).place(captors, node="local")
        places = {each.workload: each for each in placed}
        agents: dict[WorkloadKey, SidecarAgent] = {}
        for number, key in enumerate(key for key in places if captors[key] is Captor.SIDECAR):
            identity = SpiffeId(TRUST_DOMAIN, key.namespace, key.name)

            async def sign(csr: bytes, identity: SpiffeId = identity) -> IssuedCertificate | CsrRefusal:
                return await authority.sign(csr, caller=identity)

            agents[key] = SidecarAgent(
                key,
                identity=identity,
                folder=instance.folder / str(number),
                envoy=find_envoy(),
                sign=sign,
                on_line=AccessLog().feed,
            )
            await agents[key].open()
        running = Detached(folder, agents, places)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(agent.run()) for agent in agents.values()]
            try:
                yield running
            finally:
                await running.kill()
                for task in tasks:
                    task.cancel()


async def test_a_control_plane_is_killed_and_restarted_under_load_and_no_one_notices(tmp_path: Path) -> None:
    issuer = open_state(tmp_path / "ca", trust_domain=TRUST_DOMAIN, now=now())
    authority = CertificateAuthority(issuer, trust_domain=TRUST_DOMAIN, now=now)
    presented = probe_credentials(issuer, trust_domain=TRUST_DOMAIN, now=now(), serial=1)
    mutual = client_context(presented.mesh, roots=presented.roots, alpn=("istio",))
    async with detached(tmp_path, authority) as running, contextlib.AsyncExitStack() as stack:
        running.write(policy("foo", "STRICT", app="finance", ports={9000: "PERMISSIVE"}))
        await running.start()
        await running.settled()
        await asyncio.gather(*(agent.ready() for agent in running.agents.values()))

        strict, other = Ledger(), Ledger()
        place = running.places[FINANCE]
        for port, ledger in ((8080, strict), (9000, other)):
            await stack.enter_async_context(application(listen_tcp(place.application, port), ledger))
        address, traffic = place.addresses[0], Traffic()
        targets = ((address, 9000, None), (address, 8080, mutual), (EGRESS, 8080, None))
        open_ones = [await Connection.open(*target) for target in targets]
        for connection in open_ones:
            stack.push_async_callback(connection.close)
        plain, tunnel, through_the_proxy = open_ones

        async with asyncio.TaskGroup() as group, hammering((address, 8080)) as hammers:
            for target, connection in zip(targets, open_ones, strict=True):
                group.create_task(traffic.keep_using(connection, f"the open connection to {target[0]}:{target[1]}"))
                group.create_task(traffic.keep_dialling(*target))
            await traffic.more(50)
            before = {key: await running.stats(key) for key in running.agents}
            await running.kill()
            await traffic.more(200)
            assert {key: await running.stats(key) for key in running.agents} == before

            await running.start()
            await running.settled()
            await traffic.more(200)
            assert {key: await running.stats(key) for key in running.agents} == before
            assert traffic.failed == []

            traffic.stopped = True
            await asyncio.gather(*(hammer.more(5, "refused") for hammer in hammers))
            assert strict.forbidden == 0
            assert all(set(hammer.outcomes) == {"refused"} for hammer in hammers)
        assert await plain.echoes()
        running.write(policy("foo", "STRICT", app="finance"))
        await running.read_again()
        async with asyncio.timeout(5):
            assert await plain.ended()
        assert await tunnel.echoes()
        assert await through_the_proxy.echoes()


async def test_a_proxy_that_dies_while_there_is_no_control_plane_stays_closed_until_there_is_one(
    tmp_path: Path,
) -> None:
    issuer = open_state(tmp_path / "ca", trust_domain=TRUST_DOMAIN, now=now())
    authority = CertificateAuthority(issuer, trust_domain=TRUST_DOMAIN, now=now)
    async with detached(tmp_path, authority) as running:
        running.write(policy("foo", "PERMISSIVE"))
        await running.start()
        await running.settled()
        place, supervisor = running.places[WEB], running.agents[WEB].supervisor
        await supervisor.ready()
        ledger = Ledger()
        async with (
            application(listen_tcp(place.application, 8080), ledger),
            hammering((place.addresses[0], 8080)) as hammers,
        ):
            await hammers[0].more(3, "answered")
            await running.kill()
            assert supervisor.pid is not None
            os.kill(supervisor.pid, signal.SIGKILL)
            await hammers[0].more(1, "unreachable")
            received = ledger.received
            await until(lambda: supervisor.restarts == 1 and supervisor.pid is not None)
            await hammers[0].more(50)
            assert ledger.received == received
            running.write(policy("foo", "STRICT"))
            await running.start()
            await running.settled()
            await supervisor.ready()
            await hammers[0].more(10, "refused")
            assert ledger.received == received, "it comes back with what is in force now"


async def test_certificates_are_renewed_without_a_failed_handshake_or_a_dropped_connection(tmp_path: Path) -> None:
    async with machine(tmp_path, lifetime=timedelta(seconds=6)) as running:
        await running.load(example(policy("foo", "STRICT")))
        await running.serve(FINANCE, 8080)
        direct = await running.dial(FINANCE, 8080, tls=running.mutual())
        through_the_proxy = await running.dial_at(EGRESS, 8080)
        serials: list[int] = []
        assert set(failed_handshakes(await running.stats(FINANCE)).values()) == {0}
        while len(serials) < 3:
            connection = await running.dial(FINANCE, 8080, tls=running.mutual())
            assert await connection.echoes()
            serial = serial_of(connection)
            if serial not in serials[-1:]:
                serials.append(serial)
                assert await direct.echoes()
                assert await through_the_proxy.echoes()
            await connection.close()
            connection = await running.dial_at(EGRESS, 8080)
            assert await connection.echoes()
            await connection.close()
        assert len(set(serials)) == 3
        assert set(failed_handshakes(await running.stats(FINANCE)).values()) == {0}
        assert serial_of(direct) == serials[0]
