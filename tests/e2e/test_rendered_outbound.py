"""A real Envoy on each side, explicit capture: what the client's sidecar makes of what its application dials."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients import Connection, application, loopback
from envoyrig import Authority, RunningEnvoy, running_envoy
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.resources import DeclaredPort, EgressEndpoint, EgressPort, Endpoint, Resources
from peerauth.identity.spiffe import SpiffeId
from peerauth.policy.outbound import Transport
from peerauth.telemetry import ConnectionSeen, Event, Outcome, parse_connection
from sidecars import CLIENT, FINANCE, decided, sidecar

pytestmark = pytest.mark.envoy

SERVER, CALLER = loopback(2), loopback(3)
SOMEONE_ELSE = SpiffeId("cluster.local", "foo", "someone-else")


def server(mode: str, port: int) -> Resources:
    declared = (DeclaredPort(8080, Endpoint("127.0.0.1", port)),)
    return render_sidecar(sidecar(decided(mode), addresses=(SERVER,), declared=declared))


def caller(*endpoints: EgressEndpoint) -> Resources:
    """A sidecar with one egress listener for each endpoint, from 7000 up."""
    egress = tuple(EgressPort(f"host{n}", CALLER, 7000 + n, (end,)) for n, end in enumerate(endpoints))
    client = sidecar(decided("PERMISSIVE"), identity=CLIENT, addresses=(CALLER,), declared=(), egress=egress)
    return render_sidecar(client)


async def last_seen(envoy: RunningEnvoy, *, direction: str, tunnel: bool = False, failure: str = "") -> ConnectionSeen:
    def wanted(line: str) -> bool:
        entry = parse_connection(line)
        return (
            entry is not None
            and failure in entry.failure
            and (entry.direction, entry.tunnel) == (direction, tunnel)
            and entry.event is Event.END
            and (tunnel or entry.chain != "hbone")
        )

    entry = parse_connection((await envoy.lines(wanted, 1))[-1])
    assert entry is not None
    return entry


@pytest.mark.parametrize(
    ("transport", "mode", "expected"),
    [
        (Transport.MUTUAL_TLS, "STRICT", FINANCE),
        (Transport.MUTUAL_TLS, "PERMISSIVE", FINANCE),
        (Transport.HBONE, "STRICT", FINANCE),
        (Transport.PLAINTEXT, "DISABLE", None),
    ],
)
async def test_an_endpoint_is_reached_in_its_own_way(
    transport: Transport, mode: str, expected: SpiffeId | None, tmp_path: Path
) -> None:
    authority = Authority()
    folders = [tmp_path / name for name in "sc"]
    for folder in folders:
        folder.mkdir()
    end = EgressEndpoint(Endpoint(SERVER, 8080), transport, expected)
    async with (
        application() as app,
        running_envoy(folders[0], server(mode, app.port), authority.secrets(FINANCE.uri)) as serving,
        running_envoy(folders[1], caller(end), authority.secrets(CLIENT.uri)) as calling,
    ):
        connection = await Connection.open(CALLER, 7000)
        assert await connection.echoes()
        await connection.close()
        hbone = transport is Transport.HBONE
        out = await last_seen(calling, direction="outbound", tunnel=hbone)
        assert out.peer == expected
        arrived = await last_seen(serving, direction="inbound", tunnel=hbone)
        assert arrived.peer == (CLIENT if expected else None)
        assert arrived.outcome is (Outcome.MUTUAL_TLS if expected else Outcome.UNTOUCHED)


async def test_a_server_that_is_someone_else_or_cannot_prove_it_gets_nothing(tmp_path: Path) -> None:
    authority = Authority()
    folders = [tmp_path / name for name in "sc"]
    for folder in folders:
        folder.mkdir()
    async with application() as app, application() as outside:
        ends = (
            EgressEndpoint(Endpoint(SERVER, 8080), Transport.MUTUAL_TLS, SOMEONE_ELSE),
            EgressEndpoint(Endpoint(SERVER, 8080), Transport.HBONE, SOMEONE_ELSE),
            EgressEndpoint(Endpoint("127.0.0.1", outside.port), Transport.MUTUAL_TLS, FINANCE),
        )
        async with (
            running_envoy(folders[0], server("STRICT", app.port), authority.secrets(FINANCE.uri)),
            running_envoy(folders[1], caller(*ends), authority.secrets(CLIENT.uri)) as calling,
        ):
            for port in (7000, 7001, 7002):
                connection = await Connection.open(CALLER, port)
                assert not await connection.echoes()
                await connection.close()
            assert app.saw() == "nothing"
            assert outside.saw() in {"nothing", "a ClientHello"}, "never the application's own bytes"
            refused = await last_seen(calling, direction="outbound", failure="SAN_matcher")
            assert (refused.outcome, refused.peer) == (Outcome.REFUSED, None)
