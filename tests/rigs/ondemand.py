"""What a small discovery server knows of destinations: the test's own answers, and which names Envoy has asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from envoy.service.discovery.v3 import discovery_pb2

from peerauth.dataplane.envoy.destinations import PREFIX
from peerauth.dataplane.type_urls import TypeUrl

PATIENCE_S = 20.0

Answers = Callable[[str], Mapping[TypeUrl, bytes]]


class Destinations:
    """Answers by name, to be changed at any time. `silent`: a question is kept in mind and not answered.

    What is not `known` is as `otherwise` says.
    `asked` has every question of every stream, in order.
    """

    def __init__(self, otherwise: Answers = lambda _: {}) -> None:
        self.known: dict[str, Mapping[TypeUrl, bytes]] = {}
        self._otherwise = otherwise
        self._told: dict[tuple[TypeUrl, str], bytes | None] = {}
        self.silent = False
        self.asked: list[tuple[TypeUrl, str]] = []
        self.held: dict[TypeUrl, Mapping[str, str]] = {}
        """By type, the names and versions that the last stream began with."""
        self._interest: set[tuple[TypeUrl, str]] = set()
        self._news = asyncio.Condition()

    def began(self) -> None:
        """A new stream: nothing has been asked on it."""
        self._interest.clear()
        self._told.clear()

    async def listen(self, request: discovery_pb2.DeltaDiscoveryRequest) -> list[str]:
        """Takes note of what a request asks; returns the names that it asks for, in order."""
        type_url = TypeUrl(request.type_url)
        if request.initial_resource_versions:
            self.held[type_url] = dict(request.initial_resource_versions)
        names = [name for name in request.resource_names_subscribe if name.startswith(PREFIX)]
        self._interest.difference_update((type_url, name) for name in request.resource_names_unsubscribe)
        self._interest.update((type_url, name) for name in names)
        self.asked += [(type_url, name) for name in names]
        async with self._news:
            self._news.notify_all()
        return names

    async def question(self, type_url: TypeUrl, name: str, *, times: int = 1) -> None:
        """Returns once a name has been asked for, so many times."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: self.asked.count((type_url, name)) >= times)

    def wanted(self, type_url: TypeUrl, names: Collection[str]) -> list[str]:
        """Those of the names that the stream has asked for."""
        return [name for name in names if (type_url, name) in self._interest]

    def now(self, type_url: TypeUrl, name: str) -> bytes | None:
        """What there is to say of a name."""
        return (self.known.get(name) or self._otherwise(name)).get(type_url)

    def stale(self, type_url: TypeUrl) -> list[str]:
        """The names that were answered, and would be answered in another way now."""
        return [name for (kind, name), body in self._told.items() if kind == type_url and body != self.now(kind, name)]

    def answer(
        self, type_url: TypeUrl, names: Collection[str], *, nonce: str
    ) -> discovery_pb2.DeltaDiscoveryResponse | None:
        """What is known of the names now; None if there is nothing to say."""
        if self.silent or not names:
            return None
        answer = discovery_pb2.DeltaDiscoveryResponse(type_url=type_url, nonce=nonce)
        for name in names:
            body = self._told[type_url, name] = self.now(type_url, name)
            if body is None:
                answer.removed_resources.append(name)
            else:
                entry = answer.resources.add(name=name, version=str(hash(body)))
                entry.resource.type_url, entry.resource.value = type_url, body
        return answer
