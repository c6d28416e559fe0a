"""Bodies that are large enough for every buffer on the way to fill, told apart by their digests."""

from __future__ import annotations

import asyncio
import hashlib

LARGE = 32 << 20
BLOCK = bytes(range(256)) * 256


async def send(writer: asyncio.StreamWriter) -> str:
    """Sends a large body; returns its digest."""
    digest = hashlib.sha256()
    for number in range(LARGE // len(BLOCK)):
        block = number.to_bytes(8) + BLOCK[8:]
        digest.update(block)
        writer.write(block)
        await writer.drain()
    return digest.hexdigest()


async def receive(reader: asyncio.StreamReader) -> str:
    """The digest of everything up to the end."""
    digest = hashlib.sha256()
    while data := await reader.read(1 << 18):
        digest.update(data)
    return digest.hexdigest()
