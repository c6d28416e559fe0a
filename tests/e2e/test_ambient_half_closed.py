"""One side has said all that it had to say, and the other goes on: through the node's proxy as without it.

With one exception, which is Envoy's: an application that ends its side first ends the tunnel.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset

from peerauth.agent.netns import unsupported
from peerauth.dataplane.envoy.hbone import STREAM_WINDOW
from rigs.ambientnode import OUTSIDER, Node, served_pair
from rigs.bulk import BLOCK, receive, send
from rigs.clients import PATIENCE_S, Connection, client_context
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
async def test_a_large_upload_arrives_whole_and_the_answer_comes_after_the_client_s_end(
    node: Node, source: str
) -> None:
    """Half-closed by the client: the server answers when it has read everything."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await receive(reader)).encode())
        await writer.drain()
        writer.close()

    async with node.answering(PORT, answer):
        connection = await node.dial(source, "server", PORT)
        digest = await send(connection.writer)
        connection.writer.write_eof()
        assert (await connection.reader.read()).decode() == digest
        await connection.close()


@ways
@pytest.mark.parametrize("v6", [False, True], ids=["ipv4", "ipv6"])
async def test_a_client_that_has_ended_its_side_gets_all_of_a_large_answer(node: Node, source: str, v6: bool) -> None:
    """Also of one that the server ends: the request is over by then."""
    sent: asyncio.Queue[str] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b"please\n"
        sent.put_nowait(await send(writer))
        writer.close()

    async with node.answering(PORT, answer):
        connection = await node.dial(source, "server", PORT, v6=v6)
        connection.writer.write(b"please\n")
        connection.writer.write_eof()
        assert await receive(connection.reader) == await sent.get()
        await connection.close()


@ways
async def test_an_answer_that_the_server_ends_arrives_whole_if_the_tunnel_s_window_holds_it(
    node: Node, source: str
) -> None:
    """Envoy resets a tunnel's stream when the application closes, and drops what waits for the client's window."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(BLOCK * (STREAM_WINDOW // len(BLOCK)))
        await writer.drain()
        writer.close()

    async with node.answering(PORT, answer):
        for _ in range(5):
            connection = await node.dial(source, "server", PORT)
            connection.writer.write(b"please\n")
            assert len(await connection.reader.read()) == STREAM_WINDOW // len(BLOCK) * len(BLOCK)
            await connection.close()


@ways
async def test_a_server_that_has_ended_its_side_still_hears_its_client_where_there_is_no_tunnel(
    node: Node, source: str
) -> None:
    """Through a tunnel it hears the end instead: never bytes that were not sent, and no silence for ever."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    said = BLOCK * 16

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"that is all\n")
        writer.write_eof()
        heard.put_nowait(await reader.read())
        writer.close()

    async with node.answering(PORT, answer):
        connection = await node.dial(source, "server", PORT)
        assert await connection.reader.read() == b"that is all\n"
        connection.writer.write(said)
        connection.writer.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            arrived = await heard.get()
        assert arrived == (said if source == OUTSIDER else b"")
        await connection.close()


@pytest.mark.parametrize("client_ends", [True, False], ids=["client-first", "server-first"])
async def test_in_hbone_the_end_of_a_side_is_the_end_of_its_stream(
    node: Node, authority: Authority, tmp_path: Path, client_ends: bool
) -> None:
    """As a peer sees it that is not ours. The reset after the server's end says NO_ERROR: nothing went wrong."""
    tls = client_context(tmp_path, authority=authority, uri=CLIENT.uri, alpn=("h2",))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await (reader.read() if client_ends else reader.readline())
        writer.write(b"heard " + said)
        writer.close()

    async with node.answering(PORT, answer):
        connection = await Connection.open(node.address("server"), 15008, tls, new_socket=node.sockets(OUTSIDER))
        try:
            async with asyncio.timeout(PATIENCE_S):
                to = f"{node.address('server')}:{PORT}"
                heard, ends = await converse(connection, to, said=b"please\n", end=client_ends)
        finally:
            await connection.close()
    assert heard == b"heard please\n"
    assert ends == (["ended"] if client_ends else ["ended", "reset with 0"])


async def converse(connection: Connection, authority: str, *, said: bytes, end: bool) -> tuple[bytes, list[str]]:
    """One tunnel in a connection of its own: what came back, and how the stream was over."""
    h2 = H2Connection(H2Configuration(client_side=True, validate_outbound_headers=False))
    h2.initiate_connection()
    h2.send_headers(1, [(":method", "CONNECT"), (":authority", authority)])
    heard, ends = b"", list[str]()
    while not ends or (not end and len(ends) == 1):
        connection.writer.write(h2.data_to_send())
        for event in h2.receive_data(await connection.reader.read(1 << 16)):
            match event:
                case ResponseReceived():
                    h2.send_data(1, said, end_stream=end)
                case DataReceived():
                    heard += event.data or b""
                case StreamEnded():
                    ends.append("ended")
                case StreamReset():
                    ends.append(f"reset with {event.error_code}")
                case ConnectionTerminated():
                    raise AssertionError(event)
    return heard, ends
