"""Resources that a proxy gets only by asking for their names: who has asked for which, and what each of them is now.

A source may be shared by thousands of proxies. It is asked once for each name and type that anybody wants, and again
only for those that its owner says may have changed; only the streams that asked for one of them hear of it.

Envoy asks for an on-demand name once on a stream, never takes it back, and does not ask again after "no such resource".
So whatever was asked for is kept and answered when it appears. What is kept for one stream has a bound, or a scan of
addresses would fill memory: beyond it the name that has been missing for longest is forgotten, and where none is
missing the new one. A forgotten name was answered as missing, so that what is sent there is not sent at all.

Facts: Envoy 1.40, observed (on-demand clusters over delta ADS: one request for each name, none to take it back).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from peerauth.dataplane.type_urls import TypeUrl
from peerauth.xds.wire import ProxyKey, Resource

MOST_ASKED = 20_000
"""Names that are kept for one stream; each is some 30 KB in its Envoy where there is something of that name."""


class OnDemand(Protocol):
    """Where such resources come from. Synchronous and pure but for `ask` and `drop`, which say what is wanted."""

    def get(self, type_url: TypeUrl, name: str) -> bytes | None:
        """The resource, serialized; None: nothing of that name is here now."""
        ...

    def serves(self, type_url: TypeUrl, name: str) -> bool:
        """Whether the name is of a kind that is got by asking, whatever is of that name; never changes."""
        ...

    def ask(self, name: str) -> None:
        """A first stream asks for the name, of any type."""
        ...

    def drop(self, name: str) -> None:
        """No stream asks for it any more."""
        ...


class Stream(Protocol):
    """Who asks."""

    @property
    def proxy(self) -> ProxyKey: ...

    def hear(self, type_url: TypeUrl, name: str, *, missing: bool) -> None:
        """A name that it asked for is another resource now, or none; `missing`: it is none of any type."""
        ...


@dataclass(slots=True)
class _Asked:
    """One name of one type: what it is now, and who wants to hear of it."""

    resource: Resource | None
    streams: set[Stream] = field(default_factory=set)


class Demand:
    """What all streams of the proxies of one source have asked for."""

    def __init__(self, source: OnDemand, intern: Callable[[TypeUrl, str, bytes], Resource]) -> None:
        self.source = source
        self._intern = intern
        self._names: dict[str, dict[TypeUrl, _Asked]] = {}

    def get(self, type_url: TypeUrl, name: str) -> Resource | None:
        """What a name is that somebody has asked for."""
        asked = self._names[name].get(type_url)
        return asked.resource if asked is not None else None

    def missing(self, name: str) -> bool:
        """Whether there is nothing of a name, of any type that was asked for."""
        return all(asked.resource is None for asked in self._names[name].values())

    def ask(self, stream: Stream, type_url: TypeUrl, name: str) -> None:
        types = self._names.get(name)
        if types is None:
            types = self._names[name] = {}
            self.source.ask(name)
        if type_url not in types:
            types[type_url] = _Asked(self._made(type_url, name, self.source.get(type_url, name)))
        types[type_url].streams.add(stream)

    def drop(self, stream: Stream, type_url: TypeUrl, name: str) -> None:
        types = self._names[name]
        types[type_url].streams.discard(stream)
        if not types[type_url].streams:
            del types[type_url]
        if not types:
            del self._names[name]
            self.source.drop(name)

    def changed(self, names: Iterable[str]) -> dict[ProxyKey, dict[TypeUrl, set[str]]]:
        """Looks again at what was asked for of these names; tells the streams, and returns for whom which differ."""
        news: dict[ProxyKey, dict[TypeUrl, set[str]]] = {}
        for name in names:
            types = self._names.get(name, {})
            differ = [type_url for type_url, asked in types.items() if self._look(type_url, name, asked)]
            for type_url in differ:
                for stream in types[type_url].streams:
                    stream.hear(type_url, name, missing=self.missing(name))
                    news.setdefault(stream.proxy, {}).setdefault(type_url, set()).add(name)
        return news

    def _look(self, type_url: TypeUrl, name: str, asked: _Asked) -> bool:
        body = self.source.get(type_url, name)
        if body == (asked.resource.body if asked.resource is not None else None):
            return False
        asked.resource = self._made(type_url, name, body)
        return True

    def _made(self, type_url: TypeUrl, name: str, body: bytes | None) -> Resource | None:
        return None if body is None else self._intern(type_url, name, body)


class Interest:
    """The names that one stream has asked for, and of which types: bounded, the longest missing is the first to go."""

    __slots__ = ("_demand", "_missing", "_names", "_stream")

    def __init__(self, demand: Demand, stream: Stream) -> None:
        self._demand = demand
        self._stream = stream
        self._names: dict[str, tuple[TypeUrl, ...]] = {}
        self._missing: dict[str, None] = {}  # in the order in which they went missing

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def get(self, type_url: TypeUrl, name: str) -> Resource | None:
        return self._demand.get(type_url, name) if type_url in self._names.get(name, ()) else None

    def of_type(self, type_url: TypeUrl) -> Collection[str]:
        return [name for name, types in self._names.items() if type_url in types]

    def ask(self, type_url: TypeUrl, names: Iterable[str]) -> frozenset[str]:
        """Keeps the names that are of the source's kind; returns those that are not kept, of now or of before."""
        forgotten: set[str] = set()
        for name in names:
            types = self._names.get(name, ())
            if type_url in types or not self._demand.source.serves(type_url, name):
                continue
            if not types and len(self._names) >= MOST_ASKED:
                oldest = next(iter(self._missing), None)
                forgotten.add(name if oldest is None else oldest)
                if oldest is None:
                    continue
                self._forget(oldest)
            self._names[name] = (*types, type_url)
            self._demand.ask(self._stream, type_url, name)
            self.note(name, missing=self._demand.missing(name))
        return frozenset(forgotten)

    def drop(self, type_url: TypeUrl, names: Iterable[str]) -> None:
        for name in names:
            types = self._names.get(name, ())
            if type_url not in types:
                continue
            self._demand.drop(self._stream, type_url, name)
            if len(types) > 1:
                self._names[name] = tuple(each for each in types if each != type_url)
                self.note(name, missing=self._demand.missing(name))
            else:
                del self._names[name]
                self._missing.pop(name, None)

    def note(self, name: str, *, missing: bool) -> None:
        if missing:
            self._missing.setdefault(name)
        else:
            self._missing.pop(name, None)

    def end(self) -> dict[TypeUrl, set[str]]:
        """Asks for nothing any more; returns what it did ask for."""
        names: dict[TypeUrl, set[str]] = {}
        for name, types in tuple(self._names.items()):
            for type_url in types:
                names.setdefault(type_url, set()).add(name)
            self._forget(name)
        return names

    def _forget(self, name: str) -> None:
        for type_url in self._names.pop(name):
            self._demand.drop(self._stream, type_url, name)
        self._missing.pop(name, None)
