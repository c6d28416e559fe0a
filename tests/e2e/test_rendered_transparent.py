"""Transparent capture with real Envoys in network namespaces: every port is covered, whoever declared it."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from peerauth.agent.netns import MeshNetwork, WorkloadNamespace, socket_in, unsupported
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.envoy.sidecar_values import ApplicationPort
from peerauth.dataplane.resources import Resources
from peerauth.model.connections import Arrival, Event
from peerauth.model.placement import Capture
from peerauth.telemetry.envoy import parse_connection
from rigs.clients import Application, Connection, application, client_context
from rigs.envoyrig import Authority, RunningEnvoy, running_envoy
from samples.sidecars import CLIENT, FINANCE, decided, sidecar

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.root,
    pytest.mark.skipif(bool(unsupported()), reason=unsupported() or "supported"),
]

DECLARED, NAMED, UNDECLARED = 8080, 9090, 7070


class Place(NamedTuple):
    """Two namespaces: a server with its sidecar, and a client outside the mesh."""

    server: WorkloadNamespace
    outsider: WorkloadNamespace
    apps: dict[int, Application]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with MeshNetwork() as network, contextlib.AsyncExitStack() as stack:
        server = await network.add("foo/finance")
        outsider = await network.add("foo/outsider", capture=False)
        apps = {}
        for port in (DECLARED, NAMED, UNDECLARED):
            listener = socket_in(server.path, socket.AF_INET6)
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(("::", port))
            listener.listen()
            listener.setblocking(False)
            apps[port] = await stack.enter_async_context(application(listener=listener))
        yield Place(server, outsider, apps)


def server(place: Place, mode: str, ports: dict[int, str] | None = None) -> Resources:
    return render_sidecar(
        sidecar(
            decided(mode, ports),
            addresses=place.server.addresses,
            declared=(ApplicationPort(DECLARED),),
            capture=Capture.TRANSPARENT,
        )
    )


async def dial(
    where: WorkloadNamespace, place: Place, port: int, tls: ssl.SSLContext | None = None, *, address: str = ""
) -> Connection:
    to = address or place.server.addresses[0]
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    return await Connection.open(to, port, tls, new_socket=lambda: socket_in(where.path, family))


async def reaches(
    where: WorkloadNamespace, place: Place, port: int, tls: ssl.SSLContext | None = None, *, address: str = ""
) -> str:
    """What the application behind a port sees of a greeting from one of the namespaces."""
    with contextlib.suppress(OSError):
        connection = await dial(where, place, port, tls, address=address)
        await connection.echoes()
        await connection.close()
    return place.apps[port].saw()


@contextlib.asynccontextmanager
async def serving(
    place: Place, folder: Path, resources: Resources, authority: Authority
) -> AsyncIterator[RunningEnvoy]:
    mine = folder / "server"
    mine.mkdir()
    secrets = authority.secrets(FINANCE.uri)
    async with running_envoy(mine, resources, secrets, network_namespace=place.server.path) as envoy:
        yield envoy


async def test_every_port_has_its_mode_declared_named_or_neither(
    place: Place, authority: Authority, tmp_path: Path
) -> None:
    mutual = client_context(tmp_path, authority=authority, uri=CLIENT.uri, alpn=("istio",))
    async with serving(place, tmp_path, server(place, "STRICT", {NAMED: "PERMISSIVE"}), authority):
        for address in place.server.addresses:
            plain = {port: await reaches(place.outsider, place, port, address=address) for port in place.apps}
            assert plain == {DECLARED: "nothing", NAMED: "the greeting", UNDECLARED: "nothing"}
            secure = {port: await reaches(place.outsider, place, port, mutual, address=address) for port in place.apps}
            assert set(secure.values()) == {"the greeting"}


async def test_a_disabled_port_does_not_wait_although_the_rest_is_looked_into(
    place: Place, authority: Authority, tmp_path: Path
) -> None:
    async with (
        application(b"220 ready\r\n", listener=_listen(place.server, 2525)),
        serving(place, tmp_path, server(place, "STRICT", {2525: "DISABLE"}), authority) as envoy,
    ):
        connection = await dial(place.outsider, place, 2525)
        assert await connection.reader.readline() == b"220 ready\r\n"
        await connection.close()
        line = await envoy.line(lambda line: (e := parse_connection(line)) is not None and e.event is Event.START)
        entry = parse_connection(line)
        assert entry is not None
        assert (entry.arrival, entry.port) == (Arrival.UNTOUCHED, 2525)
        assert entry.duration_ms < 1000, "it waited for a first byte"


def _listen(where: WorkloadNamespace, port: int) -> socket.socket:
    listener = socket_in(where.path, socket.AF_INET)
    listener.bind(("0.0.0.0", port))  # noqa: S104  of a namespace
    listener.listen()
    listener.setblocking(False)
    return listener


async def test_an_exception_that_goes_leaves_no_moment_of_plaintext(
    place: Place, authority: Authority, tmp_path: Path
) -> None:
    """Its listener is removed and drains; what arrives from then on is the catch-all's."""
    async with serving(place, tmp_path, server(place, "STRICT", {NAMED: "PERMISSIVE"}), authority) as envoy:
        old = await dial(place.outsider, place, NAMED)
        assert await old.echoes()
        place.apps[NAMED].saw()
        await envoy.discovery.apply(server(place, "STRICT"))
        for _ in range(10):
            assert await reaches(place.outsider, place, NAMED) == "nothing"
        assert await old.ended()
        await old.close()


async def test_a_change_of_one_port_or_of_the_rest_leaves_other_connections_alone(
    place: Place, authority: Authority, tmp_path: Path
) -> None:
    mutual = client_context(tmp_path, authority=authority, uri=CLIENT.uri, alpn=("istio",))
    async with serving(place, tmp_path, server(place, "PERMISSIVE", {NAMED: "PERMISSIVE"}), authority) as envoy:
        named, rest = await dial(place.outsider, place, NAMED), await dial(place.outsider, place, UNDECLARED, mutual)
        plain = await dial(place.outsider, place, UNDECLARED)
        for connection in (named, rest, plain):
            assert await connection.echoes()
        await envoy.discovery.apply(server(place, "STRICT", {NAMED: "PERMISSIVE"}))
        assert await plain.ended()
        assert await rest.echoes()
        assert await named.echoes()
        for connection in (named, rest, plain):
            await connection.close()


async def test_the_proxy_s_own_ports_lead_nowhere(place: Place, authority: Authority, tmp_path: Path) -> None:
    async with serving(place, tmp_path, server(place, "DISABLE"), authority) as envoy:
        for port in (15001, 15006):
            connection = await dial(place.outsider, place, port)
            assert await connection.ended()
            await connection.close()
        # A cluster that was never used has no counter.
        assert not any((await envoy.stats("cluster.inbound|any.upstream_cx_total")).values())
