"""Puts load on a port: `wrk` where it is installed, else a client in Python.

The client in Python is slower than any proxy: with it the rates only say how fast Python is, and what means something
is the proxies' processor time for each request.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from typing import NamedTuple

WRK = shutil.which("wrk")


class Load(NamedTuple):
    """`connections` at a time ask for `path`; `reconnect`: each request on a connection of its own."""

    name: str
    path: str
    connections: int
    reconnect: bool = False


async def put(load: Load, *, port: int, seconds: float) -> tuple[int, float]:
    """How many requests were answered in how many seconds. Raises RuntimeError if one was answered with an error."""
    url = f"http://127.0.0.1:{port}{load.path}"
    return await (_wrk(load, url, seconds) if WRK and seconds >= 1 else _python(load, port, seconds))


async def _wrk(load: Load, url: str, seconds: float) -> tuple[int, float]:
    close = ("-H", "Connection: close") if load.reconnect else ()
    process = await asyncio.create_subprocess_exec(
        *(str(WRK), "-t1", f"-c{load.connections}", f"-d{round(seconds)}s", *close, url),
        stdout=asyncio.subprocess.PIPE,
    )
    said = (await process.communicate())[0].decode()
    found = re.search(r"(\d+) requests in ([\d.]+)s", said)
    if found is None or "Non-2xx" in said or process.returncode:
        raise RuntimeError(f"wrk on {url}: {said}")
    return int(found[1]), float(found[2])


async def _python(load: Load, port: int, seconds: float) -> tuple[int, float]:
    start = time.perf_counter()
    counts = await asyncio.gather(*(_client(load, port, start + seconds) for _ in range(load.connections)))
    return sum(counts), time.perf_counter() - start


async def _client(load: Load, port: int, until: float) -> int:
    close = "Connection: close\r\n" if load.reconnect else ""
    request = f"GET {load.path} HTTP/1.1\r\nHost: a\r\n{close}\r\n".encode()
    count = 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while not count or time.perf_counter() < until:
        if load.reconnect and count:
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if b" 200 " not in head or length is None:
            raise RuntimeError(f"port {port} answered {head[:100]!r}")
        await reader.readexactly(int(length[1]))
        count += 1
    writer.close()
    return count
