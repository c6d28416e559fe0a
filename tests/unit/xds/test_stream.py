"""What drives a session tells it the news before anything that lets it answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import grpc
from envoy.service.discovery.v3 import discovery_pb2

from peerauth.dataplane.type_urls import LISTENER
from peerauth.xds.cache import ResourceCache, StreamView
from peerauth.xds.dialect import ENVOY
from peerauth.xds.session import Session
from peerauth.xds.stream import drive
from peerauth.xds.wire import Command, Event, ProxyKey, Variant

PROXY = ProxyKey("finance")
PATIENCE_S = 0.02


class Refusing:
    """A client that asks for listeners, refuses the first answer and ends the stream with the second."""

    def __init__(self, cache: ResourceCache) -> None:
        self._cache = cache
        self._said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._said.put_nowait(discovery_pb2.DeltaDiscoveryRequest(type_url=LISTENER).SerializeToString())
        self.answers: list[discovery_pb2.DeltaDiscoveryResponse] = []

    async def read(self) -> object:
        return await self._said.get()

    async def write(self, message: bytes) -> None:
        answer = discovery_pb2.DeltaDiscoveryResponse.FromString(message)
        self.answers.append(answer)
        if len(self.answers) > 1:
            self._said.put_nowait(None)
            return
        reply = discovery_pb2.DeltaDiscoveryRequest(type_url=LISTENER, response_nonce=answer.nonce)
        reply.error_detail.message = "in use"
        self._said.put_nowait(reply.SerializeToString())

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        return None

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise AssertionError(details)


class Overheard(Session):
    """Notes what it is told; a little after a refusal the view changes unheard."""

    def __init__(self, cache: ResourceCache, view: StreamView) -> None:
        super().__init__(PROXY, variant=Variant.DELTA, dialect=ENVOY, view=view)
        self._cache = cache
        self.heard: list[str] = []

    def receive(self, event: Event) -> list[Command]:
        self.heard.append(type(event).__name__)
        before, commands = self.refused, super().receive(event)
        if self.refused and not before:
            view = {"a": b"1", "b": b"2"}
            asyncio.get_running_loop().call_later(PATIENCE_S / 2, self._cache.set, PROXY, LISTENER, view)
        return commands


async def test_news_that_came_while_it_was_waited_is_told_before_what_was_refused_is_offered_again() -> None:
    cache = ResourceCache()
    cache.set(PROXY, LISTENER, {"a": b"1"})
    unheard = cache.open(PROXY, lambda: None)
    session, client = Overheard(cache, unheard), Refusing(cache)
    async with asyncio.timeout(10):
        await drive(
            session, view=unheard, wake=asyncio.Event(), context=client, observe=lambda _: None, patience=PATIENCE_S
        )
    assert session.heard[-2:] == ["ResourcesChanged", "SecondChance"]
    assert [{each.name for each in answer.resources} for answer in client.answers] == [{"a"}, {"b"}]
