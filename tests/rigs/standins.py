"""What a control plane deals with, without sockets or time: proxies that answer or stand still, and a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from peerauth.control.proxies import Heard
from peerauth.dataplane.type_urls import LISTENER, TypeUrl
from peerauth.xds.cache import ResourceCache, StreamView
from peerauth.xds.status import Answer
from peerauth.xds.wire import ProxyKey, Resource
from rigs.bounded import idle


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        """For the code under test."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        until: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, until))
        await until

    async def passes(self, seconds: float) -> None:
        """Wakes who sleeps, each at its time, and lets all run that can."""
        end = self.now + seconds
        await idle()
        while (due := min((at for at, _ in self._sleepers), default=end + 1)) <= end:
            self.now = max(self.now, due)
            for at, until in self._sleepers:
                if at <= due and not until.done():
                    until.set_result(None)
            self._sleepers = [(at, until) for at, until in self._sleepers if not until.done()]
            await idle()
        self.now = end


class Process:
    """A proxy's process."""

    def __init__(self, pid: int | None = 1, *, live: bool = True) -> None:
        self.pid = pid
        self.live = live
        self.ends = 0

    def end(self) -> None:
        self.ends += 1


class Proxies:
    """Who reads a cache: each takes what is new for it as soon as it can, unless it stands still or refuses."""

    def __init__(self, cache: ResourceCache) -> None:
        self._cache = cache
        self._held: dict[ProxyKey, dict[TypeUrl, dict[str, str]]] = {}
        self._refused: dict[tuple[ProxyKey, TypeUrl, str], str] = {}
        self._streams: dict[ProxyKey, StreamView] = {}
        self._asked: dict[ProxyKey, dict[TypeUrl, set[str]]] = {}
        self._followers: list[Heard] = []
        self.still: set[ProxyKey] = set()
        self.refusing: set[ProxyKey] = set()
        self.processes: dict[ProxyKey, Process] = {}

    def connect(self, proxy: ProxyKey, *, holds: bool = False) -> None:
        """A stream opens. A new process asks for everything; with `holds` one comes back with what it had."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon(self._take, proxy)

        self._streams[proxy] = self._cache.open(proxy, wake)
        if not holds:
            self._held[proxy], self._asked[proxy] = {}, {}
        self._hear(proxy, None, ())
        loop.call_soon(self._speak, proxy)

    def ask(self, proxy: ProxyKey, type_url: TypeUrl, *names: str) -> None:
        """It asks for names, now and whenever the same process connects again."""
        self._asked[proxy].setdefault(type_url, set()).update(names)
        self._streams[proxy].ask(type_url, names)
        self.take(proxy, type_url)

    def disconnect(self, proxy: ProxyKey) -> None:
        """Its streams end; its process may go on with what it has."""
        self._streams.pop(proxy).close()
        self._hear(proxy, None, ())

    def go_on(self, proxy: ProxyKey) -> None:
        """It no longer stands still, and takes what there is."""
        self.still.discard(proxy)
        self._take(proxy)

    def connected(self, proxy: ProxyKey) -> bool:
        return proxy in self._streams

    def process(self, proxy: ProxyKey) -> Process | None:
        return self.processes.get(proxy)

    def answer(self, proxy: ProxyKey, type_url: TypeUrl, name: str) -> Answer:
        held = self._held[proxy].get(type_url) if self.connected(proxy) else None
        refused = self._refused.get((proxy, type_url, name), "")
        return Answer(None if held is None else held.get(name, ""), refused)

    def follow(self, follower: Heard) -> None:
        self._followers.append(follower)

    def take(self, proxy: ProxyKey, *types: TypeUrl) -> None:
        """It says of all it is to have of some types, or of all, that it has it, or will not take it."""
        view = self._cache.view(proxy)
        for type_url in types or tuple(view.by_type):
            wanted = self._cache.versions(proxy, type_url)
            held = self._held[proxy].setdefault(type_url, {})
            different = {name for name in {*wanted, *held} if wanted.get(name, "") != held.get(name, "")}
            if proxy in self.refusing:
                self._refused.update({(proxy, type_url, name): wanted.get(name, "") for name in different})
            else:
                self._held[proxy][type_url] = wanted
            self._hear(proxy, type_url, different)

    def took(self, proxy: ProxyKey, type_url: TypeUrl, name: str, body: bytes) -> None:
        """It says that it has taken a body, which was on its way to it and may not be what it is to have now."""
        self._held[proxy][type_url][name] = Resource.of(type_url, name=name, body=body).version
        self._hear(proxy, type_url, (name,))

    def _speak(self, proxy: ProxyKey) -> None:
        """The first it says on a stream: what it asks for by name and what it has; it takes what is new if it can."""
        asked, held = self._asked[proxy], self._held[proxy]
        for type_url in {*asked, *held} or {LISTENER}:
            self._streams[proxy].ask(type_url, asked.get(type_url, ()))
            self._hear(proxy, type_url, held.setdefault(type_url, {}))
        if proxy not in self.still:
            self.take(proxy, *{*self._cache.view(proxy).by_type, *asked})

    def _take(self, proxy: ProxyKey) -> None:
        stream = self._streams.get(proxy)
        news = stream.drain() if stream is not None and proxy not in self.still else None
        for type_url in news.names if news is not None else ():
            self.take(proxy, type_url)

    def _hear(self, proxy: ProxyKey, type_url: TypeUrl | None, names: Collection[str]) -> None:
        for follower in self._followers:
            follower(proxy, type_url, names)
