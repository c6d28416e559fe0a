"""Questions to an Envoy's admin interface on its Unix socket: readiness, stats, the configuration it runs.

One request, one connection. The interface is never on TCP: whoever reaches it controls the proxy.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

MAX_ANSWER = 64 << 20


class AdminAnswer(msgspec.Struct, frozen=True):
    """An HTTP status and the body."""

    status: int
    body: bytes


async def ask(admin: Path, target: str, *, method: str = "GET", seconds: float = 5.0) -> AdminAnswer:
    """Send one request, such as `/ready` or `/stats?format=json`.

    Raises OSError if no one answers there, TimeoutError after `seconds`, ValueError if the answer is not HTTP.
    """
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_unix_connection(str(admin))
        try:
            request = f"{method} {target} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            writer.write(request.encode())
            raw = await _read_all(reader)
        finally:
            writer.close()
    return _parse(raw)


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    raw = bytearray()
    while chunk := await reader.read(1 << 16):
        raw += chunk
        if len(raw) > MAX_ANSWER:
            raise ValueError("the admin interface's answer is too long")
    return bytes(raw)


def _parse(raw: bytes) -> AdminAnswer:
    head, separator, body = raw.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    words = lines[0].split(b" ", 2)
    if not separator or len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise ValueError("the admin interface did not answer in HTTP")
    chunked = any(line.lower().replace(b" ", b"") == b"transfer-encoding:chunked" for line in lines[1:])
    return AdminAnswer(status=int(words[1]), body=_join_chunks(body) if chunked else body)


def _join_chunks(body: bytes) -> bytes:
    joined = bytearray()
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        joined += rest[:length]
        body = rest[length + 2 :] if length else b""
    return bytes(joined)
