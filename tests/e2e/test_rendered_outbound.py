"""A real Envoy on each side, explicit capture: what the client's sidecar makes of what its application dials."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.envoy.sidecar_values import ApplicationPort, EgressPort
from peerauth.dataplane.resources import Resources
from peerauth.dataplane.type_urls import CLUSTER
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.connections import Arrival, ConnectionSeen, Event
from peerauth.model.endpoint import Endpoint
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.outbound import Transport
from peerauth.telemetry.envoy import parse_connection
from rigs.clients import Connection, application, loopback
from rigs.envoyrig import Authority, RunningEnvoy, running_envoy
from samples.sidecars import CLIENT, FINANCE, decided, sidecar

pytestmark = pytest.mark.envoy

SERVER, CALLER = loopback(2), loopback(3)
SOMEONE_ELSE = SpiffeId("cluster.local", "foo", "someone-else")


def server(mode: str, port: int) -> Resources:
    declared = (ApplicationPort(8080, Endpoint("127.0.0.1", port)),)
    return render_sidecar(sidecar(decided(mode), addresses=(SERVER,), declared=declared))


def caller(*endpoints: DestinationEndpoint) -> Resources:
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
    end = DestinationEndpoint(SERVER, 8080, transport, expected)
    async with (
        application() as app,
        running_envoy(folders[0], server(mode, app.port), authority.secrets(FINANCE.uri)) as serving,
        running_envoy(folders[1], caller(end), authority.secrets(CLIENT.uri)) as calling,
    ):
        connection = await Connection.open(CALLER, 7000)
        assert await connection.echoes()
        await connection.close()
        out = await last_seen(calling, direction="outbound")
        assert out.peer == expected
        arrived = await last_seen(serving, direction="inbound", tunnel=transport is Transport.HBONE)
        assert arrived.peer == (CLIENT if expected else None)
        assert arrived.arrival is (Arrival.MUTUAL_TLS if expected else Arrival.UNTOUCHED)


async def test_a_server_that_is_someone_else_or_cannot_prove_it_gets_nothing(tmp_path: Path) -> None:
    authority = Authority()
    folders = [tmp_path / name for name in "sc"]
    for folder in folders:
        folder.mkdir()
    async with application() as app, application() as outside:
        ends = (
            DestinationEndpoint(SERVER, 8080, Transport.MUTUAL_TLS, SOMEONE_ELSE),
            DestinationEndpoint(SERVER, 8080, Transport.HBONE, SOMEONE_ELSE),
            DestinationEndpoint("127.0.0.1", outside.port, Transport.MUTUAL_TLS, FINANCE),
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
            refused = await last_seen(calling, direction="outbound", failure="expected_SANs")
            assert (refused.arrival, refused.peer) == (Arrival.REFUSED, None)


@contextlib.asynccontextmanager
async def resumptions(
    folder: Path, authority: Authority, version: ssl.TLSVersion
) -> AsyncIterator[tuple[int, list[bool]]]:
    """A server that would resume sessions, its port, and of each connection whether it was a resumed one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.root_pem.decode())
    (folder / "server.pem").write_bytes(b"".join(authority.issue(FINANCE.uri)))
    context.load_cert_chain(folder / "server.pem")
    context.set_alpn_protocols(["istio"])
    resumed: list[bool] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        resumed.append(writer.get_extra_info("ssl_object").session_reused)
        writer.write(b"echo:" + await reader.read(1 << 16))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as serving:
        yield serving.sockets[0].getsockname()[1], resumed


def with_sessions_kept(resources: Resources) -> Resources:
    """The same configuration, but for the way to servers, which keeps its sessions as Envoy does if nothing is said."""
    cluster = cluster_pb2.Cluster.FromString(resources[CLUSTER]["outbound|mtls"])
    context = tls_pb2.UpstreamTlsContext()
    assert cluster.transport_socket.typed_config.Unpack(context)
    context.ClearField("max_session_keys")
    cluster.transport_socket.typed_config.Pack(context)
    return {**resources, CLUSTER: {**resources[CLUSTER], cluster.name: cluster.SerializeToString()}}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_no_session_is_resumed_though_the_server_would(version: ssl.TLSVersion, tmp_path: Path) -> None:
    """A resumed session is not verified again: a server whose root was taken away would stay welcome."""
    authority = Authority()
    async with resumptions(tmp_path, authority, version) as (port, resumed):
        as_rendered = caller(DestinationEndpoint("127.0.0.1", port, Transport.MUTUAL_TLS, FINANCE))
        async with running_envoy(tmp_path, as_rendered, authority.secrets(CLIENT.uri)) as envoy:
            await dial_four_times()
            assert resumed == [False] * 4
            await envoy.discovery.apply(with_sessions_kept(as_rendered))
            await dial_four_times()
    assert any(resumed), "what is looked at here would show a resumed session"


async def dial_four_times() -> None:
    for _ in range(4):
        connection = await Connection.open(CALLER, 7000)
        assert await connection.echoes()
        await connection.close()
