"""Clients and an application for tests that run a real Envoy: what was sent, and what the application saw of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from cryptography import x509
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamReset
from h2.exceptions import ProtocolError

from rigs.envoyrig import Authority

GREETING = b"hello application"
PATIENCE_S = 10.0
NewSocket = Callable[[], socket.socket]


def loopback(last: int) -> str:
    """A loopback address that no other test process uses at the same time."""
    pid = os.getpid()
    return f"127.{64 + (pid >> 8) % 128}.{pid % 256}.{last}"


class Application(NamedTuple):
    """An echo server: `port` on 127.0.0.1, and the first bytes of each connection it got."""

    port: int
    seen: asyncio.Queue[bytes]

    def saw(self) -> str:
        """What it saw since it was last asked: the greeting, a ClientHello, or nothing."""
        first = None if self.seen.empty() else self.seen.get_nowait()
        match first:
            case None:
                return "nothing"
            case b"":
                return "a connection without a byte"
            case _ if first.startswith(b"\x16\x03"):
                return "a ClientHello"
            case _ if GREETING.startswith(first):
                return "the greeting"
        return repr(first)


@contextlib.asynccontextmanager
async def application(banner: bytes = b"", *, listener: socket.socket | None = None) -> AsyncIterator[Application]:
    """Runs an application that says `banner` first and then repeats what it hears."""
    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(banner)
            first = True
            while (data := await reader.read(4096)) or first:
                if first:
                    seen.put_nowait(data)
                first = False
                writer.write(b"echo:" + data)
                if not data:
                    break
        writer.close()

    if listener is None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
    else:
        server = await asyncio.start_server(serve, sock=listener)
    async with server:
        yield Application(server.sockets[0].getsockname()[1], seen)


def client_context(
    folder: Path, *, authority: Authority | None, uri: str = "", alpn: Sequence[str] = ()
) -> ssl.SSLContext:
    """TLS as a client speaks it; with an authority, presenting its certificate for `uri`. The server is not checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if authority is not None:
        file = folder / "client.pem"
        file.write_bytes(b"".join(authority.issue(uri)))
        context.load_cert_chain(file)
        file.unlink()
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


class Connection:
    """One client connection; `source` is its own address and port as the proxy logs it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: str) -> None:
        self.reader, self.writer, self.source = reader, writer, source

    @classmethod
    async def open(
        cls,
        address: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        *,
        new_socket: NewSocket | None = None,
    ) -> Self:
        """Connects; OSError (ssl.SSLError included) if that fails."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        plain = new_socket() if new_socket else socket.socket(family)
        plain.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(plain, (address, port))
            host, number = plain.getsockname()[:2]
            source = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
            name = "" if tls else None
            reader, writer = await asyncio.open_connection(sock=plain, ssl=tls, server_hostname=name)
        except BaseException:
            plain.close()
            raise
        return cls(reader, writer, source)

    async def echoes(self) -> bool:
        """Whether what is sent comes back."""
        try:
            self.writer.write(GREETING)
            async with asyncio.timeout(PATIENCE_S):
                return (await self.reader.read(4096)).endswith(GREETING)
        except OSError:
            return False

    async def ended(self) -> bool:
        """Waits for the other end to close or reset; False if it sends something instead. TimeoutError: it lives."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return not await self.reader.read(1)
        except TimeoutError:
            raise  # it is an OSError
        except OSError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


async def greet(address: str, port: int, tls: ssl.SSLContext | None = None) -> None:
    """Connects, says the greeting, and waits for an answer or the end; every way it can end is fine."""
    with contextlib.suppress(OSError):
        connection = await Connection.open(address, port, tls)
        await connection.echoes()
        await connection.close()


async def tunnel(
    address: str,
    tls: ssl.SSLContext | None,
    *,
    authority: str,
    method: str = "CONNECT",
    claims: Mapping[str, str] | None = None,
    new_socket: NewSocket | None = None,
) -> tuple[int | None, bytes]:
    """One HBONE request, with `claims` as further headers: the status, and for a 200 what came back for the greeting.

    None: no HTTP/2 at all. TimeoutError: neither an answer nor an end.
    """
    try:
        connection = await Connection.open(address, 15008, tls, new_socket=new_socket)
    except OSError:
        return None, b""
    h2 = H2Connection(H2Configuration(client_side=True, validate_outbound_headers=False))
    h2.initiate_connection()
    headers = [(":method", method), (":authority", authority)]
    if method != "CONNECT":
        headers += [(":scheme", "http"), (":path", "/")]
    h2.send_headers(1, [*headers, *(claims or {}).items()])
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await _tunnelled(connection, h2)
    except TimeoutError:
        raise
    except OSError:
        return None, b""
    finally:
        await connection.close()


async def _tunnelled(connection: Connection, h2: H2Connection) -> tuple[int | None, bytes]:
    status = None
    while True:
        connection.writer.write(h2.data_to_send())
        data = await connection.reader.read(1 << 16)
        if not data:
            return status, b""
        for event in h2.receive_data(data):
            match event:
                case ResponseReceived():
                    status = int(_header(event.headers, b":status"))
                    if status != 200:
                        return status, b""
                    with contextlib.suppress(ProtocolError):  # over already; the next events say how
                        h2.send_data(1, GREETING)
                case DataReceived():
                    return status, event.data or b""
                case StreamReset() | ConnectionTerminated():
                    return status, b""


def _header(headers: Any, wanted: bytes) -> bytes:
    return next(bytes(value) for name, value in headers if name == wanted)


def serial_of(connection: Connection) -> int:
    """The serial number of the certificate that the server showed."""
    shown = connection.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(shown).serial_number
