"""The echo application says which of the three it saw: TLS, HTTP, or anything else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from peerauth.agent.echo import TLS_MARKER, EchoApplication, listen_tcp

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(*, server_first: bool = False, address: str = "127.0.0.1") -> AsyncIterator[Streams]:
    listener = listen_tcp(address, 0)
    port = listener.getsockname()[1]
    async with EchoApplication(listener, workload="foo/finance", server_first=server_first):
        reader, writer = await asyncio.open_connection(address, port)
        try:
            yield reader, writer
        finally:
            writer.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_http_is_answered_with_who_and_from_where_and_the_connection_stays(address: str) -> None:
    async with connected(address=address) as (reader, writer):
        for path in ("/one", "/two"):
            writer.write(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            said = json.loads(await reader.readline())
            assert said | {"port": 0} == {"workload": "foo/finance", "port": 0, "source": address, "path": path}
        writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"}\n")


async def test_tls_is_answered_in_plaintext_and_not_reset_while_the_client_goes_on_sending() -> None:
    async with connected() as (reader, writer):
        writer.write(b"\x16")
        await writer.drain()
        writer.write(b"\x03\x01" + bytes(300))
        assert (await reader.readline()).startswith(TLS_MARKER)
        writer.write(bytes(1000))
        await writer.drain()
        assert await reader.read() == b""


async def test_anything_else_is_echoed_for_as_long_as_the_client_stays() -> None:
    async with connected() as (reader, writer):
        writer.write(b"hello\n")
        assert (await reader.readline()).startswith(b"peerauth-echo: foo/finance port ")
        assert await reader.readline() == b"hello\n"
        for n in range(3):
            writer.write(b"%d\n" % n)
            assert await reader.readline() == b"%d\n" % n


async def test_server_first_speaks_before_the_client() -> None:
    async with connected(server_first=True) as (reader, writer):
        assert (await reader.readline()).startswith(b"peerauth-echo: foo/finance")
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.readline() == b"GET / HTTP/1.1\r\n"


async def test_a_unix_socket_serves_too_and_leaving_cuts_what_is_open(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "app.sock"))
    async with EchoApplication(listener, workload="foo/web", port=8080):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "app.sock"))
        writer.write(b"hello\n")
        assert await reader.readline() == b"peerauth-echo: foo/web port 8080, from a Unix socket\n"
        assert await reader.readline() == b"hello\n"
    assert await reader.read() == b""
    writer.close()


async def test_an_endless_request_head_is_cut() -> None:
    async with connected() as (reader, writer):
        with contextlib.suppress(ConnectionError):  # cut in the middle of either
            writer.write(b"GET /" + b"x" * (1 << 17))
            await writer.drain()
            assert await reader.read() == b""


def test_it_serves_on_a_faster_event_loop_too() -> None:
    async def ask() -> bytes:
        async with connected() as (reader, writer):
            writer.write(b"hello\n")
            await reader.readline()
            return await reader.readline()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(ask()) == b"hello\n"
