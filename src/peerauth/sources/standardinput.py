"""Reads standard input in a thread of its own, so that an event loop is not kept waiting for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading

from peerauth.sources.text import LARGEST_FILE

_PIECE = 1 << 20


async def read_standard_input() -> bytes:
    """All of standard input, for those who must not be kept from stopping by whoever does not end it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()

    def read() -> None:
        data = bytearray()
        while len(data) <= LARGEST_FILE and (piece := os.read(0, _PIECE)):
            data += piece
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for it
            loop.call_soon_threadsafe(tell, bytes(data))

    def tell(data: bytes) -> None:
        if not done.done():
            done.set_result(data)

    threading.Thread(target=read, name="standard input", daemon=True).start()
    return await done
