"""What each proxy is to have: resources by proxy, type and name, and the news of which names changed.

A change is a change of bytes: setting equal bytes wakes nobody, and only the streams of the proxies that a change
touches hear of it. Equal resources of several proxies are one object. A view reaches its own proxy's resources only.
Synchronous and used from one thread; the server turns `on_change` into whatever its event loop waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from weakref import WeakValueDictionary

from peerauth.dataplane.resources import TypeUrl
from peerauth.xds.wire import ProxyKey, Resource


class Changes:
    """The news of one stream: names that changed since they were last drained. `close` ends the subscription.

    Bounded by the number of names, however long nobody drains: later changes of a name are the same news.
    """

    def __init__(self, owner: ProxyResources, on_change: Callable[[], None]) -> None:
        self._owner = owner
        self._on_change = on_change
        self._names: dict[TypeUrl, set[str]] = {}

    def drain(self) -> dict[TypeUrl, set[str]]:
        names, self._names = self._names, {}
        return names

    def close(self) -> None:
        self._owner.listeners.discard(self)

    def add(self, type_url: TypeUrl, names: Collection[str]) -> None:
        quiet = not self._names
        self._names.setdefault(type_url, set()).update(names)
        if quiet:
            self._on_change()


Relations = Callable[[TypeUrl, str], Collection[str]]
"""What goes with a name: see `View.related`."""


class ProxyResources:
    """One proxy's resources, or those of a group of proxies: the `View` of their sessions."""

    def __init__(self) -> None:
        self.relations: Relations | None = None
        self.by_type: dict[TypeUrl, dict[str, Resource]] = {}
        self.listeners: set[Changes] = set()

    def get(self, type_url: TypeUrl, name: str) -> Resource | None:
        of_type = self.by_type.get(type_url)
        return of_type.get(name) if of_type else None

    def names(self, type_url: TypeUrl) -> Collection[str]:
        return self.by_type.get(type_url, {}).keys()

    def related(self, type_url: TypeUrl, name: str) -> Collection[str]:
        return self.relations(type_url, name) if self.relations is not None else ()


class ResourceCache:
    """All proxies' resources. A proxy that nothing was set for is known as one that is to have nothing."""

    def __init__(self) -> None:
        self._proxies: dict[ProxyKey, ProxyResources] = {}
        self._members: set[ProxyKey] = set()
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
            for listener in tuple(resources.listeners):
                listener.add(type_url, changed)
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
        if not resources.listeners:
            del self._proxies[proxy]

    def share(self, proxy: ProxyKey, *, group: ProxyKey) -> None:
        """Makes the resources of `group` those of `proxy` as well: stored once, however many have them."""
        if proxy not in self._members:
            self._proxies[proxy] = self.view(group)
            self._members.add(proxy)

    def relate(self, proxy: ProxyKey, relations: Relations) -> None:
        """Says what goes with the names that clients of this proxy or group ask for."""
        self.view(proxy).relations = relations

    def view(self, proxy: ProxyKey) -> ProxyResources:
        return self._proxies.setdefault(proxy, ProxyResources())

    def versions(self, proxy: ProxyKey, type_url: TypeUrl) -> dict[str, str]:
        """What the proxy has to acknowledge to be up to date: name to version."""
        of_type = self.view(proxy).by_type.get(type_url, {})
        return {name: resource.version for name, resource in of_type.items()}

    def watch(self, proxy: ProxyKey, on_change: Callable[[], None]) -> Changes:
        """News of one proxy; `on_change` is called when there is some after there was none, and must not block."""
        resources = self.view(proxy)
        changes = Changes(resources, on_change)
        resources.listeners.add(changes)
        return changes

    def _intern(self, type_url: TypeUrl, name: str, body: bytes) -> Resource:
        # Bytes hash themselves once per object, so a body that a renderer shares among proxies is hashed once.
        key = (type_url, name, body)
        shared = self._shared.get(key)
        if shared is None:
            shared = Resource.of(type_url, name=name, body=body)
            # The key has to hold the same bytes object as the value, or two copies would live as long as it.
            self._shared[key] = shared
        return shared
