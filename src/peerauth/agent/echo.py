"""A small application for examples, tests and the probe: says what it saw and who it is.

TLS that reaches it untouched is answered with a line that says so; HTTP/1.1 with a small JSON document; anything else
gets a line about who answers and is then echoed for as long as the client stays. With `server_first` that line comes
at once, as database servers do it. It never speaks TLS itself. No connection is reset while an answer is under way:
the sending side is closed first, and what the client still sends is read and thrown away.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self, cast

TLS_MARKER = b"peerauth-echo: saw TLS ClientHello"
LINE_MARKER = b"peerauth-echo: "
_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ")
_HEAD_LIMIT = 64 << 10


class EchoApplication:
    """Serves one listening socket (TCP or Unix) until left: an async context manager; leaving cuts connections.

    `workload` is what it calls itself; `port` is the number it reports, by default the socket's own.
    """

    def __init__(
        self, listener: socket.socket, *, workload: str, port: int | None = None, server_first: bool = False
    ) -> None:
        self._listener = listener
        self._workload = workload
        self._server_first = server_first
        name = listener.getsockname()
        self._port = port if port is not None else (name[1] if isinstance(name, tuple) else 0)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Transport] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        start = loop.create_unix_server if self._listener.family == socket.AF_UNIX else loop.create_server
        self._server = await start(self._connection, sock=self._listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for transport in tuple(self._connections):
            transport.abort()

    def _connection(self) -> _EchoConnection:
        return _EchoConnection(
            workload=self._workload, port=self._port, server_first=self._server_first, open_ones=self._connections
        )


def listen_tcp(
    address: str, port: int, *, sockets: Callable[[int], socket.socket] | None = None, backlog: int = 1024
) -> socket.socket:
    """A listening TCP socket, in another network namespace if `sockets` makes them there. Raises OSError.

    `::` is IPv6 alone, so that it can stand beside `0.0.0.0`.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = sockets(family) if sockets is not None else socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


class _EchoConnection(asyncio.Protocol):
    """One client. `_speak` is what the next bytes mean: undecided, HTTP, echo, or nothing any more."""

    def __init__(self, *, workload: str, port: int, server_first: bool, open_ones: set[asyncio.Transport]) -> None:
        self._workload = workload
        self._port = port
        self._server_first = server_first
        self._open_ones = open_ones
        self._buffer = b""
        self._speak = self._decide

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # other event loops' are not instances of it
        self._open_ones.add(self._transport)
        peer = transport.get_extra_info("peername")
        self._source = str(peer[0]) if isinstance(peer, tuple) else ""
        if self._server_first:
            self._introduce()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_ones.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._speak()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def _decide(self) -> None:
        if self._buffer in {b"\x16"} or any(method.startswith(self._buffer) for method in _METHODS):
            return  # too short to tell
        if self._buffer.startswith(b"\x16\x03"):
            self._finish(TLS_MARKER + f", {len(self._buffer)} bytes\n".encode())
        elif self._buffer.startswith(_METHODS) and not self._server_first:
            self._speak = self._http
            self._http()
        else:
            if not self._server_first:
                self._introduce()
            self._speak = self._echo
            self._echo()

    def _introduce(self) -> None:
        self._transport.write(
            LINE_MARKER + f"{self._workload} port {self._port}, from {self._source or 'a Unix socket'}\n".encode()
        )

    def _echo(self) -> None:
        self._transport.write(self._buffer)
        self._buffer = b""

    def _discard(self) -> None:
        self._buffer = b""

    def _http(self) -> None:
        while b"\r\n\r\n" in self._buffer:
            head, rest = self._buffer.split(b"\r\n\r\n", 1)
            request, *fields = head.decode("latin-1").split("\r\n")
            headers = {name.strip().lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
            length = headers.get("content-length", "0")
            size = int(length) if length.isdigit() else 0
            if len(rest) < size:
                break
            self._buffer = rest[size:]
            self._answer(request, last=headers.get("connection", "").lower() == "close")
        if len(self._buffer) > _HEAD_LIMIT:
            self._transport.abort()

    def _answer(self, request: str, *, last: bool) -> None:
        method, path = (*request.split(" "), "", "")[:2]
        said = {"workload": self._workload, "port": self._port, "source": self._source, "path": path}
        body = json.dumps(said).encode() + b"\n"
        head = (
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nserver: peerauth-echo\r\n"
            f"content-length: {len(body)}\r\nconnection: {'close' if last else 'keep-alive'}\r\n\r\n"
        )
        answer = head.encode() + (b"" if method == "HEAD" else body)
        if last:
            self._finish(answer)
        else:
            self._transport.write(answer)

    def _finish(self, answer: bytes) -> None:
        self._transport.write(answer)
        self._transport.write_eof()
        self._buffer = b""
        self._speak = self._discard
