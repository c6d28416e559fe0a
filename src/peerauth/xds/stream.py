"""Drives one session over one gRPC stream: the only place where a session meets an event loop.

One task reads, one writes. The reader never waits for the writer: a session has at most one unacknowledged answer per
type, so what waits to be written is bounded whatever the client does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

import grpc
import grpc.aio

from peerauth.aio import spawn
from peerauth.xds.cache import Changes
from peerauth.xds.session import Session
from peerauth.xds.wire import Close, CloseCode, Command, Event, RequestReceived, ResourcesChanged, Send

_CODES = {
    CloseCode.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    CloseCode.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    CloseCode.RESOURCE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class Context(Protocol):
    """What is used of gRPC's servicer context."""

    async def read(self) -> object: ...

    async def write(self, message: bytes) -> None: ...

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...

    async def abort(self, code: grpc.StatusCode, details: str) -> None: ...


async def drive(
    session: Session,
    *,
    context: Context,
    watch: Callable[[Callable[[], None]], Changes],
    observe: Callable[[Command], None],
) -> None:
    """Runs until the client ends the stream or the session closes it. `observe` gets the commands that record."""
    stream = _Stream(session, context, observe)
    changes = watch(stream.wake.set)
    try:
        async with asyncio.TaskGroup() as group:
            reader = spawn(group, stream.read(changes), name="xds reader")
            await stream.write(changes)
            reader.cancel()
    finally:
        changes.close()
    if stream.close is not None:
        await context.abort(_CODES[stream.close.code], stream.close.reason)


class _Stream:
    def __init__(self, session: Session, context: Context, observe: Callable[[Command], None]) -> None:
        self.wake = asyncio.Event()
        self.close: Close | None = None
        self._session = session
        self._context = context
        self._observe = observe
        self._outbox: deque[bytes] = deque()
        self._ended = False

    async def read(self, changes: Changes) -> None:
        while isinstance(message := await self._context.read(), bytes):
            # News first, or an answer could show what is newer than the order between types knows of.
            self._catch_up(changes)
            self._feed(RequestReceived(message))
            self.wake.set()
        self._ended = True
        self.wake.set()

    async def write(self, changes: Changes) -> None:
        while not self._ended and self.close is None:
            await self.wake.wait()
            self.wake.clear()
            self._catch_up(changes)
            while self._outbox:
                await self._context.write(self._outbox.popleft())

    def _catch_up(self, changes: Changes) -> None:
        if names := changes.drain():
            self._feed(ResourcesChanged(names))

    def _feed(self, event: Event) -> None:
        for command in self._session.receive(event):
            match command:
                case Send(data=data):
                    self._outbox.append(data)
                case Close():
                    self.close = command
                case _:
                    self._observe(command)
