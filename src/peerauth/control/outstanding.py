"""What proxies have been told and have not acknowledged yet; who does not answer in time is named, or ended.

A proxy that stands still goes on doing what it did, and would take up what waits at its ports with the configuration
that it had. Its time is `PATIENCE_SECONDS` from when a resource was put into the cache. It is counted in slices, each
of which counts for no more than it was meant to last, so that a busy control plane takes nothing from it; news of the
same resource and a new stream give it its time again, since who stands still has none. After that it is named, nothing
waits for it any more, and where what it lacks lets in less, its process is killed: its ports are closed from that
moment, and it comes back with what is in force. So it is done with who refuses what lets in less, and would keep the
port open by its last good configuration for as long as nobody looks; started anew it lacks what it refuses, and the
port stays closed. A process that was started later than it was told has nothing older and is left alone.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from peerauth.control.proxies import Acknowledgements, Process
from peerauth.dataplane.type_urls import ADDRESS, AUTHORIZATION, LISTENER, TypeUrl
from peerauth.xds.cache import ResourceCache
from peerauth.xds.wire import ProxyKey

PATIENCE_SECONDS = 5.0
SLICE_SECONDS = 0.25
ENFORCING = frozenset({LISTENER, AUTHORIZATION, ADDRESS})
"""The types that say what is let in."""


class Behind(msgspec.Struct, frozen=True):
    """A proxy that goes on without something it was told, by the resources' names.

    `refused`: it would not take it; otherwise it did not answer in time. `open` says what it may still let in that is
    to be refused. `ended`: it was killed for that.
    """

    proxy: ProxyKey
    resources: tuple[str, ...]
    open: tuple[str, ...]
    refused: bool
    ended: bool


class CaughtUp(msgspec.Struct, frozen=True):
    """A proxy that was behind has acknowledged all that it was told."""

    proxy: ProxyKey


@dataclass(slots=True)
class _Missing:
    """One resource that a proxy has not answered for: since when, on the counted clock.

    `closes`: something is closed by it, and `process` (None: none of ours) ran when that was told.
    """

    since: float
    closes: bool = False
    process: int | None = None


@dataclass(slots=True)
class _Account:
    """What one proxy lacks, and what has happened since it lacked nothing.

    `open`: what was to be closed. `named`: it was out of time. `counts`: it acknowledged something. `refuses`: or would
    not take something.
    """

    missing: dict[tuple[TypeUrl, str], _Missing] = field(default_factory=dict)
    open: dict[str, None] = field(default_factory=dict)
    named: bool = False
    counts: bool = False
    refuses: bool = False


class Outstanding:
    """All proxies' accounts. `run` is the task that counts time; everything else is called from the same loop.

    `processes` finds the process of a proxy, if it is ours to end.
    """

    def __init__(
        self,
        cache: ResourceCache,
        acknowledgements: Acknowledgements,
        *,
        processes: Callable[[ProxyKey], Process | None],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._cache = cache
        self._acknowledgements = acknowledgements
        self._processes = processes
        self._sleep = sleep
        self._counted = 0.0
        self._accounts: dict[ProxyKey, _Account] = {}
        self._busy: set[ProxyKey] = set()
        self._work = asyncio.Event()
        self._news: defaultdict[ProxyKey, asyncio.Event] = defaultdict(asyncio.Event)
        self._acknowledged: set[ProxyKey] = set()
        self._some_acknowledged = asyncio.Event()
        self._followers: list[Callable[[Behind | CaughtUp], object]] = []
        acknowledgements.follow(self._heard)

    def follow(self, follower: Callable[[Behind | CaughtUp], object]) -> None:
        """Calls `follower` with every proxy that is behind from now on, and when it no longer is."""
        self._followers.append(follower)

    def tell(
        self, proxy: ProxyKey, resources: Mapping[TypeUrl, Collection[str]], *, closes: Iterable[str] = ()
    ) -> None:
        """Takes note of resources that were put into the cache for a proxy, or taken from it, just now.

        `closes` says in sentences what they no longer let in. For types that a proxy asks for as a whole, and for names
        on demand that it has asked for.
        """
        account, sentences = self._accounts.setdefault(proxy, _Account()), tuple(closes)
        account.open.update(dict.fromkeys(sentences))
        for at in ((type_url, name) for type_url, names in resources.items() for name in names):
            missing = self._look(proxy, account, at)
            if missing is not None and sentences:
                self._mark(proxy, at, missing)
        self._sum_up(proxy, account)

    def forget(self, proxy: ProxyKey) -> None:
        """Nothing is expected any more of a proxy that is gone for good."""
        self._accounts.pop(proxy, None)
        self._busy.discard(proxy)
        self._acknowledged.discard(proxy)
        self._wake(proxy)

    async def answered(self, proxies: Iterable[ProxyKey]) -> None:
        """Returns when each of the proxies that are there has answered for all it was told, or is out of time."""
        await asyncio.gather(*(self._answered(proxy) for proxy in proxies if self._is_waited_for(proxy)))

    def waited_for(self) -> tuple[ProxyKey, ...]:
        """The proxies that are there, in time, and have not answered for all they were told."""
        return tuple(proxy for proxy in sorted(self._busy) if self._is_waited_for(proxy))

    async def some_acknowledged(self) -> None:
        """Returns when `take_acknowledged` has something."""
        await self._some_acknowledged.wait()

    def take_acknowledged(self) -> frozenset[ProxyKey]:
        """The proxies that have acknowledged all they were told, since this was asked last."""
        taken = frozenset(self._acknowledged)
        self._acknowledged.clear()
        self._some_acknowledged.clear()
        return taken

    async def run(self) -> None:
        """Counts time while something is missing; returns only by cancellation."""
        while True:
            await self._work.wait()
            await self._sleep(SLICE_SECONDS)
            self._counted += SLICE_SECONDS
            for proxy in sorted(self._busy):
                self._judge(proxy, self._accounts[proxy])
                self._wake(proxy)

    async def _answered(self, proxy: ProxyKey) -> None:
        while self._is_waited_for(proxy):
            await self._news[proxy].wait()

    def _is_waited_for(self, proxy: ProxyKey) -> bool:
        return proxy in self._busy and self._is_there(proxy) and not any(self._late(self._accounts[proxy]))

    def _is_there(self, proxy: ProxyKey) -> bool:
        """Whether it may have a configuration: a process that has neither a stream nor been live has none."""
        process = self._processes(proxy)
        return self._acknowledgements.connected(proxy) or (process is not None and process.live)

    def _late(self, account: _Account) -> Iterator[tuple[str, _Missing]]:
        by = self._counted - PATIENCE_SECONDS
        return ((name, missing) for (_, name), missing in account.missing.items() if missing.since <= by)

    def _heard(self, proxy: ProxyKey, type_url: TypeUrl | None, names: Collection[str]) -> None:
        """Who says something does not stand still: it has its time again for what it still lacks of that."""
        account = self._accounts.get(proxy)
        if account is None:
            return
        if type_url is None:
            for missing in account.missing.values():
                missing.since = self._counted
        for at in ((type_url, name) for name in names) if type_url is not None else ():
            expected, lacks = at in account.missing, self._look(proxy, account, at)
            if lacks is None:
                account.counts |= expected
            else:
                lacks.since = self._counted
                if not expected:  # it took what was sent before what it has again: what that opened is not known
                    self._mark(proxy, at, lacks)
        # A new process never had what was to be removed, and does not mention it.
        for at in [at for at in account.missing if at[0] == type_url and not self._wanted(proxy, *at)]:
            self._look(proxy, account, at)
        for at in [at for at in account.missing if not self._is_asked_for(proxy, *at)]:
            del account.missing[at]
        self._sum_up(proxy, account)

    def _is_asked_for(self, proxy: ProxyKey, type_url: TypeUrl, name: str) -> bool:
        """Whether it gets the resource, or may yet ask for it: a name on demand belongs to the stream that asked."""
        view = self._cache.view(proxy)
        connected = self._acknowledgements.connected(proxy)
        return not connected or not view.is_on_demand(type_url, name) or view.asks(name)

    def _mark(self, proxy: ProxyKey, at: tuple[TypeUrl, str], missing: _Missing) -> None:
        """Notes that something is closed by what is missing, if it is of a type that can."""
        if at[0] in ENFORCING:
            process = self._processes(proxy)
            missing.closes, missing.process = True, None if process is None else process.pid

    def _look(self, proxy: ProxyKey, account: _Account, at: tuple[TypeUrl, str]) -> _Missing | None:
        """Holds what the proxy says of one resource against what it is to have; returns what it lacks of it."""
        wanted = self._wanted(proxy, *at)
        answer = self._acknowledgements.answer(proxy, *at)
        if answer.held == wanted:
            account.missing.pop(at, None)
            return None
        if wanted and answer.refused == wanted:
            missing = account.missing.pop(at, None)
            account.refuses = True
            if missing is not None and missing.closes and answer.held:
                ended = self._end(proxy, account, (missing,))
                self._say(Behind(proxy, (at[1],), tuple(account.open), refused=True, ended=ended))
            return None
        return account.missing.setdefault(at, _Missing(self._counted))

    def _wanted(self, proxy: ProxyKey, type_url: TypeUrl, name: str) -> str:
        """The version that a proxy is to have, empty for none."""
        resource = self._cache.view(proxy).get(type_url, name)
        return resource.version if resource is not None else ""

    def _judge(self, proxy: ProxyKey, account: _Account) -> None:
        """Names a proxy that is out of time, once, and ends it if what it lacks closes something."""
        late = dict(self._late(account))
        if not late or not self._is_there(proxy):
            return
        closing = tuple(missing for missing in late.values() if missing.closes)
        ended = self._end(proxy, account, closing)
        if ended or not account.named:
            account.named = True
            open_still = tuple(account.open) if closing else ()
            self._say(Behind(proxy, tuple(sorted(late)), open_still, refused=False, ended=ended))

    def _end(self, proxy: ProxyKey, account: _Account, closing: Iterable[_Missing]) -> bool:
        """Ends the process that was told to close something, if it runs; another has had nothing older."""
        process = self._processes(proxy)
        if process is None or process.pid is None or all(missing.process != process.pid for missing in closing):
            return False
        process.end()
        for missing in account.missing.values():
            missing.closes = False
        return True

    def _sum_up(self, proxy: ProxyKey, account: _Account) -> None:
        if account.missing:
            self._busy.add(proxy)
            self._work.set()
        else:
            self._busy.discard(proxy)
            if not self._busy:
                self._work.clear()
            if account.named and not account.refuses:
                self._say(CaughtUp(proxy))
            elif account.counts and not account.refuses:
                self._acknowledged.add(proxy)
                self._some_acknowledged.set()
            self._accounts[proxy] = _Account()
        self._wake(proxy)

    def _wake(self, proxy: ProxyKey) -> None:
        if news := self._news.pop(proxy, None):
            news.set()

    def _say(self, event: Behind | CaughtUp) -> None:
        for follower in self._followers:
            follower(event)
