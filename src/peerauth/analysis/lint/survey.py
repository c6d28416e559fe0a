"""What the checks look at: the posture of every workload, gathered in one walk, and who stands behind a Service.

The walk costs what the world holds, once; no check may compare every object with every other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from peerauth.analysis.may_select import Decide, Possible, may_select
from peerauth.model.connections import Arrival
from peerauth.model.inventory import Port, Service, ServicePort, Workload, WorkloadKey
from peerauth.model.meta import NOWHERE, Origin
from peerauth.model.peerauth import PeerAuthentication
from peerauth.model.tables import Name, name_of
from peerauth.model.world import World
from peerauth.policy.capture import Captured, Gap, captured_of
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode
from peerauth.policy.membership import Membership, hangs_on_namespace
from peerauth.policy.reception import ClientKind, reception
from peerauth.policy.revisions import standing_in


class Posture(msgspec.Struct, frozen=True):
    """How a workload stands: what was decided for it, the Services that select it, the ports that someone says it
    listens on, ascending, and what of it reaches its proxy.
    """

    workload: Workload
    decision: Decision
    services: tuple[Service, ...]
    declared: tuple[int, ...]
    captured: Captured

    @property
    def name(self) -> str:
        """`namespace/name`, as people write it."""
        return self.workload.meta.full_name

    @property
    def subject(self) -> str:
        """`Kind namespace/name`, as diagnostics have it."""
        return f"{self.workload.kind} {self.name}"

    def enforced_on(self, port: int) -> EffectiveMode | None:
        """What the data plane does on a port; None where nothing is enforced (outside the mesh, or kept away)."""
        enforces = self.decision.dataplane.enforces and self.captured.gap(port) is None
        return self.decision.in_force(port) if enforces else None

    def receives(self, client: ClientKind, port: int) -> Arrival:
        """As what a client of a kind arrives at a port."""
        return reception(client, self.decision, port, captured=self.captured).arrival

    def missed(self, port: int) -> Gap | None:
        """What keeps a port of the application, or one that the winning policy names, away from the proxy."""
        gap = self.captured.gap(port)
        named = gap is None or gap.setting or self.decision.deciding(port).port is not None
        return gap if named else None

    def ports_of_interest(self) -> list[int]:
        """Every port that is declared or that the winning policy names, ascending."""
        return sorted({*self.declared, *(entry.port for entry in self.decision.ports)})


class Survey(msgspec.Struct, frozen=True):
    """Everything the checks need: the world, the posture of every workload, those that share a decision, those behind
    each Service, and the policies that may select some pods of a workload once they are created.

    What hangs on a decision alone is asked once for each of `decided`.
    """

    world: World
    postures: Sequence[Posture]
    decided: Sequence[tuple[Decision, Sequence[Posture]]]
    behind: Mapping[Name, Sequence[Posture]]
    may_select: Mapping[WorkloadKey, Sequence[Possible]]

    def policy(self, full_name: str) -> PeerAuthentication:
        """The policy that a reason names as `namespace/name`."""
        namespace, _, name = full_name.partition("/")
        return self.world.policies[Name(namespace, name)]

    def is_unknown(self, posture: Posture) -> bool:
        """Whether a workload counts as outside the mesh only because its Namespace was not given."""
        workload = posture.workload
        if posture.decision.dataplane is not Dataplane.NONE or workload.meta.namespace in self.world.namespaces:
            return False
        return hangs_on_namespace(workload)

    def is_outside(self, posture: Posture) -> bool:
        """Whether a workload is known to be outside the mesh."""
        return posture.decision.dataplane is Dataplane.NONE and not self.is_unknown(posture)

    def membership(self, posture: Posture) -> Membership:
        """Which data plane a workload has and why."""
        return standing_in(posture.workload, self.world).membership

    def may_be_enforced(self, posture: Posture) -> bool:
        """Whether policies are in force on a workload, or may be for all that is known."""
        return posture.decision.dataplane.enforces or self.is_unknown(posture)


def survey(world: World, decide: Decide) -> Survey:
    """One walk over the workloads of the world, in the order of their names."""
    postures: list[Posture] = []
    # Both by identity: one object is found for many workloads, and cheaper to hash by far.
    decided: dict[int, tuple[Decision, list[Posture]]] = {}
    behind: dict[int, tuple[Service, list[Posture]]] = {}
    for key in sorted(world.workloads):
        workload = world.workloads[key]
        services = world.services_selecting(workload)
        declared = world.declared_numbers(workload, services)
        decision = decide(workload)
        mesh = world.meshes.of(decision.revision)
        captured = captured_of(workload, decision.dataplane, mesh=mesh)
        one = Posture(workload, decision, services, declared, captured)
        postures.append(one)
        if id(decision) not in decided:
            decided[id(decision)] = decision, []
        decided[id(decision)][1].append(one)
        for service in services:
            if id(service) not in behind:
                behind[id(service)] = service, []
            behind[id(service)][1].append(one)
    return Survey(
        world=world,
        postures=postures,
        decided=tuple(decided.values()),
        behind={name_of(service): workloads for service, workloads in behind.values()},
        may_select=may_select(world, decide),
    )


def selector_place(policy: PeerAuthentication) -> Origin:
    """Where a policy's selector was said, or the policy if that is not known."""
    return policy.meta.origin if policy.selector_origin == NOWHERE else policy.selector_origin


def port_named(ports: Iterable[Port], name: str) -> int | None:
    """The number of the port with a name, or None."""
    return next((port.number for port in ports if port.name == name), None)


def service_port(service: Service, number: int) -> ServicePort | None:
    """The TCP port of a Service with a number, or None."""
    return next((port for port in service.ports if port.number == number and port.protocol == "TCP"), None)


def listed(names: Iterable[str], *, limit: int = 10) -> str:
    """Names in one line; beyond `limit` a count stands for the rest, since a mesh-wide finding concerns everyone."""
    unique = sorted(set(names))
    shown = ", ".join(unique[:limit])
    return shown if len(unique) <= limit else f"{shown} and {len(unique) - limit} more"
