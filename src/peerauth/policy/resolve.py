"""From the policies that could apply to a workload to one decision with its reasons.

`resolve` is a pure function of its arguments, whatever their order, and the oracle of `index`. Workload over namespace
over mesh, port over workload; UNSET is transparent; within a level the oldest policy wins and the others contribute
nothing, their port entries included. A selector in the root namespace has no effect and is reported, and so is a policy
that the istiod of the workload's revision does not read.
Source: Istio's PeerAuthentication reference. The sentences are in `reasons`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec

from peerauth.model.mesh import DEFAULT_MESH, DEFAULT_REVISION
from peerauth.model.meta import Labels, age_of
from peerauth.model.peerauth import Mode, PeerAuthentication
from peerauth.policy import reasons
from peerauth.policy.decision import (
    Dataplane,
    Decision,
    EffectiveMode,
    Level,
    PortDecision,
    Reason,
)
from peerauth.policy.revisions import is_for

_Spoken = tuple[Level, tuple[PeerAuthentication, ...]]


class Contenders(msgspec.Struct, frozen=True):
    """The policies that speak about a workload, by level, oldest first: the first of each level wins it.

    `ignored` are those of the root namespace whose selector would match, `unheard` those that would speak at a level if
    the workload's revision read them.
    """

    mesh: tuple[PeerAuthentication, ...] = ()
    namespace: tuple[PeerAuthentication, ...] = ()
    workload: tuple[PeerAuthentication, ...] = ()
    ignored: tuple[PeerAuthentication, ...] = ()
    unheard: tuple[tuple[Level, PeerAuthentication], ...] = ()


def resolve(
    labels: Labels,
    namespace: str,
    *,
    policies: Iterable[PeerAuthentication],
    root_namespace: str = DEFAULT_MESH.root_namespace,
    revision: str = DEFAULT_REVISION,
    unread: Collection[str] = (),
    dataplane: Dataplane = Dataplane.SIDECAR,
) -> Decision:
    """What a workload with these labels, in this namespace, must do on every port, and why.

    `policies` may hold any others of the mesh: they contribute nothing. Equal sets in any order give equal decisions.
    `revision` is the workload's, `unread` the namespaces that its istiod does not read.
    """
    speakers = contenders(
        labels, namespace, policies=policies, root_namespace=root_namespace, revision=revision, unread=unread
    )
    return decide(speakers, dataplane=dataplane, revision=revision)


def contenders(
    labels: Labels,
    namespace: str,
    *,
    policies: Iterable[PeerAuthentication],
    root_namespace: str,
    revision: str = DEFAULT_REVISION,
    unread: Collection[str] = (),
) -> Contenders:
    """Sorts out who speaks about a workload at which level."""
    heard: dict[Level, list[PeerAuthentication]] = {level: [] for level in Level}
    ignored, unheard = [], []
    for policy in sorted(policies, key=lambda policy: age_of(policy.meta)):
        level = _level(policy, labels, namespace, root_namespace)
        if level is None:
            continue
        is_heard = is_for(policy, revision) and policy.meta.namespace not in unread
        if level is Level.WORKLOAD and policy.meta.namespace == root_namespace:
            if is_heard:
                ignored.append(policy)
        elif is_heard:
            heard[level].append(policy)
        else:
            unheard.append((level, policy))
    return Contenders(
        mesh=tuple(heard[Level.MESH]),
        namespace=tuple(heard[Level.NAMESPACE]),
        workload=tuple(heard[Level.WORKLOAD]),
        ignored=tuple(ignored),
        unheard=tuple(sorted(unheard, key=lambda one: _WIDEST_FIRST.index(one[0]))),
    )


_WIDEST_FIRST = tuple(Level)


def _level(policy: PeerAuthentication, labels: Labels, namespace: str, root_namespace: str) -> Level | None:
    """The level at which a policy speaks about a workload, or would in another namespace; None if it does not."""
    if policy.meta.namespace not in (namespace, root_namespace) or not policy.selector <= labels:
        return None
    if policy.selector:
        return Level.WORKLOAD
    return Level.MESH if policy.meta.namespace == root_namespace else Level.NAMESPACE


def decide(speakers: Contenders, *, dataplane: Dataplane, revision: str = DEFAULT_REVISION) -> Decision:
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
        reasons=tuple(_chain(levels, speakers, revision=revision)),
        revision=revision,
    )


def _chain(levels: Sequence[_Spoken], speakers: Contenders, *, revision: str) -> Iterator[Reason]:
    """The reasons from the widest level to the narrowest.

    At each level the winner, then those that lost to it, then those that were not heard.
    """
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
        yield from (reasons.unheard(at, policy, revision=revision) for at, policy in speakers.unheard if at is level)
    yield from map(reasons.ignored, speakers.ignored)
    _, selecting = levels[-1]
    for winner in selecting[:1]:
        for entry in winner.ports:
            yield reasons.port(winner, entry, workload=so_far)


def _decider(levels: Sequence[_Spoken]) -> PeerAuthentication | None:
    """The narrowest policy that won its level and sets a mode."""
    winners = [policies[0] for _, policies in levels if policies]
    return next((policy for policy in reversed(winners) if policy.mode is not Mode.UNSET), None)
