"""Clients that are silent, slow, half-spoken or many: others are served meanwhile, and a STRICT application sees none.

Port 8080 of finance is STRICT, 9000 PERMISSIVE; the proxies wait a second for a first flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rigs.mesh_on_this_machine import FINANCE, Ledger, Machine, example, machine, policy

pytestmark = pytest.mark.envoy

FLOOD = 500
STRICT, PERMISSIVE, HBONE = 8080, 9000, 15008
DOCUMENTS = (
    policy("foo", "STRICT", app="finance", ports={PERMISSIVE: "PERMISSIVE"}),
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n"
    "data:\n  mesh: |\n    protocolDetectionTimeout: 1s\n",
)


def client_hello() -> bytes:
    """What a TLS client says first."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="finance").do_handshake()
    return outgoing.read()


HELLO = client_hello()
KINDS = {
    "silent": b"",
    "one byte": b"G",
    "one byte of TLS": HELLO[:1],
    "half a ClientHello": HELLO[: len(HELLO) // 2],
    "a ClientHello and nothing more": HELLO,
    "a record that claims to be long": b"\x16\x03\x01\xff\xff\x01",
}


@contextlib.asynccontextmanager
async def flood(address: str, port: int, said: bytes, *, count: int) -> AsyncIterator[list[socket.socket]]:
    """Connections that say so much and then stay."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in made:
            each.setblocking(False)
        async with asyncio.timeout(20):
            await asyncio.gather(*(loop.sock_connect(each, (address, port)) for each in made))
            for each in made:
                with contextlib.suppress(OSError):
                    await loop.sock_sendall(each, said)
        yield made


async def everyone_is_served(running: Machine) -> None:
    for _ in range(5):
        assert await running.reaches(FINANCE, STRICT, tls=running.mutual())
        assert await running.reaches(FINANCE, PERMISSIVE, tls=running.mutual())
        assert await running.reaches(FINANCE, PERMISSIVE)
        assert not await running.reaches(FINANCE, STRICT)


async def start(running: Machine) -> tuple[Ledger, Ledger]:
    await running.load(example(*DOCUMENTS))
    return await running.serve(FINANCE, STRICT), await running.serve(FINANCE, PERMISSIVE)


async def ended(connection: socket.socket) -> bool:
    """Waits until the other end has closed; whatever it says before that is passed over."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while await loop.sock_recv(connection, 1 << 16):
            pass
    return True


async def test_on_a_strict_port_hostile_clients_stop_no_one_reach_nothing_and_are_turned_out(tmp_path: Path) -> None:
    """A client that begins a handshake has ten seconds to finish it, any other one to say something."""
    async with machine(tmp_path) as running, contextlib.AsyncExitStack() as stack:
        strict, _ = await start(running)
        connections: list[socket.socket] = []
        for said in KINDS.values():
            connections += await stack.enter_async_context(flood(running.at(FINANCE), STRICT, said, count=20))
        await everyone_is_served(running)
        served = strict.connections
        async with asyncio.timeout(20):
            assert all(await asyncio.gather(*map(ended, connections)))
        assert strict.connections == served


@pytest.mark.parametrize("port", [STRICT, PERMISSIVE, HBONE])
async def test_a_flood_stops_no_one(tmp_path: Path, port: int) -> None:
    async with machine(tmp_path) as running:
        await start(running)
        mutual = await running.dial(FINANCE, STRICT, tls=running.mutual())
        async with contextlib.AsyncExitStack() as stack:
            for said in KINDS.values():
                made = flood(running.at(FINANCE), port, said, count=FLOOD // len(KINDS) + 1)
                await stack.enter_async_context(made)
            await everyone_is_served(running)
            assert await mutual.echoes()
        await everyone_is_served(running)
        supervisor = running.mesh.agents()[FINANCE].supervisor
        assert supervisor.restarts == 0


async def test_a_first_message_too_short_to_be_told_from_tls_reaches_a_permissive_application_and_no_strict_one(
    tmp_path: Path,
) -> None:
    """When the time for detection is over: Envoy sees a TLS record in no fewer than five bytes."""
    async with machine(tmp_path) as running:
        strict, _ = await start(running)
        for said in (b"h", b"hi\n", b"hey\n"):
            connection = await running.dial(FINANCE, PERMISSIVE)
            connection.writer.write(said)
            async with asyncio.timeout(20):
                answer = await connection.reader.readexactly(len(said))
            assert answer == said
            refused = await running.dial(FINANCE, STRICT)
            refused.writer.write(said)
            assert await refused.ended()
        assert strict.connections == 0
