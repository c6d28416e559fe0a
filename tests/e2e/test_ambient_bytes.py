"""What goes through the node's proxy is what was sent: to the last byte, in both directions, whoever closes first."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamReset

from peerauth.agent.netns import unsupported
from rigs.ambientnode import OUTSIDER, Node, served_pair
from rigs.bulk import BLOCK, LARGE, send
from rigs.clients import Connection, client_context
from rigs.envoyrig import Authority
from samples.sidecars import CLIENT

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.root,
    pytest.mark.skipif(bool(unsupported()), reason=unsupported() or "supported"),
]

PORT = 8080

ways = pytest.mark.parametrize("source", ["client", OUTSIDER], ids=["hbone", "plaintext"])


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def node(tmp_path: Path, authority: Authority) -> AsyncIterator[Node]:
    async with served_pair(tmp_path, authority) as made:
        yield made


@ways
@pytest.mark.parametrize("v6", [False, True], ids=["ipv4", "ipv6"])
async def test_a_large_answer_arrives_whole(node: Node, source: str, v6: bool) -> None:
    """The client knows its length, and closes first: what happens otherwise, the next test says."""
    sent: asyncio.Queue[str] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        sent.put_nowait(await send(writer))
        await reader.read()
        writer.close()

    async with node.answering(PORT, answer):
        connection = await node.dial(source, "server", PORT, v6=v6)
        connection.writer.write(b"please\n")
        digest = hashlib.sha256()
        for _ in range(LARGE // len(BLOCK)):
            digest.update(await connection.reader.readexactly(len(BLOCK)))
        assert digest.hexdigest() == await sent.get()
        await connection.close()


@ways
async def test_the_server_may_speak_first(node: Node, source: str) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        writer.write(b"250 " + await reader.readline())
        writer.close()

    async with node.answering(PORT, greet):
        connection = await node.dial(source, "server", PORT)
        assert await connection.reader.readline() == b"220 ready\r\n"
        connection.writer.write(b"helo\r\n")
        assert await connection.reader.read() == b"250 helo\r\n"
        await connection.close()


@ways
async def test_many_connections_at_a_time_do_not_mix(node: Node, source: str) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async def one(number: int) -> bool:
        connection = await node.dial(source, "server", PORT)
        said = number.to_bytes(4) * 1000
        connection.writer.write(said)
        connection.writer.write_eof()
        heard = await connection.reader.read()
        await connection.close()
        return heard == said

    async with node.answering(PORT, echo):
        assert all(await asyncio.gather(*(one(number) for number in range(200))))


@ways
async def test_a_server_that_resets_is_not_taken_for_one_that_ends(node: Node, source: str) -> None:
    """At least the connection ends: whether as a reset depends on what lies between."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.transport.abort()

    async with node.answering(PORT, reset):
        connection = await node.dial(source, "server", PORT)
        connection.writer.write(b"please\n")
        assert await connection.ended()
        await connection.close()


async def test_one_connection_carries_a_thousand_tunnels_at_a_time(
    node: Node, authority: Authority, tmp_path: Path
) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    tls = client_context(tmp_path, authority=authority, uri=CLIENT.uri, alpn=("h2",))
    async with node.answering(PORT, echo):
        connection = await Connection.open(node.address("server"), 15008, tls, new_socket=node.sockets(OUTSIDER))
        try:
            async with asyncio.timeout(60):
                heard = await tunnels(connection, f"{node.address('server')}:{PORT}", count=1000)
        finally:
            await connection.close()
    assert heard == {1 + 2 * number: str(number).encode() for number in range(1000)}


async def tunnels(connection: Connection, authority: str, *, count: int) -> dict[int, bytes]:
    """Opens so many tunnels, then says a number in each of them: what came back, by stream."""
    h2 = H2Connection(H2Configuration(client_side=True, validate_outbound_headers=False))
    h2.initiate_connection()
    connection.writer.write(h2.data_to_send())
    h2.receive_data(await connection.reader.read(1 << 16))  # the server's settings
    streams = [1 + 2 * number for number in range(count)]
    for stream in streams:
        h2.send_headers(stream, [(":method", "CONNECT"), (":authority", authority)])
    opened: set[int] = set()
    heard: dict[int, bytes] = {}
    while len(heard) < count:
        connection.writer.write(h2.data_to_send())
        for event in h2.receive_data(await connection.reader.read(1 << 16)):
            match event:
                case ResponseReceived():
                    opened.add(event.stream_id)
                    if len(opened) == count:
                        for number, stream in enumerate(streams):
                            h2.send_data(stream, str(number).encode())
                case DataReceived():
                    heard[event.stream_id] = heard.get(event.stream_id, b"") + (event.data or b"")
                case StreamReset() | ConnectionTerminated():
                    raise AssertionError(event)
    return heard
