"""From projections to proxies: what changed goes into the cache, and what is expected of its readers is noted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from peerauth.control.outstanding import Outstanding
from peerauth.dataplane.projection import Projection, Update
from peerauth.dataplane.type_urls import TypeUrl
from peerauth.policy.mesh import Step
from peerauth.policy.rollout import Orders
from peerauth.xds.cache import ResourceCache
from peerauth.xds.on_demand import OnDemand
from peerauth.xds.wire import ProxyKey

Reader = TypeVar("Reader")


class OnDemandProjection(OnDemand, Protocol):
    """What the proxies of a projection get by asking for its names."""

    def update(self, step: Step, orders: Orders) -> frozenset[str]:
        """Takes what the mesh and the rollout have taken already; the names of which something may be another now."""
        ...


def put(cache: ResourceCache, proxy: ProxyKey, news: Update) -> Mapping[TypeUrl, frozenset[str]]:
    """Puts news of a proxy, or of a group, into the cache; returns the names whose bytes are others now."""
    changed: dict[TypeUrl, frozenset[str]] = {}
    for kind, bodies in news.resources.items():
        present = {name: body for name, body in bodies.items() if body is not None}
        changed[kind] = cache.update(proxy, kind, present, removed=bodies.keys() - present.keys())
    return changed


class Publisher(Generic[Reader]):
    """Publishes one projection. `proxy` is whom a reader's news is kept for, `members` those who have it to answer.

    `on_demand` is what the readers get by asking for it.
    """

    def __init__(
        self,
        projection: Projection[Reader],
        *,
        cache: ResourceCache,
        outstanding: Outstanding,
        proxy: Callable[[Reader], ProxyKey],
        members: Callable[[Reader], Collection[ProxyKey]],
        on_demand: OnDemandProjection | None,
    ) -> None:
        self._projection = projection
        self._on_demand = on_demand
        self._cache = cache
        self._outstanding = outstanding
        self._proxy = proxy
        self._members = members
        self._news: deque[Iterator[tuple[Reader, Update | None]]] = deque()

    def take(self, step: Step, orders: Orders) -> Collection[ProxyKey]:
        """Takes in what was done. What was asked for and is another now is told at once: to whom, is returned."""
        self._news.append(self._projection.update(step, orders))
        if self._on_demand is None:
            return ()
        stale = self._cache.changed(self._on_demand, self._on_demand.update(step, orders))
        for proxy, changed in stale.items():
            self._outstanding.tell(proxy, changed)
        return stale.keys()

    def publish(self) -> Iterator[Collection[ProxyKey]]:
        """Publishes what has been taken in, one reader at a time: who is told something."""
        while self._news:
            for reader, news in self._news[0]:
                yield self._tell(reader, news)
            self._news.popleft()

    def _tell(self, reader: Reader, news: Update | None) -> Collection[ProxyKey]:
        proxy, members = self._proxy(reader), self._members(reader)
        if news is None:
            self._cache.remove(proxy)
            for gone in members:
                self._outstanding.forget(gone)
            return ()
        if not news.resources:
            return ()
        self._cache.on_demand(proxy, self._on_demand)
        changed = put(self._cache, proxy, news)
        if not any(changed.values()):
            return ()
        for told in members:
            self._outstanding.tell(told, changed, closes=news.closes)
        return members
