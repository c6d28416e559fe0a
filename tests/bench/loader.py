"""Puts load on a port: `wrk` where it is installed, else a client in Python.

The client in Python is slower than any proxy: with it the rates only say how fast Python is, and what means something
is the proxies' processor time for each request.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import time
from functools import partial
from typing import NamedTuple

from peerauth.agent.launch import wrapped
from peerauth.agent.netns import socket_in
from rigs.clients import Connection

WRK = shutil.which("wrk")
BIG = 1 << 20
"""The bytes of the answer to `/big`."""


class Load(NamedTuple):
    """`connections` at a time ask for `path`; `reconnect`: each request on a connection of its own."""

    name: str
    path: str
    connections: int
    reconnect: bool = False

    @property
    def big(self) -> bool:
        """Whether what counts is the bytes."""
        return self.path == "/big"


KEPT = Load("requests on 64 kept connections", "/small", 64)
ALONE = Load("one request after the other on 1 kept connection", "/small", 1)
NEW = Load("a connection for each request, 16 at a time", "/small", 16, reconnect=True)
SINGLE = Load("answers of 1 MB on 1 connection", "/big", 1)
BULK = Load("answers of 1 MB on 4 connections", "/big", 4)


class Door(NamedTuple):
    """Where the client's application connects, and the path of the network namespace that it is in (empty: ours)."""

    port: int
    address: str = "127.0.0.1"
    netns: str = ""

    async def open(self) -> Connection:
        """One connection. Raises OSError."""
        new_socket = partial(socket_in, self.netns, socket.AF_INET) if self.netns else None
        return await Connection.open(self.address, self.port, new_socket=new_socket)


def by_wrk(seconds: float) -> bool:
    """Whether it is wrk that puts a load of this length."""
    return WRK is not None and seconds >= 1


def said_of_load(seconds: float) -> str:
    """A line for the output."""
    return "load by wrk" if by_wrk(seconds) else "load by Python: mind the proxies' microseconds, not the rates"


async def put(load: Load, door: Door, *, seconds: float) -> tuple[int, float]:
    """How many requests were answered in how many seconds. Raises RuntimeError if one was answered with an error."""
    return await (_wrk(load, door, seconds) if by_wrk(seconds) else _python(load, door, seconds))


async def _wrk(load: Load, door: Door, seconds: float) -> tuple[int, float]:
    url = f"http://{door.address}:{door.port}{load.path}"
    close = ("-H", "Connection: close") if load.reconnect else ()
    command = [str(WRK), "-t1", f"-c{load.connections}", f"-d{round(seconds)}s", *close, url]
    process = await asyncio.create_subprocess_exec(
        *wrapped(command, parent=os.getpid(), netns=door.netns), stdout=asyncio.subprocess.PIPE
    )
    said = (await process.communicate())[0].decode()
    found = re.search(r"(\d+) requests in ([\d.]+)s", said)
    if found is None or "Non-2xx" in said or process.returncode:
        raise RuntimeError(f"wrk on {url}: {said}")
    return int(found[1]), float(found[2])


async def _python(load: Load, door: Door, seconds: float) -> tuple[int, float]:
    start = time.perf_counter()
    counts = await asyncio.gather(*(_client(load, door, start + seconds) for _ in range(load.connections)))
    return sum(counts), time.perf_counter() - start


async def _client(load: Load, door: Door, until: float) -> int:
    close = "Connection: close\r\n" if load.reconnect else ""
    request = f"GET {load.path} HTTP/1.1\r\nHost: a\r\n{close}\r\n".encode()
    count = 0
    connection = await door.open()
    while not count or time.perf_counter() < until:
        if load.reconnect and count:
            connection.writer.close()
            connection = await door.open()
        connection.writer.write(request)
        head = await connection.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if b" 200 " not in head or length is None:
            raise RuntimeError(f"{door} answered {head[:100]!r}")
        await connection.reader.readexactly(int(length[1]))
        count += 1
    connection.writer.close()
    return count
