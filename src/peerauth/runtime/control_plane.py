"""The control plane: changes of the world in, every sidecar's resources out, changes that move clients in stages.

It holds the world, the index of decisions and, per sidecar, the value its configuration was last rendered from; only
what differs is rendered, and only bytes that differ are pushed (the cache sees to that). It has no sockets: the
discovery server reads the same cache, and what proxies have answered is kept by `Outstanding`.

Fail closed: a first configuration is never staged, and a stage lasts at most `STAGE_SECONDS`, whoever does not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from peerauth.aio import spawn
from peerauth.dataplane.assembly import assemble
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.resources import Capture, DeclaredPort, EgressPort, SidecarWorkload
from peerauth.model.changes import Edit
from peerauth.model.inventory import Workload, WorkloadKey
from peerauth.model.mesh import Injector, MeshConfig
from peerauth.model.peerauth import PeerAuthentication
from peerauth.model.world import Change, World
from peerauth.policy.decision import Dataplane, Decision
from peerauth.policy.index import DecisionChange, PolicyIndex
from peerauth.policy.outbound import OutboundPeer, peer_of
from peerauth.policy.rollout import meeting_point
from peerauth.policy.strictness import tightened
from peerauth.runtime.outstanding import Acknowledgements, Outstanding, Process
from peerauth.xds.cache import ResourceCache
from peerauth.xds.wire import ProxyKey

STAGE_SECONDS = 5.0
"""How long a stage lasts, all its waiting together: a proxy that is stuck must not keep a port open."""
IN_FLIGHT_SECONDS = 0.25
"""How long after the acknowledgements a stage goes on: an Envoy acknowledges before its workers act on a change, and
connections made the old way may still be on their way. Nothing tells of the end of either."""

Follower = Callable[[Sequence[Edit], Sequence[DecisionChange]], object]


class Applied(msgspec.Struct, frozen=True):
    """What one change did: decisions that changed, and proxies whose resources did."""

    decisions: tuple[DecisionChange, ...] = ()
    proxies: frozenset[WorkloadKey] = frozenset()


class _Stage(msgspec.Struct, frozen=True):
    """A change in progress: what clients were told before it, and what they are told in it."""

    base: Decision
    target: Decision

    def meet(self, new: Decision) -> Decision:
        """`new`, but open to clients of either way on ports where the three ask them for different things."""
        return _meeting(self.target, _meeting(self.base, new))


def _meeting(old: Decision, new: Decision) -> Decision:
    return meeting_point(old, new) or new


def proxy_key(key: WorkloadKey) -> ProxyKey:
    """The node id of a workload's sidecar, of the shape Istio's have; the kind stands where Istio has the address."""
    return ProxyKey(f"sidecar~{key.kind}~{key.name}.{key.namespace}~{key.namespace}.svc")


class ControlPlane:
    """One mesh's control plane. `world` and `decisions` are for reading; `apply` is the only way to change them.

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
        self.world = World()
        self.decisions = PolicyIndex()
        self.outstanding = Outstanding(cache, acknowledgements, processes=processes, sleep=sleep)
        self._sleep = sleep
        self._cache = cache
        self._acknowledgements = acknowledgements
        self._capture = capture
        self._followers: list[Follower] = []
        self._applications: Mapping[WorkloadKey, str] = {}
        self._in_force: dict[WorkloadKey, Decision] = {}  # what servers are told
        self._announced: dict[WorkloadKey, OutboundPeer] = {}  # what clients are told
        self._rendered: dict[WorkloadKey, SidecarWorkload] = {}
        self._staged: dict[WorkloadKey, _Stage] = {}
        self._begun: dict[WorkloadKey, _Stage] = {}  # those of them whose round has not
        self._work = asyncio.Event()
        self._calm = asyncio.Event()
        self._calm.set()

    def follow(self, follower: Follower) -> None:
        """Calls `follower` with every step from now on, when the world and the decisions have taken it."""
        self._followers.append(follower)

    def sidecars(self) -> tuple[WorkloadKey, ...]:
        """The workloads that a sidecar serves, by name."""
        return tuple(sorted(self._in_force))

    def ambient(self) -> frozenset[WorkloadKey]:
        """The workloads that a node's proxy serves."""
        return frozenset(key for key, decision in self.decisions.items() if decision.dataplane is Dataplane.AMBIENT)

    def in_force(self, key: WorkloadKey) -> Decision:
        """What a workload's proxy is told now: the decision, or for a sidecar the stage on the way to it."""
        return self._in_force.get(key) or self.decisions.decision(key)

    def declared(self, key: WorkloadKey) -> tuple[DeclaredPort, ...]:
        """The ports a workload says it has, and where its application listens: as its sidecar knows them, if any."""
        rendered = self._rendered.get(key)
        if rendered is not None:
            return rendered.declared
        return tuple(DeclaredPort(port.number) for port in self.world.declared_ports(self.world.workloads[key]))

    def egress(self, key: WorkloadKey) -> tuple[EgressPort, ...]:
        """The listeners that a workload's sidecar has for its own application's connections."""
        rendered = self._rendered.get(key)
        return rendered.egress if rendered is not None else ()

    def apply(self, change: Change, *, applications: Mapping[WorkloadKey, str] | None = None) -> Applied:
        """Takes a change in and pushes what follows from it; what must wait for clients is left to `run`.

        `applications` says where each workload's application listens in explicit capture; None changes nothing.
        """
        moved = applications is not None and applications != self._applications
        if applications is not None:
            self._applications = dict(applications)
        edits = self.world.apply(change)
        changes = self.decisions.update(edits)
        for follower in self._followers:
            follower(edits, changes)
        for changed in changes:
            self._take(changed.key, changed.new)
        inventory = moved or any(not isinstance(edit.after or edit.before, PeerAuthentication) for edit in edits)
        news = sum(map(self._announce, self._announced_anew(edits) | {change.key for change in changes})) > 0
        dirty = self.sidecars() if inventory or news else sorted(c.key for c in changes if c.key in self._in_force)
        return Applied(changes, frozenset(key for key in dirty if self._push(key)))

    async def run(self) -> None:
        """Carries staged changes through, each in its own time, and counts that of proxies; ends by cancellation."""
        async with asyncio.TaskGroup() as group:
            spawn(group, self.outstanding.run(), name="acknowledgements")
            while True:
                await self._work.wait()
                self._work.clear()
                begun, self._begun = self._begun, {}
                spawn(group, self._round(begun), name="staged change")

    async def settled(self) -> None:
        """Returns when no staged change is left and the proxies that are there have answered, or are out of time."""
        while self._staged or self.outstanding.waited_for():
            await self._calm.wait()
            await self.outstanding.answered(self.outstanding.waited_for())

    async def acknowledged(self) -> frozenset[ProxyKey]:
        """Returns, when all is settled, the proxies that have acknowledged what they were told since the last call."""
        while True:
            await self.outstanding.some_acknowledged()
            await self.settled()
            if acknowledged := self.outstanding.take_acknowledged():
                return acknowledged

    def _take(self, key: WorkloadKey, new: Decision | None) -> None:
        """Puts a decision in force at once, or begins its stage where live clients must connect in another way."""
        if new is None or new.dataplane is not Dataplane.SIDECAR:
            self._forget(key)
        elif (running := self._staged.get(key)) is not None:
            # Its round goes on, and at its end looks at what is decided by then; what else is new does not wait for it.
            self._in_force[key] = running.meet(new)
        else:
            old = self._in_force.get(key)
            stage = meeting_point(old, new) if old is not None and self._is_live(key) else None
            self._in_force[key] = stage or new
            if old is not None and stage is not None:
                self._staged[key] = self._begun[key] = _Stage(old, new)
                self._calm.clear()
                self._work.set()

    def _forget(self, key: WorkloadKey) -> None:
        self._in_force.pop(key, None)
        self._staged.pop(key, None)
        self._begun.pop(key, None)
        if not self._staged:
            self._calm.set()
        if self._rendered.pop(key, None) is not None:
            self._cache.remove(proxy_key(key))
            self.outstanding.forget(proxy_key(key))

    def _is_live(self, key: WorkloadKey) -> bool:
        return key in self._rendered and self._acknowledgements.connected(proxy_key(key))

    def _announced_anew(self, edits: Iterable[Edit]) -> set[WorkloadKey]:
        """The workloads that clients may have to be told of anew, beside those with another decision."""
        sides = [side for edit in edits for side in (edit.before, edit.after)]
        if any(isinstance(side, MeshConfig | Injector) for side in sides):
            return {*self.world.workloads, *self._announced}
        return {side.key for side in sides if isinstance(side, Workload)}

    def _announce(self, key: WorkloadKey) -> bool:
        """Tells clients how to connect to a workload, but for one in a stage; returns whether that is news."""
        if key in self._staged:
            return False
        workload = self.world.workloads.get(key)
        if workload is None:
            return self._announced.pop(key, None) is not None
        return self._announce_as(workload, self.decisions.decision(key))

    def _announce_as(self, workload: Workload, decision: Decision) -> bool:
        peer = peer_of(workload, decision=decision, mesh=self.world.mesh)
        if self._announced.get(workload.key) == peer:
            return False
        self._announced[workload.key] = peer
        return True

    def _push(self, key: WorkloadKey) -> bool:
        """Renders a sidecar if what it is rendered from is new; returns whether any of its bytes are."""
        wanted = assemble(
            self.world.workloads[key],
            world=self.world,
            decision=self._in_force[key],
            capture=self._capture,
            peers=self._announced,
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

    def _push_all(self) -> list[WorkloadKey]:
        return [key for key in self.sidecars() if self._push(key)]

    async def _round(self, targets: Mapping[WorkloadKey, _Stage]) -> None:
        """One staged change: servers take both (pushed already), clients change over, servers take the new only."""
        async with asyncio.TaskGroup() as group:
            steps = spawn(group, self._change_over(targets), name="clients change over")
            over = spawn(group, self._pause(STAGE_SECONDS), name="the end of a stage")
            await asyncio.wait((steps, over), return_when=asyncio.FIRST_COMPLETED)
            steps.cancel()
            over.cancel()
        for key in sorted(self._remaining(targets)):
            self._in_force[key] = self._staged.pop(key).target
            # What was decided meanwhile goes in by the same door as every change, with a stage of its own if need be.
            self._take(key, self.decisions.decision(key))
        if sum(map(self._announce, targets)):
            self._push_all()
        for key in targets.keys() & self._in_force.keys():
            self._push(key)
        if not self._staged:
            self._calm.set()

    async def _change_over(self, targets: Mapping[WorkloadKey, _Stage]) -> None:
        await self._taken_up(targets)
        workloads = [self.world.workloads[key] for key in self._remaining(targets)]
        if sum(self._announce_as(workload, targets[workload.key].target) for workload in workloads):
            await self._taken_up(self._push_all())

    def _remaining(self, targets: Mapping[WorkloadKey, _Stage]) -> Collection[WorkloadKey]:
        """The workloads that are still in this stage: one may have gone, and have come back in another."""
        return [key for key, stage in targets.items() if self._staged.get(key) is stage]

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
