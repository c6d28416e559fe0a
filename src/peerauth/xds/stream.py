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
from peerauth.xds.cache import StreamView
from peerauth.xds.session import Session
from peerauth.xds.wire import (
    Close,
    CloseCode,
    Command,
    Event,
    RequestReceived,
    SecondChance,
    Send,
)

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
    view: StreamView,
    wake: asyncio.Event,
    context: Context,
    observe: Callable[[Command], None],
    patience: float,
) -> None:
    """Runs until the client ends the stream or the session closes it, and closes `view`, whose news set `wake`.

    `observe` gets the commands that record. What the client refused is offered again every `patience` seconds.
    """
    stream = _Stream(session, view, context, wake=wake, observe=observe, patience=patience)
    try:
        async with asyncio.TaskGroup() as group:
            reader = spawn(group, stream.read(), name="xds reader")
            await stream.write()
            reader.cancel()
    finally:
        view.close()
    if stream.close is not None:
        await context.abort(_CODES[stream.close.code], stream.close.reason)


class _Stream:
    def __init__(
        self,
        session: Session,
        view: StreamView,
        context: Context,
        *,
        wake: asyncio.Event,
        observe: Callable[[Command], None],
        patience: float,
    ) -> None:
        self.close: Close | None = None
        self._session = session
        self._view = view
        self._wake = wake
        self._context = context
        self._observe = observe
        self._outbox: deque[bytes] = deque()
        self._ended = False
        self._patience = patience
        self._offer_again_at: float | None = None

    async def read(self) -> None:
        while isinstance(message := await self._context.read(), bytes):
            # News first, or an answer could show what is newer than the order between types knows of.
            self._catch_up()
            self._feed(RequestReceived(message))
            self._wake.set()
        self._ended = True
        self._wake.set()

    async def write(self) -> None:
        while not self._ended and self.close is None:
            waited_long_enough = await self._woken()
            self._catch_up()
            if waited_long_enough:
                self._feed(SecondChance())
            while self._outbox:
                await self._context.write(self._outbox.popleft())

    async def _woken(self) -> bool:
        """Returns when there is news, or when it is time to offer again what was refused: then it is true."""
        if not self._session.refused:
            self._offer_again_at = None
        elif self._offer_again_at is None:
            self._offer_again_at = asyncio.get_running_loop().time() + self._patience
        try:
            async with asyncio.timeout_at(self._offer_again_at):
                await self._wake.wait()
        except TimeoutError:
            self._offer_again_at = None
            return True
        finally:
            self._wake.clear()
        return False

    def _catch_up(self) -> None:
        if (news := self._view.drain()) is not None:
            self._feed(news)

    def _feed(self, event: Event) -> None:
        for command in self._session.receive(event):
            match command:
                case Send(data=data):
                    self._outbox.append(data)
                case Close():
                    self.close = command
                case _:
                    self._observe(command)
