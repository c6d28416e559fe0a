"""The least that a control plane can do: bytes that were made before go out, an acknowledgement comes in.

Two floors. `FloorServer` has the same gRPC library, options and sockets as `peerauth.xds.server`, but no session: it
reads no message, keeps no version, orders nothing. `RawServer` has no gRPC either: a length, the bytes, an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio

from peerauth.xds import server as discovery

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
METHOD = "DeltaAggregatedResources"


class Line(Protocol):
    """One proxy's way: sends prepared bytes and returns when they were acknowledged."""

    async def push(self, data: bytes) -> None: ...


class FloorServer:
    """Delta discovery on one Unix socket. `first`: what answers a first request of a type, by a part of its name."""

    def __init__(self, path: Path, *, first: dict[bytes, bytes] | None = None) -> None:
        self._path = path
        self._first = dict(first or {})
        self._stream: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._acknowledged = asyncio.Event()
        self._server = grpc.aio.server(options=discovery._OPTIONS)

    async def start(self) -> None:
        method = grpc.stream_stream_rpc_method_handler(self._behave)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: method}),))
        self._server.add_insecure_port(f"unix:{self._path}")
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    async def connected(self) -> None:
        """Returns once the first acknowledgement, or the only request, has come."""
        await self._stream

    async def push(self, data: bytes) -> None:
        self._acknowledged.clear()
        await self._stream.result().write(data)
        await self._acknowledged.wait()

    async def _behave(self, _: Any, context: Any) -> None:
        while isinstance(message := await context.read(), bytes):
            answer = next((self._first.pop(kind) for kind in tuple(self._first) if kind in message), None)
            if answer is not None:
                await context.write(answer)
            elif not self._first and not self._stream.done():
                self._stream.set_result(context)
            self._acknowledged.set()


class RawServer(asyncio.Protocol):
    """A bare Unix socket for one proxy."""

    def __init__(self) -> None:
        self._here = asyncio.Event()
        self._acknowledged = asyncio.Event()
        self._owed = 0

    @classmethod
    async def start(cls, path: Path) -> RawServer:
        made = cls()
        made._server = await asyncio.get_running_loop().create_unix_server(lambda: made, path)
        return made

    _server: asyncio.Server

    def stop(self) -> None:
        self._transport.close()
        self._server.close()

    async def connected(self) -> None:
        await self._here.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._here.set()

    def data_received(self, data: bytes) -> None:
        self._owed -= len(data)
        if self._owed <= 0:
            self._acknowledged.set()

    async def push(self, data: bytes) -> None:
        self._acknowledged.clear()
        self._owed = 104
        self._transport.write(len(data).to_bytes(4) + data)
        await self._acknowledged.wait()


async def push_all(lines: Sequence[Line], data: bytes) -> None:
    """One message to each; returns after the last acknowledgement."""
    await asyncio.gather(*(line.push(data) for line in lines))
