"""Who claims to be someone else is who its certificate says, and without a certificate no one.

Neither headers, nor an address, nor a firewall mark is an identity: not one of them opens a port or shows in the log.
The client outside the mesh has a certificate of the mesh that names `peerauth/probe`, and claims to be `foo/client`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from peerauth.agent.commands import run_tool
from peerauth.agent.echo import listen_tcp
from peerauth.agent.nft import PROXY_MARK
from peerauth.identity.csr import IssuedCertificate, make_csr
from peerauth.identity.keys import CURVE, private_key_pem
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.connections import Arrival, ConnectionSeen
from peerauth.model.placement import Capture
from peerauth.model.world import MeshObject
from peerauth.probe import ClientCertificate, ProbeTarget, SocketFactory, foreign_certificate
from peerauth.probe.credentials import client_context
from rigs.captures import transparent_only
from rigs.clients import GREETING, PATIENCE_S, Connection, tunnel
from rigs.mesh_clients import bound_to, take_address
from rigs.mesh_on_this_machine import CLIENT, FINANCE, WEB, Ledger, Machine, machine, objects, policy
from samples.levels import D, P, S

pytestmark = pytest.mark.envoy

MESH = Path(__file__).parents[2] / "examples" / "ambient" / "mesh.yaml"
PORT = 8080
PROBE = SpiffeId("cluster.local", "peerauth", "probe")
both_families = pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])


def documents(mode: str) -> tuple[MeshObject, ...]:
    return objects(MESH, policy("foo", mode))


def claims(running: Machine, *, ipv6: bool) -> dict[str, str]:
    """Headers that some proxy or other believes: who is calling, from where, and where to."""
    client, web = running.at(CLIENT, ipv6=ipv6), running.at(WEB, ipv6=ipv6)
    uri = SpiffeId("cluster.local", "foo", "client").uri
    elsewhere = ProbeTarget(web, PORT).authority
    return {
        "forwarded": f'for="{ProbeTarget(client, 40000).authority}";by="{ProbeTarget(client, 15008).authority}"',
        "x-forwarded-for": client,
        "x-real-ip": client,
        "x-forwarded-client-cert": f"By={SpiffeId('cluster.local', 'foo', 'finance').uri};Hash=00;URI={uri}",
        "baggage": "k8s.cluster.name=Kubernetes,k8s.namespace.name=foo,k8s.deployment.name=client",
        "x-envoy-original-dst-host": elsewhere,
        "x-forwarded-host": elsewhere,
        "host": elsewhere,
    }


def family(ipv6: bool) -> int:
    return socket.AF_INET6 if ipv6 else socket.AF_INET


def host(source: str) -> str:
    """The address of an address and port as logged."""
    return source.rpartition(":")[0].strip("[]")


async def next_arrival(arrivals: asyncio.Queue[ConnectionSeen]) -> ConnectionSeen:
    async with asyncio.timeout(PATIENCE_S):
        return await arrivals.get()


async def open_at(running: Machine, sockets: SocketFactory, *, ipv6: bool) -> Connection:
    """Dials finance with a socket of one's own."""
    return await Connection.open(running.at(FINANCE, ipv6=ipv6), PORT, new_socket=lambda: sockets(family(ipv6)))


async def outside_address(running: Machine, *, ipv6: bool) -> str:
    """Where the client outside the mesh really is."""
    return host((await running.dial(FINANCE, 15008, ipv6=ipv6)).source)


@contextlib.asynccontextmanager
async def mesh_with_an_application(folder: Path) -> AsyncIterator[tuple[Machine, Ledger]]:
    """finance's application on `PORT`, in network namespaces."""
    async with machine(folder, capture=Capture.TRANSPARENT) as running:
        await running.load(documents(S))
        yield running, await running.serve(FINANCE, PORT)


@transparent_only
@both_families
async def test_a_tunnel_is_of_whom_its_certificate_names_whatever_its_headers_say(tmp_path: Path, ipv6: bool) -> None:
    async with mesh_with_an_application(tmp_path) as (running, application):
        elsewhere = await running.serve(WEB, PORT)
        wanted, outside = running.at(FINANCE, ipv6=ipv6), running.network.outside()
        real, said = await outside_address(running, ipv6=ipv6), claims(running, ipv6=ipv6)
        somebody = running.mutual(alpn=("h2",))
        nobody = client_context(None, roots=running.presented.roots, alpn=("h2",))
        for mode in (S, P, D):
            await running.load(documents(mode))
            for tls, met, peer in ((somebody, 200, PROBE), (nobody, None, None), (None, None, None)):
                with running.arrivals() as arrivals:
                    status, answer = await tunnel(
                        wanted,
                        tls,
                        authority=ProbeTarget(wanted, PORT).authority,
                        claims=said,
                        new_socket=lambda: outside(family(ipv6)),
                    )
                    assert (status, answer) == (met, GREETING if met else b""), mode
                    seen = await next_arrival(arrivals)
                assert (host(seen.source), seen.peer) == (real, peer)
                assert seen.arrival is (Arrival.MUTUAL_TLS if peer else Arrival.REFUSED)
        assert (application.connections, elsewhere.connections) == (3, 0)


@transparent_only
@both_families
async def test_what_plaintext_says_of_its_sender_is_the_application_s_to_read(tmp_path: Path, ipv6: bool) -> None:
    async with mesh_with_an_application(tmp_path) as (running, application):
        real, client = await outside_address(running, ipv6=ipv6), running.at(CLIENT, ipv6=ipv6)
        headers = "".join(f"{name}: {value}\r\n" for name, value in claims(running, ipv6=ipv6).items())
        request = f"GET / HTTP/1.1\r\n{headers}\r\n".encode()
        proxied = f"PROXY TCP{6 if ipv6 else 4} {client} {client} 40000 {PORT}\r\n".encode()
        for mode, wanted in ((S, Arrival.REFUSED), (P, Arrival.PLAINTEXT), (D, Arrival.PLAINTEXT)):
            await running.load(documents(mode))
            for said in (request, proxied):
                with running.arrivals() as arrivals:
                    connection = await running.dial(FINANCE, PORT, ipv6=ipv6)
                    connection.writer.write(said)
                    if mode == S:
                        assert await connection.ended()
                    else:
                        assert await connection.reader.readexactly(len(said)) == said
                    seen = await next_arrival(arrivals)
                assert (seen.arrival, seen.peer, host(seen.source)) == (wanted, None, real)
        assert application.connections == 4


@transparent_only
@both_families
async def test_an_address_is_no_identity(tmp_path: Path, ipv6: bool) -> None:
    """The client outside the mesh has a workload's address, and the wire leads there: the most it can win."""
    async with mesh_with_an_application(tmp_path) as (running, application):
        await take_address(running, CLIENT, before=(FINANCE,))
        stolen, target = running.at(CLIENT, ipv6=ipv6), ProbeTarget(running.at(FINANCE, ipv6=ipv6), PORT)
        there, tls = bound_to(stolen, running.network.outside()), running.mutual(alpn=("h2",))
        for mode, wanted in ((S, Arrival.REFUSED), (P, Arrival.PLAINTEXT), (D, Arrival.PLAINTEXT)):
            await running.load(documents(mode))
            with running.arrivals() as arrivals:
                connection = await open_at(running, there, ipv6=ipv6)
                assert await connection.echoes() is (mode != S)
                await connection.close()
                seen = await next_arrival(arrivals)
            assert (seen.arrival, seen.peer, host(seen.source)) == (wanted, None, stolen)
            with running.arrivals() as arrivals:
                met = await tunnel(
                    target.address, tls, authority=target.authority, new_socket=lambda: there(family(ipv6))
                )
                assert met == (200, GREETING)
                seen = await next_arrival(arrivals)
            assert (seen.arrival, seen.peer, host(seen.source)) == (Arrival.MUTUAL_TLS, PROBE, stolen)
        assert application.connections == 5


@transparent_only
@both_families
async def test_an_application_that_sends_from_another_s_address_speaks_with_its_own_certificate(
    tmp_path: Path, ipv6: bool
) -> None:
    """Both workloads are on this node, so the proxy has both certificates."""
    async with mesh_with_an_application(tmp_path) as (running, application):
        web = running.at(WEB, ipv6=ipv6)
        own = Path(running.mesh.placement(CLIENT).network_namespace).name
        await run_tool("ip", "-n", own, "addr", "add", web, "dev", "lo", *(["nodad"] if ipv6 else []))
        for mode in (S, P, D):
            await running.load(documents(mode))
            with running.arrivals() as arrivals:
                connection = await open_at(running, bound_to(web, running.network.sockets(CLIENT)), ipv6=ipv6)
                assert host(connection.source) == web
                assert await connection.echoes()
                await connection.close()
                seen = await next_arrival(arrivals)
            assert (seen.peer, seen.tunnel) == (SpiffeId("cluster.local", "foo", "client"), True)
            assert host(seen.source) == running.at(CLIENT, ipv6=ipv6)
        assert application.connections == 3


@transparent_only
@both_families
async def test_an_application_that_marks_its_packets_as_the_proxy_does_has_left_the_mesh(
    tmp_path: Path, ipv6: bool
) -> None:
    """It takes CAP_NET_ADMIN and gains nothing: what it sends is not redirected, and arrives as no one's plaintext."""
    async with mesh_with_an_application(tmp_path) as (running, application):

        def marked(family: int) -> socket.socket:
            made = running.network.sockets(CLIENT)(family)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, PROXY_MARK)
            return made

        for mode, wanted in ((S, Arrival.REFUSED), (P, Arrival.PLAINTEXT), (D, Arrival.PLAINTEXT)):
            await running.load(documents(mode))
            with running.arrivals() as arrivals:
                connection = await open_at(running, marked, ipv6=ipv6)
                assert await connection.echoes() is (mode != S)
                await connection.close()
                seen = await next_arrival(arrivals)
            assert (seen.arrival, seen.peer, seen.tunnel) == (wanted, None, False)
        assert application.connections == 2


@transparent_only
@both_families
@pytest.mark.parametrize("shown", ["finance's, of another authority", "the mesh's, for another name", "finance's own"])
async def test_who_takes_a_server_s_address_hears_nothing_without_its_key(
    tmp_path: Path, ipv6: bool, shown: str
) -> None:
    """Neither through HBONE nor in plaintext, to which no failure leads back. With the key it would hear the client."""
    finance = SpiffeId("cluster.local", "foo", "finance")
    async with mesh_with_an_application(tmp_path) as (running, _), contextlib.AsyncExitStack() as stack:
        await take_address(running, FINANCE, before=(CLIENT,))
        certificates = {
            "finance's, of another authority": foreign_certificate(finance.uri),
            "the mesh's, for another name": running.presented.mesh,
            "finance's own": await certificate_of(running, finance),
        }
        heard: list[bytes] = []

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.read(1 << 16))
            writer.close()

        for port, tls in ((15008, server_context(tmp_path, certificates[shown])), (PORT, None)):
            listener = listen_tcp(running.at(FINANCE, ipv6=ipv6), port, sockets=running.network.outside())
            await stack.enter_async_context(await asyncio.start_server(listen, sock=listener, ssl=tls))
        connection = await running.dial(FINANCE, PORT, by=CLIENT, ipv6=ipv6)
        connection.writer.write(GREETING)
        assert await connection.ended()
        assert [said[:14] for said in heard] == ([b"PRI * HTTP/2.0"] if shown == "finance's own" else [])


async def certificate_of(running: Machine, identity: SpiffeId) -> ClientCertificate:
    """What the mesh's authority gives to whoever has an identity."""
    key = ec.generate_private_key(CURVE)
    issued = await running.mesh.authority.sign(make_csr(key, identity), caller=identity)
    assert isinstance(issued, IssuedCertificate)
    return ClientCertificate(chain=b"".join(issued.chain), key=private_key_pem(key))


def server_context(folder: Path, certificate: ClientCertificate) -> ssl.SSLContext:
    """TLS as a peer's HBONE listener speaks it, to any client."""
    file = folder / "server.pem"
    file.write_bytes(certificate.key + certificate.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.set_alpn_protocols(["h2"])
    return context
