"""The control plane: changes of the world in, every sidecar's resources out, changes that move clients in stages.

It holds the mesh, the rollout of what is decided (`policy.rollout`) and, per sidecar, the value its configuration was
last rendered from; only what differs is rendered, and only bytes that differ are pushed (the cache sees to that). It
has no sockets: the discovery server reads the same cache, and what proxies have answered is kept by `Outstanding`.

A stage of the rollout lasts at most `STAGE_SECONDS`, whoever does not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec

from peerauth.aio import spawn
from peerauth.dataplane.assembly import assemble
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.resources import Capture, DeclaredPort, EgressPort, SidecarWorkload
from peerauth.model.inventory import WorkloadKey
from peerauth.model.peerauth import PeerAuthentication
from peerauth.model.world import Change
from peerauth.policy.decision import Dataplane, Decision
from peerauth.policy.index import DecisionChange
from peerauth.policy.mesh import Mesh, Step
from peerauth.policy.rollout import Orders, Rollout, Round
from peerauth.policy.strictness import tightened
from peerauth.runtime.outstanding import Acknowledgements, Outstanding, Process
from peerauth.xds.cache import ResourceCache
from peerauth.xds.wire import ProxyKey

STAGE_SECONDS = 5.0
"""How long a stage lasts, all its waiting together: a proxy that is stuck must not keep a port open."""
IN_FLIGHT_SECONDS = 0.25
"""How long after the acknowledgements a stage goes on: an Envoy acknowledges before its workers act on a change, and
connections made the old way may still be on their way. Nothing tells of the end of either."""

Follower = Callable[[Step], object]


class Applied(msgspec.Struct, frozen=True):
    """What one change did: decisions that changed, and proxies whose resources did."""

    decisions: tuple[DecisionChange, ...] = ()
    proxies: frozenset[WorkloadKey] = frozenset()


def proxy_key(key: WorkloadKey) -> ProxyKey:
    """The node id of a workload's sidecar, of the shape Istio's have; the kind stands where Istio has the address."""
    return ProxyKey(f"sidecar~{key.kind}~{key.name}.{key.namespace}~{key.namespace}.svc")


class ControlPlane:
    """One mesh's control plane. `mesh` and `rollout` are for reading; `apply` is the only way to change them.

    `outstanding` is what the proxies that read the cache were told and have not answered; other renderers for them
    keep it too. `processes` finds the process of a proxy, if it is ours to end.
    """

    def __init__(
        self,
        cache: ResourceCache,
        *,
        acknowledgements: Acknowledgements,
        capture: Capture,
        processes: Callable[[ProxyKey], Process | None] = lambda _: None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.mesh = Mesh()
        self.rollout = Rollout(self.mesh, is_live=self._is_live)
        self.outstanding = Outstanding(cache, acknowledgements, processes=processes, sleep=sleep)
        self._sleep = sleep
        self._cache = cache
        self._acknowledgements = acknowledgements
        self._capture = capture
        self._followers: list[Follower] = []
        self._applications: Mapping[WorkloadKey, str] = {}
        self._rendered: dict[WorkloadKey, SidecarWorkload] = {}
        self._begun: list[Round] = []
        self._work = asyncio.Event()
        self._calm = asyncio.Event()
        self._calm.set()

    def follow(self, follower: Follower) -> None:
        """Calls `follower` with every step from now on, when the mesh has taken it."""
        self._followers.append(follower)

    def sidecars(self) -> tuple[WorkloadKey, ...]:
        """The workloads that a sidecar serves, by name."""
        return tuple(sorted(self.rollout.in_force))

    def ambient(self) -> frozenset[WorkloadKey]:
        """The workloads that a node's proxy serves."""
        return frozenset(
            key for key, decision in self.mesh.decisions.items() if decision.dataplane is Dataplane.AMBIENT
        )

    def in_force(self, key: WorkloadKey) -> Decision:
        """What a workload's proxy is told now: the decision, or for a sidecar the stage on the way to it."""
        return self.rollout.in_force.get(key) or self.mesh.decisions.decision(key)

    def declared(self, key: WorkloadKey) -> tuple[DeclaredPort, ...]:
        """The ports a workload says it has, and where its application listens: as its sidecar knows them, if any."""
        rendered = self._rendered.get(key)
        if rendered is not None:
            return rendered.declared
        world = self.mesh.world
        return tuple(DeclaredPort(port.number) for port in world.declared_ports(world.workloads[key]))

    def egress(self, key: WorkloadKey) -> tuple[EgressPort, ...]:
        """The listeners that a workload's sidecar has for its own application's connections."""
        rendered = self._rendered.get(key)
        return rendered.egress if rendered is not None else ()

    def apply(self, *changes: Change, applications: Mapping[WorkloadKey, str] | None = None) -> Applied:
        """Takes changes in as one step and pushes what follows; what must wait for clients is left to `run`.

        `applications` says where each workload's application listens in explicit capture; None changes nothing.
        """
        moved = applications is not None and applications != self._applications
        if applications is not None:
            self._applications = dict(applications)
        step = self.mesh.apply(*changes)
        for follower in self._followers:
            follower(step)
        inventory = any(not isinstance(edit.after or edit.before, PeerAuthentication) for edit in step.edits)
        told = self._carry_out(self.rollout.decided(step), everyone=moved or inventory)
        return Applied(step.decisions, told)

    async def run(self) -> None:
        """Carries staged changes through, each in its own time, and counts that of proxies; ends by cancellation."""
        async with asyncio.TaskGroup() as group:
            spawn(group, self.outstanding.run(), name="acknowledgements")
            while True:
                await self._work.wait()
                self._work.clear()
                begun, self._begun = self._begun, []
                for each in begun:
                    spawn(group, self._round(each), name="staged change")

    async def settled(self) -> None:
        """Returns when no staged change is left and the proxies that are there have answered, or are out of time."""
        while not self.rollout.is_calm or self.outstanding.waited_for():
            await self._calm.wait()
            await self.outstanding.answered(self.outstanding.waited_for())

    async def acknowledged(self) -> frozenset[ProxyKey]:
        """Returns, when all is settled, the proxies that have acknowledged what they were told since the last call."""
        while True:
            await self.outstanding.some_acknowledged()
            await self.settled()
            if acknowledged := self.outstanding.take_acknowledged():
                return acknowledged

    def _carry_out(self, orders: Orders, *, everyone: bool = False) -> frozenset[WorkloadKey]:
        """Tells the proxies what follows from orders; returns those that are told something."""
        for key in [key for key, decision in orders.enforce.items() if decision is None]:
            self._forget(key)
        if orders.begun is not None:
            self._begun.append(orders.begun)
            self._work.set()
        if self.rollout.is_calm:
            self._calm.set()
        else:
            self._calm.clear()
        enforcing = (key for key, decision in orders.enforce.items() if decision is not None)
        dirty = self.sidecars() if everyone or orders.announce else sorted(enforcing)
        return frozenset(key for key in dirty if self._push(key))

    def _forget(self, key: WorkloadKey) -> None:
        if self._rendered.pop(key, None) is not None:
            self._cache.remove(proxy_key(key))
            self.outstanding.forget(proxy_key(key))

    def _is_live(self, key: WorkloadKey) -> bool:
        return key in self._rendered and self._acknowledgements.connected(proxy_key(key))

    def _push(self, key: WorkloadKey) -> bool:
        """Renders a sidecar if what it is rendered from is new; returns whether any of its bytes are."""
        wanted = assemble(
            self.mesh.world.workloads[key],
            world=self.mesh.world,
            decision=self.rollout.in_force[key],
            capture=self._capture,
            peers=self.rollout.announced,
            application=self._applications.get(key, ""),
        )
        had = self._rendered.get(key)
        if had == wanted:
            return False
        self._rendered[key] = wanted
        proxy = proxy_key(key)
        changed = {kind: self._cache.set(proxy, kind, bodies) for kind, bodies in render_sidecar(wanted).items()}
        self.outstanding.tell(proxy, changed, closes=() if had is None else _closed(had, wanted))
        return any(changed.values())

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
        told: Iterable[WorkloadKey] = begun.servers
        while self.rollout.goes_on(begun):
            await self._taken_up(told)
            told = self._carry_out(self.rollout.acknowledged(begun))

    async def _taken_up(self, keys: Iterable[WorkloadKey]) -> None:
        """Waits until what the proxies of `keys` were told is what they do."""
        await self.outstanding.answered(map(proxy_key, keys))
        await self._pause(IN_FLIGHT_SECONDS)

    async def _pause(self, seconds: float) -> None:
        await self._sleep(seconds)


def _closed(had: SidecarWorkload, wanted: SidecarWorkload) -> list[str]:
    """What a sidecar lets in by the one configuration and may not by the other, in sentences."""
    changes = [f"{wanted.key} {change}" for change in tightened(had.decision, wanted.decision)]
    return changes if had.mesh == wanted.mesh else [*changes, f"{wanted.key}: another mesh configuration"]
