"""A real Envoy with the rendered configuration: who reaches the application on which port, also while that changes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.envoy.sidecar_values import ApplicationPort, SidecarWorkload
from peerauth.dataplane.resources import Resources
from peerauth.model.connections import Arrival, ConnectionSeen, Event
from peerauth.model.endpoint import Endpoint
from peerauth.model.mesh import MeshConfig, TlsVersion
from peerauth.policy.decision import Decision
from peerauth.telemetry.envoy import PortTotal, parse_connection, totals
from rigs.clients import GREETING, Application, Connection, application, client_context, greet, loopback, tunnel
from rigs.envoyrig import Authority, RunningEnvoy, running_envoy
from samples.sidecars import CLIENT, FINANCE, decided, sidecar

pytestmark = pytest.mark.envoy

ADDRESS = loopback(1)
REACHES = {
    # client: what the application sees under PERMISSIVE, STRICT, DISABLE
    "plaintext": ("the greeting", "nothing", "the greeting"),
    "TLS without a certificate": ("a ClientHello", "nothing", "a ClientHello"),
    "mesh certificate, Istio's ALPN": ("the greeting", "the greeting", "a ClientHello"),
    "mesh certificate, other ALPN": ("a ClientHello", "the greeting", "a ClientHello"),
    "Istio's ALPN without a certificate": ("nothing", "nothing", "a ClientHello"),
    "another authority": ("nothing", "nothing", "a ClientHello"),
    "another trust domain": ("nothing", "nothing", "a ClientHello"),
}
SEEN_AS = {
    # client: how the access log tells it under PERMISSIVE, STRICT
    "plaintext": (Arrival.PLAINTEXT, Arrival.REFUSED),
    "TLS without a certificate": (Arrival.PASSTHROUGH_TLS, Arrival.REFUSED),
    "mesh certificate, Istio's ALPN": (Arrival.MUTUAL_TLS, Arrival.MUTUAL_TLS),
    "mesh certificate, other ALPN": (Arrival.PASSTHROUGH_TLS, Arrival.MUTUAL_TLS),
    "Istio's ALPN without a certificate": (Arrival.REFUSED, Arrival.REFUSED),
    "another authority": (Arrival.REFUSED, Arrival.REFUSED),
    "another trust domain": (Arrival.REFUSED, Arrival.REFUSED),
}
MODES = ("PERMISSIVE", "STRICT", "DISABLE")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def clients(authority: Authority, tmp_path: Path) -> dict[str, ssl.SSLContext | None]:
    istio, foreign = ("istio",), CLIENT.uri.replace("cluster.local", "elsewhere")
    return {
        "plaintext": None,
        "TLS without a certificate": client_context(tmp_path, authority=None),
        "mesh certificate, Istio's ALPN": client_context(tmp_path, authority=authority, uri=CLIENT.uri, alpn=istio),
        "mesh certificate, other ALPN": client_context(tmp_path, authority=authority, uri=CLIENT.uri, alpn=("h2",)),
        "Istio's ALPN without a certificate": client_context(tmp_path, authority=None, alpn=istio),
        "another authority": client_context(tmp_path, authority=Authority("other"), uri=CLIENT.uri, alpn=istio),
        "another trust domain": client_context(tmp_path, authority=authority, uri=foreign, alpn=istio),
    }


@pytest.fixture
async def app() -> AsyncIterator[Application]:
    async with application() as running:
        yield running


def workload(decision: Decision, app: Application, **changes: Any) -> SidecarWorkload:
    declared = tuple(ApplicationPort(port, Endpoint("127.0.0.1", app.port)) for port in (8080, 9000))
    return sidecar(decision, addresses=(ADDRESS,), declared=declared, **changes)


def rendered(mode: str, app: Application, ports: dict[int, str] | None = None, **changes: Any) -> Resources:
    return render_sidecar(workload(decided(mode, ports), app, **changes))


async def seen(envoy: RunningEnvoy, source: str, event: Event = Event.END) -> ConnectionSeen:
    """The log line about the connection from `source`, once it is there."""
    line = await envoy.line(lambda line: _is_about(line, source, event))
    found = parse_connection(line)
    assert found is not None
    return found


def _is_about(line: str, source: str, event: Event) -> bool:
    found = parse_connection(line)
    return found is not None and found.source == source and found.event is event


@pytest.mark.parametrize("mode", MODES)
async def test_who_reaches_the_application(
    mode: str, app: Application, clients: dict[str, ssl.SSLContext | None], authority: Authority, tmp_path: Path
) -> None:
    async with running_envoy(tmp_path, rendered(mode, app), authority.secrets(FINANCE.uri)):
        reached = {}
        for name, tls in clients.items():
            await greet(ADDRESS, 8080, tls)
            reached[name] = app.saw()
    assert reached == {name: expected[MODES.index(mode)] for name, expected in REACHES.items()}


@pytest.mark.parametrize("mode", ["PERMISSIVE", "STRICT"])
async def test_the_access_log_says_what_became_of_each_connection_and_why(
    mode: str, app: Application, clients: dict[str, ssl.SSLContext | None], authority: Authority, tmp_path: Path
) -> None:
    async with running_envoy(tmp_path, rendered(mode, app), authority.secrets(FINANCE.uri)) as envoy:
        for tls in clients.values():
            await greet(ADDRESS, 8080, tls)
        lines = await envoy.lines(lambda line: (e := parse_connection(line)) is not None and e.event is Event.END, 7)
        counted = totals(await envoy.stats())
    connections = [entry for entry in map(parse_connection, lines) if entry is not None]
    by_start = sorted(connections, key=lambda entry: entry.started)
    outcomes = dict(zip(clients, (entry.arrival for entry in by_start), strict=True))
    assert outcomes == {name: expected[MODES.index(mode)] for name, expected in SEEN_AS.items()}
    for entry in by_start:
        assert (entry.workload, entry.port, entry.direction) == ("foo/finance", 8080, "inbound")
        assert (entry.peer == CLIENT) == (entry.arrival is Arrival.MUTUAL_TLS), "an identity only if it was verified"
        assert bool(entry.failure) == (entry.arrival is Arrival.REFUSED)
    assert {total.arrival: total.count for total in counted} == {
        outcome: [entry.arrival for entry in by_start].count(outcome) for outcome in {e.arrival for e in by_start}
    }
    if mode == "STRICT":
        refused = by_start[0]
        assert refused.why is not None
        assert (refused.why.mode, refused.why.level, refused.why.policy) == ("STRICT", "namespace", "foo/default")
        assert refused.failure == "plaintext, and only mutual TLS is allowed"
        assert PortTotal(8080, Arrival.MUTUAL_TLS, 2) in counted


async def test_a_connection_is_logged_when_it_starts(
    app: Application, clients: dict[str, ssl.SSLContext | None], authority: Authority, tmp_path: Path
) -> None:
    async with running_envoy(tmp_path, rendered("STRICT", app), authority.secrets(FINANCE.uri)) as envoy:
        connection = await Connection.open(ADDRESS, 8080, clients["mesh certificate, Istio's ALPN"])
        entry = await seen(envoy, connection.source, Event.START)
        assert (entry.arrival, entry.peer) == (Arrival.MUTUAL_TLS, CLIENT)
        await connection.close()


async def test_from_permissive_to_strict_mutual_tls_lives_on_and_plaintext_ends(
    app: Application, clients: dict[str, ssl.SSLContext | None], authority: Authority, tmp_path: Path
) -> None:
    mutual = clients["mesh certificate, Istio's ALPN"]
    async with running_envoy(tmp_path, rendered("PERMISSIVE", app), authority.secrets(FINANCE.uri)) as envoy:
        tls, plain = await Connection.open(ADDRESS, 8080, mutual), await Connection.open(ADDRESS, 8080)
        other = await Connection.open(ADDRESS, 9000)
        for connection in (tls, plain, other):
            assert await connection.echoes()
            app.saw()
        await envoy.discovery.apply(rendered("PERMISSIVE", app, {8080: "STRICT"}))
        for _ in range(5):
            await greet(ADDRESS, 8080)
            assert app.saw() == "nothing", "plaintext was let in after Envoy had acknowledged STRICT"
        assert await plain.ended()
        assert await tls.echoes()
        assert await other.echoes()
        for connection in (tls, plain, other):
            await connection.close()


@pytest.mark.parametrize("before", ["DISABLE", "PERMISSIVE"])
async def test_no_plaintext_gets_in_once_strict_is_acknowledged(
    before: str, app: Application, authority: Authority, tmp_path: Path
) -> None:
    async with running_envoy(tmp_path, rendered(before, app), authority.secrets(FINANCE.uri)) as envoy:
        for _ in range(10):
            await envoy.discovery.apply(rendered("STRICT", app))
            await greet(ADDRESS, 8080)
            assert app.saw() == "nothing"
            await envoy.discovery.apply(rendered(before, app))
            await greet(ADDRESS, 8080)
            assert app.saw() == "the greeting"


async def test_a_reason_that_changes_closes_nothing(app: Application, authority: Authority, tmp_path: Path) -> None:
    async with running_envoy(tmp_path, rendered("PERMISSIVE", app), authority.secrets(FINANCE.uri)) as envoy:
        plain = await Connection.open(ADDRESS, 8080)
        assert await plain.echoes()
        renamed = render_sidecar(workload(decided("PERMISSIVE", policy="foo/renamed"), app))
        await envoy.discovery.apply(renamed)
        stats = await envoy.stats("listener_manager.")
        assert not stats["listener_manager.total_filter_chains_draining"]
        assert not stats["listener_manager.total_listeners_draining"]
        assert await plain.echoes()
        await plain.close()
        entry = await seen(envoy, plain.source)
        assert entry.why is not None
        assert entry.arrival is Arrival.PLAINTEXT


@pytest.mark.parametrize("mode", MODES)
async def test_no_port_is_open_before_both_secrets_are_there(
    mode: str, app: Application, clients: dict[str, ssl.SSLContext | None], authority: Authority, tmp_path: Path
) -> None:
    secrets = authority.secrets(FINANCE.uri)
    async with running_envoy(tmp_path, rendered(mode, app), {}) as envoy:
        await envoy.discovery.asked_for({"default", "ROOTCA"})
        for partial in ({}, {"default": secrets["default"]}):
            await envoy.discovery.offer(partial)
            with pytest.raises(ConnectionRefusedError):
                await Connection.open(ADDRESS, 8080)
        await envoy.discovery.offer(secrets)
        await envoy.listening()
        await greet(ADDRESS, 8080, clients["mesh certificate, Istio's ALPN"])
        assert app.saw() == REACHES["mesh certificate, Istio's ALPN"][MODES.index(mode)]


async def test_a_renewed_certificate_is_used_and_drops_no_connection(
    app: Application, clients: dict[str, ssl.SSLContext | None], authority: Authority, tmp_path: Path
) -> None:
    mutual = clients["mesh certificate, Istio's ALPN"]

    def presented(connection: Connection) -> bytes:
        found: bytes = connection.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return found

    async with running_envoy(tmp_path, rendered("STRICT", app), authority.secrets(FINANCE.uri)) as envoy:
        old = await Connection.open(ADDRESS, 8080, mutual)
        await envoy.discovery.offer(authority.secrets(FINANCE.uri))
        async with asyncio.timeout(10):
            while True:
                new = await Connection.open(ADDRESS, 8080, mutual)
                certificate = presented(new)
                await new.close()
                if certificate != presented(old):
                    break
        assert await old.echoes()
        await old.close()


async def test_no_session_is_resumed(app: Application, authority: Authority, tmp_path: Path) -> None:
    """A resumed session would skip the verification, and so outlive the trust in the client's authority."""
    context = client_context(tmp_path, authority=authority, uri=CLIENT.uri, alpn=("istio",))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context.maximum_version = version
        async with running_envoy(tmp_path, rendered("STRICT", app), authority.secrets(FINANCE.uri)):
            reused = await asyncio.to_thread(_session_is_reused, context)
        assert not reused


def _session_is_reused(context: ssl.SSLContext) -> bool:
    session = None
    for _ in range(2):
        with (
            socket.create_connection((ADDRESS, 8080)) as raw,
            context.wrap_socket(raw, session=session) as connection,
        ):
            connection.sendall(GREETING)
            assert connection.recv(100)
            session, reused = connection.session, bool(connection.session_reused)
    return reused


async def test_a_silent_client_of_a_server_first_protocol_is_served_late_but_served(
    authority: Authority, tmp_path: Path
) -> None:
    mesh = MeshConfig(protocol_detection_timeout=timedelta(seconds=0.3))
    async with application(b"220 ready\r\n") as app:
        permissive = rendered("PERMISSIVE", app, {9000: "DISABLE"}, mesh=mesh)
        async with running_envoy(tmp_path, permissive, authority.secrets(FINANCE.uri)) as envoy:
            for port in (8080, 9000):
                connection = await Connection.open(ADDRESS, port)
                assert await asyncio.wait_for(connection.reader.readline(), 10) == b"220 ready\r\n"
                await connection.close()
            await envoy.discovery.apply(rendered("STRICT", app, mesh=mesh))
            silent = await Connection.open(ADDRESS, 8080)
            assert await silent.ended(), "a silent client of a STRICT port is closed, and hears nothing"
            assert (await seen(envoy, silent.source)).arrival is Arrival.REFUSED
            await silent.close()


async def test_a_first_flight_too_short_to_tell_counts_as_plaintext(
    app: Application, authority: Authority, tmp_path: Path
) -> None:
    mesh = MeshConfig(protocol_detection_timeout=timedelta(seconds=0.3))
    async with running_envoy(
        tmp_path, rendered("PERMISSIVE", app, {9000: "STRICT"}, mesh=mesh), authority.secrets(FINANCE.uri)
    ):
        short = await Connection.open(ADDRESS, 8080)
        short.writer.write(b"he")
        assert await asyncio.wait_for(short.reader.read(100), 10) == b"echo:he"
        assert app.saw() == "the greeting"
        refused = await Connection.open(ADDRESS, 9000)
        refused.writer.write(b"\x16\x03")
        assert await refused.ended()
        assert app.saw() == "nothing"
        await short.close()
        await refused.close()


@pytest.mark.parametrize("mode", MODES)
async def test_hbone_answers_as_ztunnel_does_under_every_mode(
    mode: str, app: Application, authority: Authority, tmp_path: Path
) -> None:
    def context(alpn: str = "h2", issuer: Authority | None = authority) -> ssl.SSLContext:
        return client_context(tmp_path, authority=issuer, uri=CLIENT.uri, alpn=(alpn,))

    mesh = context()
    async with running_envoy(tmp_path, rendered(mode, app), authority.secrets(FINANCE.uri)) as envoy:
        assert await tunnel(ADDRESS, mesh, authority=f"{ADDRESS}:8080") == (200, b"echo:" + GREETING)
        for elsewhere in (f"{ADDRESS}:1234", "192.0.2.1:8080", f"{ADDRESS}:no", f"{ADDRESS}:99999", "finance"):
            assert await tunnel(ADDRESS, mesh, authority=elsewhere) == (400, b"")
        for own_port in (15001, 15006, 15008):
            assert await tunnel(ADDRESS, mesh, authority=f"{ADDRESS}:{own_port}") == (503, b"")
        assert await tunnel(ADDRESS, mesh, authority=f"{ADDRESS}:8080", method="GET") == (400, b"")
        old = context()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        strangers = (old, context(issuer=None), context(issuer=Authority("other")), context(alpn="istio"))
        for stranger in strangers:
            assert await tunnel(ADDRESS, stranger, authority=f"{ADDRESS}:8080") == (None, b"")
        line = await envoy.line(lambda line: (e := parse_connection(line)) is not None and e.tunnel)
        entry = parse_connection(line)
        assert entry is not None
        assert (entry.arrival, entry.port, entry.peer) == (Arrival.MUTUAL_TLS, 8080, CLIENT)


async def test_an_alias_of_the_trust_domain_is_as_good_as_its_name_and_a_longer_name_is_not(
    app: Application, authority: Authority, tmp_path: Path
) -> None:
    mesh = MeshConfig(trust_domain_aliases=("old.example.org",))
    async with running_envoy(tmp_path, rendered("STRICT", app, mesh=mesh), authority.secrets(FINANCE.uri)):
        for domain, reached in (("old.example.org", "the greeting"), ("old.example.org.evil", "nothing")):
            uri = f"spiffe://{domain}/ns/foo/sa/client"
            await greet(ADDRESS, 8080, client_context(tmp_path, authority=authority, uri=uri, alpn=("istio",)))
            assert app.saw() == reached


async def test_the_mesh_s_minimum_tls_version_is_held(app: Application, authority: Authority, tmp_path: Path) -> None:
    old = client_context(tmp_path, authority=authority, uri=CLIENT.uri, alpn=("istio",))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with running_envoy(tmp_path, rendered("STRICT", app), authority.secrets(FINANCE.uri)) as envoy:
        await greet(ADDRESS, 8080, old)
        assert app.saw() == "the greeting"
        newer = MeshConfig(min_tls_version=TlsVersion.TLSV1_3)
        await envoy.discovery.apply(rendered("STRICT", app, mesh=newer))
        await greet(ADDRESS, 8080, old)
        assert app.saw() == "nothing"


async def test_no_other_process_can_share_a_port(app: Application, authority: Authority, tmp_path: Path) -> None:
    """An Envoy left over from an earlier run, with the policy of then, would get some of the connections."""
    async with running_envoy(tmp_path, rendered("STRICT", app), authority.secrets(FINANCE.uri)):
        for port in (8080, 9000, 15008):
            with socket.socket() as intruder:
                intruder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                with pytest.raises(OSError, match="in use"):
                    intruder.bind((ADDRESS, port))
