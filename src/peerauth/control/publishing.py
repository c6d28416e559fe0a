"""From projections to proxies: what changed goes into the cache, and what is expected of its readers is noted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Generic, TypeVar

from peerauth.control.outstanding import Outstanding
from peerauth.dataplane.projection import OnDemand, Projection, Update
from peerauth.dataplane.type_urls import TypeUrl
from peerauth.policy.mesh import Step
from peerauth.policy.rollout import Orders
from peerauth.xds.cache import ResourceCache
from peerauth.xds.wire import ProxyKey

Reader = TypeVar("Reader")


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
        on_demand: OnDemand | None,
    ) -> None:
        self._projection = projection
        self._on_demand = on_demand
        self._cache = cache
        self._outstanding = outstanding
        self._proxy = proxy
        self._members = members

    def publish(self, step: Step, orders: Orders) -> Iterator[ProxyKey]:
        """Publishes what follows; those that are told something."""
        for reader, news in self._projection.update(step, orders).items():
            if news is None:
                self._cache.remove(self._proxy(reader))
                for gone in self._members(reader):
                    self._outstanding.forget(gone)
                continue
            self._cache.on_demand(self._proxy(reader), self._on_demand)
            changed = put(self._cache, self._proxy(reader), news)
            for told in self._members(reader) if any(changed.values()) else ():
                self._outstanding.tell(told, changed, closes=news.closes)
                yield told
        if self._on_demand is not None:
            stale = self._on_demand.update(step, orders)
            for told, changed in self._cache.changed(self._on_demand, stale).items():
                self._outstanding.tell(told, changed)
                yield told
