"""How a decision is replaced on a live workload without a moment in which client and server disagree.

Servers and clients learn of a change at different times. Where the clients' way of connecting changes (mutual TLS to
plaintext or back), the server takes both until every client's proxy has acknowledged its new way: a jump from DISABLE
to STRICT is carried out as DISABLE, PERMISSIVE, STRICT, and the way back likewise. Elsewhere a change is one step.

`Rollout` carries that through: a state machine without I/O or clock. In: a step of the mesh, `acknowledged`, `elapsed`.
Out: `Orders`. Fail closed: a first configuration is never staged, and what ends a stage puts its target in force,
whoever has not answered.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from peerauth.model.inventory import Workload, WorkloadKey
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode, PortDecision
from peerauth.policy.mesh import Mesh, Step
from peerauth.policy.outbound import OutboundPeer, asks_alike, peer_of


def meeting_point(old: Decision, new: Decision) -> Decision | None:
    """What the server must do while its clients change over, or None if `new` can be put in force at once.

    Never more open than PERMISSIVE, and only on ports where old and new ask clients for different things; the rest
    are `new`'s from the start.
    """
    mode = _between(old.mode, new.mode)
    named = sorted({entry.port for entry in (*old.ports, *new.ports)})
    ports = tuple(PortDecision(port, _between(old.mode_of(port), new.mode_of(port))) for port in named)
    if mode is new.mode and all(entry.mode is new.mode_of(entry.port) for entry in ports):
        return None
    return msgspec.structs.replace(new, mode=mode, ports=ports)


class Round(msgspec.Struct, frozen=True):
    """Changes that are carried through together: their servers take both ways now, their clients are to change over.

    What it waits for, and in which order, is `Rollout`'s; a caller tells it when the proxies have taken up what they
    were told (`acknowledged`), and when the time of the round is over (`elapsed`).
    """

    number: int
    servers: tuple[WorkloadKey, ...]


class Orders(msgspec.Struct, frozen=True):
    """What is to be done now, and nothing else is.

    `enforce`: decisions that sidecars must put in force; None: there is no sidecar any more. `announce`: what clients
    must be told of workloads; None: they are gone. `begun`: a round whose time begins now; when its servers' proxies
    have taken up what `enforce` says, it is acknowledged, and when the clients' have taken up what is announced then,
    once more.
    """

    enforce: Mapping[WorkloadKey, Decision | None] = {}
    announce: Mapping[WorkloadKey, OutboundPeer | None] = {}
    begun: Round | None = None


class Rollout:
    """What is in force at every sidecar, and what is announced of every workload, on the way to what is decided.

    `in_force` and `announced` are for reading: everything that was ordered until now. `is_live` says of a sidecar
    whether a proxy has the configuration that it was told: only such a one has clients to be careful with.
    """

    def __init__(self, mesh: Mesh, *, is_live: Callable[[WorkloadKey], bool]) -> None:
        self.in_force: dict[WorkloadKey, Decision] = {}
        self.announced: dict[WorkloadKey, OutboundPeer] = {}
        self._mesh = mesh
        self._is_live = is_live
        self._known: dict[WorkloadKey, Decision] = {}  # the decisions that were announced
        self._stages: dict[WorkloadKey, _Stage] = {}
        self._rounds: set[int] = set()  # the numbers of those that go on
        self._numbers = itertools.count()

    @property
    def is_calm(self) -> bool:
        """Whether nothing is on its way: what is decided is in force."""
        return not self._stages

    def goes_on(self, of: Round) -> bool:
        """Whether a round still waits for something."""
        return of.number in self._rounds

    def decided(self, step: Step) -> Orders:
        """The mesh has taken a step: put in force at once, or staged where clients must connect in another way."""
        orders = _Orders()
        for change in step.decisions:
            self._take(change.key, change.new, orders)
        described = set(_described(step, self._mesh))
        anew = {change.key for change in step.decisions} - described
        for key in described | set(self._asking_for_another_way(anew)):
            self._announce(key, orders)
        return self._closed(orders)

    def acknowledged(self, of: Round) -> Orders:
        """The proxies that a round waits for have taken up what they were told: first the servers', then the clients'.

        When clients have nothing more to be told, the round is at its end.
        """
        orders = _Orders()
        for key, stage in self._remaining(of):
            self._known[key] = stage.target
            self._say(key, orders)
        return Orders(announce=orders.announce) if orders.announce else self.elapsed(of)

    def elapsed(self, of: Round) -> Orders:
        """The time of a round is over, or nothing is left to wait for: its targets come into force."""
        orders = _Orders()
        self._rounds.discard(of.number)
        for key, stage in tuple(self._remaining(of)):
            del self._stages[key]
            self._enforce(key, stage.target, orders)
            # What was decided meanwhile goes in by the same door as every change, with a stage of its own if need be.
            self._take(key, self._mesh.decisions.decision(key), orders)
            self._announce(key, orders)
        return self._closed(orders)

    def _take(self, key: WorkloadKey, new: Decision | None, orders: _Orders) -> None:
        if new is None or new.dataplane is not Dataplane.SIDECAR:
            self._stages.pop(key, None)
            if self.in_force.pop(key, None) is not None:
                orders.enforce[key] = None
        elif (running := self._stages.get(key)) is not None:
            # Its round goes on, and at its end looks at what is decided by then; what else is new does not wait for it.
            self._enforce(key, running.meet(new), orders)
        else:
            old = self.in_force.get(key)
            meanwhile = meeting_point(old, new) if old is not None and self._is_live(key) else None
            if old is not None and meanwhile is not None:
                orders.staged[key] = self._stages[key] = _Stage(old, new, self._round_of(orders))
            self._enforce(key, meanwhile or new, orders)

    def _enforce(self, key: WorkloadKey, decision: Decision, orders: _Orders) -> None:
        if self.in_force.get(key) != decision:
            self.in_force[key] = orders.enforce[key] = decision

    def _announce(self, key: WorkloadKey, orders: _Orders) -> None:
        """Tells clients of a workload as it is; of one in a stage they know what they knew of its decision."""
        if key not in self._mesh.decisions:
            self._known.pop(key, None)
            if self.announced.pop(key, None) is not None:
                orders.announce[key] = None
            return
        if key not in self._stages:
            self._known[key] = self._mesh.decisions.decision(key)
        self._say(key, orders)

    def _asking_for_another_way(self, keys: Iterable[WorkloadKey]) -> Iterator[WorkloadKey]:
        """Those of whom clients know another way than what is decided now asks for; of the others there is no news.

        Workloads share decisions, and a policy of the mesh is many workloads: each two decisions are compared once.
        """
        compared: dict[tuple[int, int], tuple[Decision, Decision, bool]] = {}  # holds what it is keyed by the place of
        decisions, mesh = self._mesh.decisions, self._mesh.world.mesh
        for key in keys:
            known = self._known.get(key)
            if known is None or key in self._stages or key not in decisions:
                yield key
                continue
            new = decisions.decision(key)
            found = compared.get((id(known), id(new)))
            if found is None:
                found = compared[id(known), id(new)] = (known, new, asks_alike(known, new, mesh=mesh))
            if found[-1]:
                self._known[key] = new
            else:
                yield key

    def _say(self, key: WorkloadKey, orders: _Orders) -> None:
        world = self._mesh.world
        peer = peer_of(world.workloads[key], decision=self._known[key], mesh=world.mesh)
        if self.announced.get(key) != peer:
            self.announced[key] = orders.announce[key] = peer

    def _remaining(self, of: Round) -> Iterator[tuple[WorkloadKey, _Stage]]:
        """The stages of a round: a workload of it may have gone, and have come back in another."""
        for key in of.servers:
            stage = self._stages.get(key)
            if stage is not None and stage.round == of.number:
                yield key, stage

    def _round_of(self, orders: _Orders) -> int:
        if orders.number is None:
            orders.number = next(self._numbers)
        return orders.number

    def _closed(self, orders: _Orders) -> Orders:
        begun = None
        if orders.number is not None:
            self._rounds.add(orders.number)
            begun = Round(orders.number, tuple(sorted(orders.staged)))
        return Orders(orders.enforce, orders.announce, begun)


def peers_at_once(step: Step, mesh: Mesh, *, client: Dataplane) -> Mapping[WorkloadKey, OutboundPeer | None]:
    """What clients for which nothing is staged are told because of a step; None of a workload that is gone."""
    told: dict[WorkloadKey, OutboundPeer | None] = {}
    for key in {*_described(step, mesh), *(change.key for change in step.decisions)}:
        if key in mesh.decisions:
            workload, decision = mesh.world.workloads[key], mesh.decisions.decision(key)
            told[key] = peer_of(workload, decision=decision, mesh=mesh.world.mesh, client=client)
        else:
            told[key] = None
    return told


class _Stage(msgspec.Struct, frozen=True):
    """One change in progress: what clients were told before it, what they are told in it, and the round it is in."""

    base: Decision
    target: Decision
    round: int

    def meet(self, new: Decision) -> Decision:
        """`new`, but open to clients of either way on ports where the three ask them for different things."""
        return _meeting(self.target, _meeting(self.base, new))


class _Orders(msgspec.Struct):
    """Orders in the making."""

    enforce: dict[WorkloadKey, Decision | None] = {}
    announce: dict[WorkloadKey, OutboundPeer | None] = {}
    staged: dict[WorkloadKey, _Stage] = {}
    number: int | None = None


def _meeting(old: Decision, new: Decision) -> Decision:
    return meeting_point(old, new) or new


def _between(old: EffectiveMode, new: EffectiveMode) -> EffectiveMode:
    changes_over = (old is EffectiveMode.DISABLE) != (new is EffectiveMode.DISABLE)
    return EffectiveMode.PERMISSIVE if changes_over else new


def _described(step: Step, mesh: Mesh) -> Iterable[WorkloadKey]:
    """The workloads that may have to be announced anew though nothing else is decided about them."""
    if step.is_of_mesh:
        return mesh.world.workloads
    return [side.key for side in step.sides if isinstance(side, Workload)]
