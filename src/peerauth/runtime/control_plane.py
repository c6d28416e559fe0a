"""The control plane: changes of the world in, every sidecar's resources out, changes that move clients in stages.

It holds the world, the index of decisions and, per sidecar, the value its configuration was last rendered from; only
what differs is rendered, and only bytes that differ are pushed (the cache sees to that). It has no sockets: the
discovery server reads the same cache, and answers through `Acknowledgements` what proxies have taken.

Fail closed: a first configuration is never staged, and a stage lasts at most `STAGE_SECONDS`, whoever does not answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from peerauth.dataplane.assembly import assemble
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.resources import CLUSTER, LISTENER, Capture, DeclaredPort, EgressPort, SidecarWorkload, TypeUrl
from peerauth.model.changes import Edit
from peerauth.model.inventory import Workload, WorkloadKey
from peerauth.model.mesh import Injector, MeshConfig
from peerauth.model.peerauth import PeerAuthentication
from peerauth.model.world import Change, World
from peerauth.policy.decision import Dataplane, Decision
from peerauth.policy.index import DecisionChange, PolicyIndex
from peerauth.policy.outbound import OutboundPeer, peer_of
from peerauth.policy.rollout import meeting_point
from peerauth.xds.cache import ResourceCache
from peerauth.xds.status import Nack
from peerauth.xds.wire import ProxyKey

STAGE_SECONDS = 5.0
"""How long one stage waits for acknowledgements: a proxy that is stuck must not keep a port open."""
IN_FLIGHT_SECONDS = 0.25
"""How long after the acknowledgements a stage goes on: an Envoy acknowledges before its workers act on a change, and
connections made the old way may still be on their way. Nothing tells of the end of either."""

_log = logging.getLogger(__name__)


Follower = Callable[[Sequence[Edit], Sequence[DecisionChange]], object]


class Acknowledgements(Protocol):
    """What the control plane asks of the discovery server."""

    def connected(self, proxy: ProxyKey) -> bool:
        """Whether the proxy has a stream open now."""
        ...

    async def wait_acked(self, proxy: ProxyKey, type_url: TypeUrl) -> tuple[Nack, ...]:
        """Returns when the proxy has, or has refused, what the cache has for it."""
        ...


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
    """One mesh's control plane. `world` and `decisions` are for reading; `apply` is the only way to change them."""

    def __init__(self, cache: ResourceCache, *, acknowledgements: Acknowledgements, capture: Capture) -> None:
        self.world = World()
        self.decisions = PolicyIndex()
        self._cache = cache
        self._acknowledgements = acknowledgements
        self._capture = capture
        self._followers: list[Follower] = []
        self._applications: Mapping[WorkloadKey, str] = {}
        self._in_force: dict[WorkloadKey, Decision] = {}  # what servers are told
        self._announced: dict[WorkloadKey, OutboundPeer] = {}  # what clients are told
        self._rendered: dict[WorkloadKey, SidecarWorkload] = {}
        self._staged: dict[WorkloadKey, _Stage] = {}
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
        """Carries staged changes through, one round after another; returns only by cancellation."""
        while True:
            await self._work.wait()
            self._work.clear()
            if self._staged:
                await self._round(dict(self._staged))

    async def settled(self) -> None:
        """Returns when no staged change is left and the connected sidecars have, or have refused, their resources."""
        await self._calm.wait()
        await self._acknowledged(self._in_force)

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
                self._staged[key] = _Stage(old, new)
                self._calm.clear()
                self._work.set()

    def _forget(self, key: WorkloadKey) -> None:
        self._in_force.pop(key, None)
        self._staged.pop(key, None)
        if self._rendered.pop(key, None) is not None:
            self._cache.remove(proxy_key(key))

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
        if self._rendered.get(key) == wanted:
            return False
        self._rendered[key] = wanted
        changed = [self._cache.set(proxy_key(key), kind, bodies) for kind, bodies in render_sidecar(wanted).items()]
        return any(changed)

    def _push_all(self) -> None:
        for key in self.sidecars():
            self._push(key)

    async def _round(self, targets: Mapping[WorkloadKey, _Stage]) -> None:
        """One staged change: servers take both (pushed already), clients change over, servers take the new only."""
        await self._taken_up(targets)
        workloads = [self.world.workloads[key] for key in targets if key in self._staged]
        if sum(self._announce_as(workload, targets[workload.key].target) for workload in workloads):
            self._push_all()
            await self._taken_up(self.sidecars())
        for key in sorted(targets.keys() & self._staged.keys()):
            self._in_force[key] = self._staged.pop(key).target
            # What was decided meanwhile goes in by the same door as every change, with a stage of its own if need be.
            self._take(key, self.decisions.decision(key))
        if sum(map(self._announce, targets)):
            self._push_all()
        for key in targets.keys() & self._in_force.keys():
            self._push(key)
        if not self._staged:
            self._calm.set()

    async def _taken_up(self, keys: Iterable[WorkloadKey]) -> None:
        """Waits until what the proxies of `keys` were told is what they do."""
        await self._acknowledged(keys)
        await asyncio.sleep(IN_FLIGHT_SECONDS)

    async def _acknowledged(self, keys: Iterable[WorkloadKey]) -> None:
        """Waits until the connected proxies of `keys` have, or have refused, what the cache has for them."""
        proxies = [proxy for proxy in map(proxy_key, keys) if self._acknowledgements.connected(proxy)]
        try:
            async with asyncio.timeout(STAGE_SECONDS):
                await asyncio.gather(
                    *(
                        self._acknowledgements.wait_acked(proxy, kind)
                        for proxy in proxies
                        for kind in (CLUSTER, LISTENER)
                    )
                )
        except TimeoutError:
            _log.warning("not every proxy acknowledged its configuration within %.0f s; going on", STAGE_SECONDS)
