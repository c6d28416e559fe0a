"""What a mesh does, for those who show it: a terminal, other processes on the machine, later `status` and a page.

`MeshView` follows a mesh as that does which proxies read: it takes what each step did and what the rollout ordered
because of it, and besides what was seen of connections. It tells what is in force, which in the middle of a staged
change is not what is decided. Values only: who shows them needs neither the mesh nor its control plane.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from peerauth.dataplane.projection import spoken_of
from peerauth.model.connections import Arrival, ConnectionSeen
from peerauth.model.inventory import WorkloadKey
from peerauth.model.placement import Capture
from peerauth.model.world import World
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode, Reason
from peerauth.policy.mesh import Step
from peerauth.policy.rollout import Orders


class ServedPort(msgspec.Struct, frozen=True):
    """One port, or with a number of None all that nobody declares: what the policy asks of it, what connections meet,
    and who decides.
    """

    number: int | None
    asked: EffectiveMode
    enforced: EffectiveMode
    reason: Reason


class ServedWorkload(msgspec.Struct, frozen=True):
    """One workload whose connections a proxy captures: whose, where, and what is in force on its ports, ascending.

    Where every port is captured, what stands for those that nobody declares is the last.
    """

    key: WorkloadKey
    dataplane: Dataplane
    addresses: tuple[str, ...]
    ports: tuple[ServedPort, ...]

    @property
    def declared(self) -> tuple[int, ...]:
        """The numbers of the ports that somebody declares."""
        return tuple(port.number for port in self.ports if port.number is not None)


class MeshView:
    """One mesh as it is shown. `visited` counts the workloads that the last update looked at: its cost."""

    def __init__(self, world: World) -> None:
        self.visited = 0
        self._world = world
        self._in_force: dict[WorkloadKey, Decision] = {}
        self._served: dict[WorkloadKey, ServedWorkload] = {}
        self._sorted: tuple[ServedWorkload, ...] | None = None
        self._arrived: dict[tuple[str, int | None], Counter[Arrival]] = {}

    def served(self) -> tuple[ServedWorkload, ...]:
        """The workloads that a proxy serves, by name."""
        if self._sorted is None:
            self._sorted = tuple(self._served[key] for key in sorted(self._served))
        return self._sorted

    def arrived(self, workload: WorkloadKey, port: int | None) -> Mapping[Arrival, int]:
        """As what connections have arrived at a port, and how many; what never happened is missing."""
        return self._arrived.get((str(workload), port), {})

    def update(self, step: Step, orders: Orders) -> frozenset[WorkloadKey]:
        """Takes what the mesh and the rollout have taken already; returns the workloads that look otherwise now."""
        for key, ordered in orders.enforce.items():
            self._put_in_force(key, ordered)
        for change in step.decisions:
            if change.new is None or change.new.dataplane is not Dataplane.SIDECAR:
                self._put_in_force(change.key, change.new)
        looks = {key: self._look(key) for key in set(self._stale(step, orders))}
        self.visited = len(looks)
        changed = {key: look for key, look in looks.items() if look != self._served.get(key)}
        for key, look in changed.items():
            self._served.pop(key, None)
            if look is not None:
                self._served[key] = look
            self._sorted = None
        return frozenset(changed)

    def connected(self, seen: ConnectionSeen) -> None:
        """Takes a connection that reached its application, or was refused."""
        self._arrived.setdefault((seen.workload, seen.port), Counter())[seen.arrival] += 1

    def _put_in_force(self, key: WorkloadKey, decision: Decision | None) -> None:
        self._in_force.pop(key, None)
        if decision is not None and decision.dataplane.enforces:
            self._in_force[key] = decision

    def _stale(self, step: Step, orders: Orders) -> Iterator[WorkloadKey]:
        if step.is_of_mesh:
            yield from self._in_force
            yield from self._served
        yield from orders.enforce
        yield from (change.key for change in step.decisions)
        for side in step.sides:
            yield from spoken_of(side, world=self._world)

    def _look(self, key: WorkloadKey) -> ServedWorkload | None:
        world, decision = self._world, self._in_force.get(key)
        workload, placement = world.workloads.get(key), world.placements.get(key)
        if decision is None or workload is None or placement is None:
            return None
        if placement.captor is not decision.dataplane.captor:
            return None  # it is about to be placed elsewhere
        numbers: list[int | None] = [port.number for port in world.declared_ports(workload)]
        if placement.capture is Capture.TRANSPARENT:
            numbers.append(None)
        ports = [
            ServedPort(number, decision.mode_of(number), decision.in_force(number), decision.deciding(number))
            for number in numbers
        ]
        return ServedWorkload(key, decision.dataplane, placement.addresses, tuple(ports))
