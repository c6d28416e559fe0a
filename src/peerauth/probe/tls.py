"""Byte streams for the probe: a TCP connection, and TLS over it, that keep what other libraries throw away.

What was received stays readable after a failure: a TLS alert that arrived before a reset, and the first bytes of an
answer that is not TLS at all. Sockets are used directly, because stream transports drop unread data when a write
fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

CHUNK = 1 << 16


class TcpStream:
    """A connected non-blocking socket; `first` holds the first bytes that were received."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.first = b""

    async def send(self, data: bytes) -> None:
        """Send what the peer still takes; that it does not is learned by receiving."""
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def receive(self) -> bytes:
        """The next bytes, empty at the end. Raises ConnectionError for a reset."""
        data = await asyncio.get_running_loop().sock_recv(self._socket, CHUNK)
        if len(self.first) < 64:
            self.first += data[: 64 - len(self.first)]
        return data

    def looks_like_tls(self) -> bool:
        """Whether what was received begins like a TLS record (or nothing was)."""
        return not self.first or (0x14 <= self.first[0] <= 0x17 and self.first[1:2] in {b"", b"\x03"})


class TlsStream:
    """TLS as a client over a TcpStream. Errors are those of `ssl` and of the stream below."""

    def __init__(self, below: TcpStream, context: ssl.SSLContext) -> None:
        self._below = below
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self.established = False
        self.certificate: bytes | None = None  # the server's, verified, DER

    async def handshake(self) -> None:
        """Complete the client's side; a TLS 1.3 server may refuse the client's certificate only after this."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._exchange()
            else:
                break
            finally:
                await self._flush()
        self.certificate = self._tls.getpeercert(binary_form=True)
        self.established = True

    async def send(self, data: bytes) -> None:
        """Encrypt and send."""
        self._tls.write(data)
        await self._flush()

    async def receive(self) -> bytes:
        """The next decrypted bytes, empty at the end, whether it was announced or not."""
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                await self._exchange()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def _exchange(self) -> None:
        await self._flush()
        data = await self._below.receive()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._below.send(self._outgoing.read())
