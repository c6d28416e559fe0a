"""From the policies that could apply to a workload to one decision with its reasons.

`resolve` is a pure function of its arguments, whatever their order, and the oracle of `index`. Workload over namespace
over mesh, port over workload; UNSET is transparent; within a level the oldest policy wins and the others contribute
nothing, their port entries included. A selector in the root namespace has no effect and is reported.
Source: Istio's PeerAuthentication reference. The sentences are in `reasons`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from peerauth.model.mesh import DEFAULT_MESH
from peerauth.model.meta import Labels, age_of
from peerauth.model.peerauth import Mode, PeerAuthentication
from peerauth.policy import reasons
from peerauth.policy.decision import (
    Dataplane,
    Decision,
    EffectiveMode,
    Enforced,
    Level,
    PortDecision,
    Reason,
)

_Spoken = tuple[Level, tuple[PeerAuthentication, ...]]

NO_DISABLE = "ambient cannot turn mutual TLS off: it admits plaintext as well as HBONE, which is PERMISSIVE"


class Contenders(msgspec.Struct, frozen=True):
    """The policies that speak about a workload, by level, oldest first: the first of each level wins it.

    `ignored` are those of the root namespace whose selector would match.
    """

    mesh: tuple[PeerAuthentication, ...] = ()
    namespace: tuple[PeerAuthentication, ...] = ()
    workload: tuple[PeerAuthentication, ...] = ()
    ignored: tuple[PeerAuthentication, ...] = ()


def resolve(
    labels: Labels,
    namespace: str,
    *,
    policies: Iterable[PeerAuthentication],
    root_namespace: str = DEFAULT_MESH.root_namespace,
    dataplane: Dataplane = Dataplane.SIDECAR,
) -> Decision:
    """What a workload with these labels, in this namespace, must do on every port, and why.

    `policies` may hold any others of the mesh: they contribute nothing. Equal sets in any order give equal decisions.
    """
    return decide(contenders(labels, namespace, policies=policies, root_namespace=root_namespace), dataplane=dataplane)


def contenders(
    labels: Labels, namespace: str, *, policies: Iterable[PeerAuthentication], root_namespace: str
) -> Contenders:
    """Sorts out who speaks about a workload at which level."""
    mesh, own, workload, ignored = [], [], [], []
    for policy in sorted(policies, key=lambda policy: age_of(policy.meta)):
        where = policy.meta.namespace
        if where == root_namespace:
            if not policy.selector:
                mesh.append(policy)
            elif policy.selector <= labels:
                ignored.append(policy)
        elif where == namespace:
            if not policy.selector:
                own.append(policy)
            elif policy.selector <= labels:
                workload.append(policy)
    return Contenders(tuple(mesh), tuple(own), tuple(workload), tuple(ignored))


def decide(speakers: Contenders, *, dataplane: Dataplane) -> Decision:
    """The decision that follows from who speaks at each level."""
    levels = (
        (Level.MESH, speakers.mesh),
        (Level.NAMESPACE, speakers.namespace),
        (Level.WORKLOAD, speakers.workload),
    )
    decider = _decider(levels)
    mode = EffectiveMode(decider.mode) if decider else EffectiveMode.PERMISSIVE
    entries = speakers.workload[0].ports if speakers.workload else ()
    ports = tuple(
        PortDecision(entry.port, mode if entry.mode is Mode.UNSET else EffectiveMode(entry.mode)) for entry in entries
    )
    return Decision(
        dataplane=dataplane,
        mode=mode,
        ports=ports,
        reasons=tuple(_chain(levels, speakers.ignored)),
        enforced=enforce(mode, ports, dataplane=dataplane),
    )


def enforce(mode: EffectiveMode, ports: tuple[PortDecision, ...], *, dataplane: Dataplane) -> Enforced | None:
    """What a data plane does about a decision: a sidecar all of it, ambient all but DISABLE, the others nothing.

    Never stricter than what was asked.
    """
    if not dataplane.enforces:
        return None
    if dataplane is Dataplane.SIDECAR:
        return Enforced(mode, ports)
    notes = []
    if mode is EffectiveMode.DISABLE:
        notes.append(f"The workload's mode is DISABLE, but {NO_DISABLE}.")
    disabled = [str(entry.port) for entry in ports if entry.mode is EffectiveMode.DISABLE]
    if disabled:
        plural = "Ports" if len(disabled) > 1 else "Port"
        notes.append(f"{plural} {', '.join(disabled)}: the policy says DISABLE, but {NO_DISABLE}.")
    served = tuple(PortDecision(entry.port, _in_ambient(entry.mode)) for entry in ports)
    return Enforced(_in_ambient(mode), served, tuple(notes))


def _in_ambient(mode: EffectiveMode) -> EffectiveMode:
    return EffectiveMode.PERMISSIVE if mode is EffectiveMode.DISABLE else mode


def _chain(levels: Sequence[_Spoken], ignored: tuple[PeerAuthentication, ...]) -> Iterator[Reason]:
    """The reasons from the widest level to the narrowest; at each level the winner, then those that lost to it."""
    decider = _decider(levels)
    if decider is None:
        yield reasons.default()
    so_far = EffectiveMode.PERMISSIVE
    for level, policies in levels:
        for winner in policies[:1]:
            if winner.mode is Mode.UNSET:
                yield reasons.inherits(level, winner, inherited=so_far)
                continue
            so_far = EffectiveMode(winner.mode)
            if decider is None or winner is decider:
                yield reasons.decides(level, winner)
            else:
                yield reasons.overridden(level, winner, by=decider)
        for loser in policies[1:]:
            yield reasons.loses(level, loser, winner=policies[0])
    for policy in ignored:
        yield reasons.ignored(policy)
    _, selecting = levels[-1]
    for winner in selecting[:1]:
        for entry in winner.ports:
            yield reasons.port(winner, entry, workload=so_far)


def _decider(levels: Sequence[_Spoken]) -> PeerAuthentication | None:
    """The narrowest policy that won its level and sets a mode."""
    winners = [policies[0] for _, policies in levels if policies]
    return next((policy for policy in reversed(winners) if policy.mode is not Mode.UNSET), None)
