"""What each proxy is to have: resources by proxy, type and name, and the news of which names changed.

A change is a change of bytes: setting equal bytes wakes nobody, and only the streams of the proxies that a change
touches hear of it. Equal resources of several proxies are one object. A view reaches its own proxy's resources only.
What is on demand belongs to a stream that asked for it, and to no wildcard.
Synchronous and used from one thread; the server turns `on_change` into whatever its event loop waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from weakref import WeakValueDictionary

from peerauth.dataplane.type_urls import TypeUrl
from peerauth.xds.on_demand import Demand, Interest, OnDemand
from peerauth.xds.wire import ProxyKey, Resource, ResourcesChanged

Relations = Callable[[TypeUrl, str], Collection[str]]
"""What goes with a name: see `View.related`."""


class ProxyResources:
    """One proxy's resources, or those of a group of proxies, and the streams that are open for them."""

    __slots__ = ("by_type", "demand", "relations", "streams")

    def __init__(self) -> None:
        self.relations: Relations | None = None
        self.demand: Demand | None = None
        self.by_type: dict[TypeUrl, dict[str, Resource]] = {}
        self.streams: set[StreamView] = set()

    def get(self, type_url: TypeUrl, name: str) -> Resource | None:
        """What the proxy is to have of that name; of names on demand, what an open stream of it has asked for."""
        own = self.own(type_url, name)
        if own is not None or self.demand is None:
            return own
        asked = (stream.get(type_url, name) for stream in self.streams)
        return next((resource for resource in asked if resource is not None), None)

    def own(self, type_url: TypeUrl, name: str) -> Resource | None:
        """What it has of that name without asking."""
        of_type = self.by_type.get(type_url)
        return of_type.get(name) if of_type else None

    def names(self, type_url: TypeUrl) -> Collection[str]:
        return self.by_type.get(type_url, {}).keys()

    def is_on_demand(self, type_url: TypeUrl, name: str) -> bool:
        return self.demand is not None and self.demand.source.serves(type_url, name)

    def asks(self, name: str) -> bool:
        """Whether an open stream has asked for a name on demand, or has yet to say what it asks for."""
        return any(stream.asks(name) for stream in self.streams)

    def tell(self, type_url: TypeUrl, names: Collection[str]) -> None:
        for stream in tuple(self.streams):
            stream.add(type_url, names)


class StreamView:
    """What one stream is to have (a `View`), and the news of it since they were last drained. `close` ends both.

    News are bounded by the number of names, however long nobody drains: later changes of a name are the same news.
    `on_change` is called when there is some after there was none.
    """

    __slots__ = ("_anew", "_interest", "_names", "_on_change", "_owner", "_silent", "proxy")

    def __init__(self, owner: ProxyResources, proxy: ProxyKey, on_change: Callable[[], None]) -> None:
        self.proxy = proxy
        self._owner = owner
        self._on_change = on_change
        self._interest = Interest(owner.demand, self) if owner.demand is not None else None
        self._names: dict[TypeUrl, set[str]] = {}
        self._anew = False
        self._silent = True

    # --- what there is -----------------------------------------------------------------------------------------------

    def get(self, type_url: TypeUrl, name: str) -> Resource | None:
        own = self._owner.own(type_url, name)
        return self._interest.get(type_url, name) if own is None and self._interest is not None else own

    def names(self, type_url: TypeUrl) -> Collection[str]:
        return self._owner.names(type_url)

    def related(self, type_url: TypeUrl, name: str) -> Collection[str]:
        return self._owner.relations(type_url, name) if self._owner.relations is not None else ()

    def is_on_demand(self, type_url: TypeUrl, name: str) -> bool:
        return self._owner.is_on_demand(type_url, name)

    # --- what the client asks for by name ----------------------------------------------------------------------------

    def ask(self, type_url: TypeUrl, names: Collection[str]) -> frozenset[str]:
        self._silent = False
        return self._interest.ask(type_url, names) if self._interest is not None else frozenset()

    def drop(self, type_url: TypeUrl, names: Collection[str]) -> None:
        if self._interest is not None:
            self._interest.drop(type_url, names)

    def asks(self, name: str) -> bool:
        return self._silent or (self._interest is not None and name in self._interest)

    def on_demand(self, type_url: TypeUrl) -> Collection[str]:
        """The names of a type that it has asked for."""
        return self._interest.of_type(type_url) if self._interest is not None else ()

    def turn_to(self, demand: Demand | None) -> None:
        """What is on demand comes from another source: what came from the one before is gone."""
        for type_url, names in self._interest.end().items() if self._interest is not None else ():
            self.add(type_url, names)
        self._interest = Interest(demand, self) if demand is not None else None
        self._news()
        self._anew = True

    # --- news --------------------------------------------------------------------------------------------------------

    def drain(self) -> ResourcesChanged | None:
        if not self._names and not self._anew:
            return None
        news = ResourcesChanged(self._names, anew=self._anew)
        self._names, self._anew = {}, False
        return news

    def add(self, type_url: TypeUrl, names: Collection[str]) -> None:
        self._news()
        self._names.setdefault(type_url, set()).update(names)

    def hear(self, type_url: TypeUrl, name: str, *, missing: bool) -> None:
        if self._interest is not None:
            self._interest.note(name, missing=missing)
        self.add(type_url, (name,))

    def close(self) -> None:
        self._owner.streams.discard(self)
        if self._interest is not None:
            self._interest.end()

    def _news(self) -> None:
        if not self._names and not self._anew:
            self._on_change()


class ResourceCache:
    """All proxies' resources. A proxy that nothing was set for is known as one that is to have nothing."""

    def __init__(self) -> None:
        self._proxies: dict[ProxyKey, ProxyResources] = {}
        self._members: set[ProxyKey] = set()
        self._demands: WeakValueDictionary[OnDemand, Demand] = WeakValueDictionary()  # of sources that a proxy has
        self._shared: WeakValueDictionary[tuple[TypeUrl, str, bytes], Resource] = WeakValueDictionary()

    def set(self, proxy: ProxyKey, type_url: TypeUrl, bodies: Mapping[str, bytes]) -> frozenset[str]:
        """Makes `bodies` (name to serialized message) all that the proxy has of the type; returns what changed."""
        gone = self.view(proxy).names(type_url) - bodies.keys()
        return self.update(proxy, type_url, bodies, removed=gone)

    def replace(self, proxy: ProxyKey, resources: Mapping[TypeUrl, Mapping[str, bytes]]) -> None:
        """Makes `resources` all that the proxy has, of any type."""
        for type_url in {*self.view(proxy).by_type, *resources}:
            self.set(proxy, type_url, resources.get(type_url, {}))

    def update(
        self, proxy: ProxyKey, type_url: TypeUrl, bodies: Mapping[str, bytes], *, removed: Iterable[str] = ()
    ) -> frozenset[str]:
        """Adds, replaces and removes single names, at a cost in proportion to them; returns what changed."""
        resources = self.view(proxy)
        of_type = resources.by_type.setdefault(type_url, {})
        changed: set[str] = set()
        for name, body in bodies.items():
            present = of_type.get(name)
            if present is None or present.body != body:
                of_type[name] = self._intern(type_url, name, body)
                changed.add(name)
        for name in removed:
            if of_type.pop(name, None) is not None:
                changed.add(name)
        if not of_type:
            del resources.by_type[type_url]
        if changed:
            resources.tell(type_url, changed)
        return frozenset(changed)

    def remove(self, proxy: ProxyKey) -> None:
        """Takes everything from a proxy; forgets it unless a stream of it is still open. A member leaves its group."""
        if proxy in self._members:
            self._members.discard(proxy)
            del self._proxies[proxy]
            return
        resources = self.view(proxy)
        for type_url in tuple(resources.by_type):
            self.set(proxy, type_url, {})
        self.on_demand(proxy, None)
        if not resources.streams:
            del self._proxies[proxy]

    def share(self, proxy: ProxyKey, *, group: ProxyKey) -> None:
        """Makes the resources of `group` those of `proxy` as well: stored once, however many have them."""
        if proxy not in self._members:
            self._proxies[proxy] = self.view(group)
            self._members.add(proxy)

    def relate(self, proxy: ProxyKey, relations: Relations) -> None:
        """Says what goes with the names that clients of this proxy or group ask for."""
        self.view(proxy).relations = relations

    def on_demand(self, proxy: ProxyKey, source: OnDemand | None) -> None:
        """Says where a proxy or group has what its streams ask for by name; several may share a source."""
        resources, demand = self.view(proxy), None
        if source is not None and (demand := self._demands.get(source)) is None:
            demand = self._demands[source] = Demand(source, self._intern)
        if resources.demand is not demand:
            resources.demand = demand
            for stream in tuple(resources.streams):
                stream.turn_to(demand)

    def changed(self, source: OnDemand, names: Iterable[str]) -> Mapping[ProxyKey, Mapping[TypeUrl, frozenset[str]]]:
        """Looks again at names of a source, of any type; it costs what asked for those that differ.

        Tells the streams that asked, and returns for each of their proxies what is new.
        """
        demand = self._demands.get(source)
        news = demand.changed(names) if demand is not None else {}
        return {
            proxy: {type_url: frozenset(differ) for type_url, differ in types.items()} for proxy, types in news.items()
        }

    def view(self, proxy: ProxyKey) -> ProxyResources:
        return self._proxies.setdefault(proxy, ProxyResources())

    def versions(self, proxy: ProxyKey, type_url: TypeUrl) -> dict[str, str]:
        """What the proxy has to acknowledge to be up to date: name to version."""
        resources = self.view(proxy)
        versions = {name: resource.version for name, resource in resources.by_type.get(type_url, {}).items()}
        for stream in resources.streams if resources.demand is not None else ():
            for name in stream.on_demand(type_url) if stream.proxy == proxy else ():
                if (resource := stream.get(type_url, name)) is not None:
                    versions[name] = resource.version
        return versions

    def open(self, proxy: ProxyKey, on_change: Callable[[], None]) -> StreamView:
        """What a new stream of a proxy is to have; `on_change` is called for news, and must not block."""
        resources = self.view(proxy)
        stream = StreamView(resources, proxy, on_change)
        resources.streams.add(stream)
        return stream

    def _intern(self, type_url: TypeUrl, name: str, body: bytes) -> Resource:
        # Bytes hash themselves once per object, so a body that a renderer shares among proxies is hashed once.
        key = (type_url, name, body)
        shared = self._shared.get(key)
        if shared is None:
            shared = Resource.of(type_url, name=name, body=body)
            # The key has to hold the same bytes object as the value, or two copies would live as long as it.
            self._shared[key] = shared
        return shared
