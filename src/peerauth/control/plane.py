"""The control plane: changes of the world in, every proxy's resources out, changes that move clients in stages.

It holds the mesh, the rollout of what is decided (`policy.rollout`) and the projections that are published of both;
each takes every step, and what it says is new goes into the cache, proxy by proxy: a few at once, many in turns with
whatever else there is to do. It knows no machine and has no sockets: where workloads run is data, the discovery server
reads the same cache, and what proxies have answered `Outstanding` keeps.

A stage of the rollout lasts at most `STAGE_SECONDS`, whoever does not answer.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from typing import Protocol, TypeVar

from peerauth.aio import spawn
from peerauth.control.outstanding import Outstanding
from peerauth.control.proxies import Acknowledgements, Process
from peerauth.control.publishing import OnDemandProjection, Publisher
from peerauth.dataplane.envoy.sidecar_values import ApplicationPort, EgressPort
from peerauth.dataplane.envoy.sidecars import Sidecars
from peerauth.dataplane.projection import Projection
from peerauth.model.inventory import WorkloadKey
from peerauth.model.world import Change
from peerauth.policy.mesh import Mesh, Step
from peerauth.policy.rollout import Orders, Rollout, Round
from peerauth.xds.cache import ResourceCache
from peerauth.xds.wire import ProxyKey

STAGE_SECONDS = 5.0
"""How long a stage lasts, all its waiting together: a proxy that is stuck must not keep a port open."""
IN_FLIGHT_SECONDS = 0.25
"""How long after the acknowledgements a stage goes on: an Envoy acknowledges before its workers act on a change, and
connections made the old way may still be on their way. Nothing tells of the end of either."""

READERS_AT_ONCE = 16
"""For how many proxies is published before others have their turn: what takes some ten milliseconds."""

NOTHING_NEW = Step()
Reader = TypeVar("Reader")


def proxy_key(key: WorkloadKey) -> ProxyKey:
    """The node id of a workload's sidecar, of the shape Istio's have; the kind stands where Istio has the address."""
    return ProxyKey(f"sidecar~{key.kind}~{key.name}.{key.namespace}~{key.namespace}.svc")


class Publishes(Protocol):
    """What publishes a projection: see `Publisher`."""

    def take(self, step: Step, orders: Orders) -> Collection[ProxyKey]: ...

    def publish(self) -> Iterator[Collection[ProxyKey]]: ...


class ControlPlane:
    """One mesh's control plane. `mesh` and `rollout` are for reading; `apply` is the only way to change them.

    `outstanding` is what the proxies that read the cache were told and have not answered. `processes` finds the process
    of a proxy, if it is ours to end.
    """

    def __init__(
        self,
        cache: ResourceCache,
        *,
        acknowledgements: Acknowledgements,
        processes: Callable[[ProxyKey], Process | None] = lambda _: None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.mesh = Mesh()
        self.rollout = Rollout(self.mesh, is_live=self._is_live)
        self.outstanding = Outstanding(cache, acknowledgements, processes=processes, sleep=sleep)
        self._sleep = sleep
        self._cache = cache
        self._acknowledgements = acknowledgements
        self._publishers: list[Publishes] = []
        self._noting: list[set[ProxyKey]] = []  # those who want to know who is told something
        self._backlog = asyncio.Event()
        self._published = asyncio.Event()
        self._published.set()
        self._followers: list[Callable[[Step, Orders], object]] = []
        self._sidecars = Sidecars(self.mesh, self.rollout)
        self.project(self._sidecars, proxy=proxy_key, on_demand=self._sidecars.on_demand)
        self._begun: list[Round] = []
        self._work = asyncio.Event()
        self._calm = asyncio.Event()
        self._calm.set()

    def project(
        self,
        projection: Projection[Reader],
        *,
        proxy: Callable[[Reader], ProxyKey],
        members: Callable[[Reader], Collection[ProxyKey]] | None = None,
        on_demand: OnDemandProjection | None = None,
    ) -> None:
        """Publishes a projection of this mesh from now on, from before the first step.

        `proxy` is whom the cache keeps a reader's news for; if that is a group, `members` are those who answer.
        `on_demand` is what the readers get by asking for it.
        """
        publisher = Publisher(
            projection,
            cache=self._cache,
            outstanding=self.outstanding,
            proxy=proxy,
            members=members or (lambda reader: (proxy(reader),)),
            on_demand=on_demand,
        )
        self._publishers.append(publisher)

    def follow(self, follower: Callable[[Step, Orders], object]) -> None:
        """Calls `follower` with whatever is done from now on: what a step did, and what is ordered because of it."""
        self._followers.append(follower)

    def sidecars(self) -> tuple[WorkloadKey, ...]:
        """The workloads that a sidecar serves, by name."""
        return tuple(sorted(self._sidecars.rendered))

    def declared(self, key: WorkloadKey) -> tuple[ApplicationPort, ...]:
        """The ports a workload says it has, and where its application listens: as its sidecar knows them, if any."""
        rendered = self._sidecars.rendered.get(key)
        if rendered is not None:
            return rendered.declared
        world = self.mesh.world
        return tuple(ApplicationPort(port.number) for port in world.declared_ports(world.workloads[key]))

    def egress(self, key: WorkloadKey) -> tuple[EgressPort, ...]:
        """The listeners that a workload's sidecar has for its own application's connections."""
        rendered = self._sidecars.rendered.get(key)
        return rendered.egress if rendered is not None else ()

    def apply(self, *changes: Change) -> None:
        """Takes changes in as one step and begins to publish what follows; what takes longer is left to `run`."""
        step = self.mesh.apply(*changes)
        self._carry_out(self.rollout.decided(step), step)

    async def run(self) -> None:
        """Publishes, carries staged changes through, and counts the time of proxies; ends by cancellation."""
        async with asyncio.TaskGroup() as group:
            spawn(group, self.outstanding.run(), name="acknowledgements")
            spawn(group, self._publish_backlog(), name="publishing")
            while True:
                await self._work.wait()
                self._work.clear()
                begun, self._begun = self._begun, []
                for each in begun:
                    spawn(group, self._round(each), name="staged change")

    async def published(self) -> None:
        """Returns when what follows from all changes is in the cache."""
        await self._published.wait()

    async def settled(self) -> None:
        """Returns when all is published, no staged change is left, and the proxies that are there have answered.

        Those that are out of time are not waited for.
        """
        await self.published()
        while not self.rollout.is_calm or self.outstanding.waited_for():
            await self._calm.wait()
            await self.published()
            await self.outstanding.answered(self.outstanding.waited_for())

    async def acknowledged(self) -> frozenset[ProxyKey]:
        """Returns, when all is settled, the proxies that have acknowledged what they were told since the last call."""
        while True:
            await self.outstanding.some_acknowledged()
            await self.settled()
            if acknowledged := self.outstanding.take_acknowledged():
                return acknowledged

    def _carry_out(self, orders: Orders, step: Step = NOTHING_NEW) -> None:
        """Begins to publish what follows from orders and the step that they are for."""
        if orders.begun is not None:
            self._begun.append(orders.begun)
            self._work.set()
        if self.rollout.is_calm:
            self._calm.set()
        else:
            self._calm.clear()
        for follower in self._followers:
            follower(step, orders)
        for publisher in self._publishers:
            self._note(publisher.take(step, orders))
        self._publish()

    def _publish(self) -> None:
        """Publishes for as many readers as may be at once; the rest is a backlog."""
        left = READERS_AT_ONCE
        for publisher in self._publishers:
            for told in itertools.islice(publisher.publish(), left):
                self._note(told)
                left -= 1
        if left:
            self._backlog.clear()
            self._published.set()
        else:
            self._published.clear()
            self._backlog.set()

    async def _publish_backlog(self) -> None:
        while True:
            await self._backlog.wait()
            self._publish()
            await asyncio.sleep(0)

    def _note(self, told: Iterable[ProxyKey]) -> None:
        for each in self._noting:
            each.update(told)

    def _is_live(self, key: WorkloadKey) -> bool:
        return key in self._sidecars.rendered and self._acknowledgements.connected(proxy_key(key))

    async def _round(self, begun: Round) -> None:
        """One staged change: servers take both (pushed already), clients change over, servers take the new only."""
        async with asyncio.TaskGroup() as group:
            steps = spawn(group, self._change_over(begun), name="clients change over")
            over = spawn(group, self._pause(STAGE_SECONDS), name="the end of a stage")
            await asyncio.wait((steps, over), return_when=asyncio.FIRST_COMPLETED)
            steps.cancel()
            over.cancel()
        self._carry_out(self.rollout.elapsed(begun))

    async def _change_over(self, begun: Round) -> None:
        await self.published()
        told = {proxy_key(key) for key in begun.servers}
        while self.rollout.goes_on(begun):
            await self._taken_up(told)
            told = await self._told_by(self.rollout.acknowledged(begun))

    async def _told_by(self, orders: Orders) -> set[ProxyKey]:
        """Carries orders out; the proxies that are told something, when all is published."""
        told = set[ProxyKey]()
        self._noting.append(told)
        try:
            self._carry_out(orders)
            await self.published()
        finally:
            self._noting = [each for each in self._noting if each is not told]
        return told

    async def _taken_up(self, told: Iterable[ProxyKey]) -> None:
        """Waits until what proxies were told is what they do."""
        await self.outstanding.answered(told)
        await self._pause(IN_FLIGHT_SECONDS)

    async def _pause(self, seconds: float) -> None:
        await self._sleep(seconds)
