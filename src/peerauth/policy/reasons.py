"""The steps of a decision, each with the sentence that explains it to whoever has to act on it.

No precedence is decided here: `resolve` says what became of a policy, this says it in words. Sentences are English,
complete, and name policies as `namespace/name`, so that one can be read alone in a log line.
"""

from __future__ import annotations

from collections.abc import Iterable

from peerauth.model.meta import NOWHERE, Labels, Origin
from peerauth.model.peerauth import Mode, PeerAuthentication, PortMode
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode, Level, Reason, Verdict
from peerauth.policy.membership import REVISION
from peerauth.policy.revisions import revision_label


def not_enforced(decision: Decision) -> list[str]:
    """Each difference between what was asked and what the data plane does about it."""
    if decision.dataplane is not Dataplane.AMBIENT:
        return []
    why = "ambient cannot turn mutual TLS off: it admits plaintext as well as HBONE, which is PERMISSIVE"
    ports = [str(entry.port) for entry in decision.ports if entry.mode is EffectiveMode.DISABLE]
    said = []
    if decision.mode is EffectiveMode.DISABLE:
        said.append(f"The workload's mode is DISABLE, but {why}.")
    if ports:
        said.append(f"{'Ports' if len(ports) > 1 else 'Port'} {', '.join(ports)}: the policy says DISABLE, but {why}.")
    return said


def default() -> Reason:
    """Nobody set a mode."""
    return Reason(
        level=Level.DEFAULT,
        said=Mode.PERMISSIVE,
        verdict=Verdict.DECIDES,
        why="No policy sets a mode for this workload, so Istio's default stands: plaintext and mutual TLS both pass.",
    )


def decides(level: Level, policy: PeerAuthentication) -> Reason:
    """The narrowest policy that sets a mode."""
    suffix = "" if level is Level.WORKLOAD else ", and nothing narrower sets a mode"
    return _reason(level, policy, Verdict.DECIDES, why=f"It {_reach(level, policy)}{suffix}.")


def overridden(level: Level, policy: PeerAuthentication, *, by: PeerAuthentication) -> Reason:
    """A policy that sets a mode where a narrower one, `by`, is in force."""
    same = " as well" if by.mode is policy.mode else ""
    why = f"It {_reach(level, policy)}, but {by.meta.full_name} is narrower and says {by.mode}{same}."
    return _reason(level, policy, Verdict.OVERRIDDEN, why=why)


def inherits(level: Level, policy: PeerAuthentication, *, inherited: EffectiveMode) -> Reason:
    """A policy that won its level and sets no mode; `inherited` is what the wider levels come to."""
    why = f"It {_reach(level, policy)} but sets no mode, so what the wider levels say stands: {inherited}."
    return _reason(level, policy, Verdict.INHERITS, why=why)


def loses(level: Level, policy: PeerAuthentication, *, winner: PeerAuthentication) -> Reason:
    """A policy at whose level an older one speaks."""
    entries = f", its {_entries(policy.ports)} included" if policy.ports else ""
    why = (
        f"{winner.meta.full_name} {_reach(level, winner)} as well and wins, because {_older(winner, policy)}. "
        f"Nothing this policy says counts{entries}."
    )
    return _reason(level, policy, Verdict.LOSES, why=why, lost_to=winner.meta.full_name)


def ignored(policy: PeerAuthentication) -> Reason:
    """A policy of the root namespace whose selector would match."""
    why = (
        f"Its selector ({_pairs(policy.selector)}) would match, but it stands in {policy.meta.namespace}, "
        f"the root namespace, where a selector has no effect: only policies of other namespaces can select workloads."
    )
    return _reason(Level.WORKLOAD, policy, Verdict.IGNORED, why=why)


def unheard(level: Level, policy: PeerAuthentication, *, revision: str) -> Reason:
    """A policy that speaks about the workload and that the istiod of its revision does not read."""
    label = revision_label(policy)
    if label not in (None, revision):
        why = (
            f"It {_reach(level, policy)}, but its label {REVISION} is {label or 'empty'}: only the istiod of the "
            f"revision of that name reads it, and this workload is of the revision {revision}."
        )
    else:
        why = (
            f"It {_reach(level, policy)}, but the istiod of the revision {revision} does not read it: no "
            f"discoverySelector of its mesh configuration matches the namespace {policy.meta.namespace}."
        )
    return _reason(level, policy, Verdict.IGNORED, why=why)


def port(policy: PeerAuthentication, entry: PortMode, *, workload: EffectiveMode) -> Reason:
    """One port entry of the policy that won the workload's level; `workload` is the workload's mode."""
    if entry.mode is Mode.UNSET:
        verdict = Verdict.INHERITS
        why = f"The entry for port {entry.port} sets no mode, so the port has the workload's: {workload}."
    else:
        verdict = Verdict.DECIDES
        why = f"The entry for port {entry.port} goes before the workload's mode, {workload}."
    return Reason(
        level=Level.PORT,
        said=entry.mode,
        verdict=verdict,
        policy=policy.meta.full_name,
        port=entry.port,
        origin=_first_known(entry.origin, policy.meta.origin),
        why=why,
    )


def _reason(level: Level, policy: PeerAuthentication, verdict: Verdict, *, why: str, lost_to: str = "") -> Reason:
    return Reason(
        level=level,
        said=policy.mode,
        verdict=verdict,
        policy=policy.meta.full_name,
        origin=_first_known(policy.mode_origin, policy.meta.origin),
        why=why,
        lost_to=lost_to,
    )


def _reach(level: Level, policy: PeerAuthentication) -> str:
    match level:
        case Level.WORKLOAD:
            return f"selects this workload ({_pairs(policy.selector)})"
        case Level.NAMESPACE:
            return f"speaks for the whole namespace {policy.meta.namespace}"
        case _:
            return "speaks for the whole mesh"


def _older(winner: PeerAuthentication, loser: PeerAuthentication) -> str:
    mine, theirs = winner.meta.created, loser.meta.created
    if mine == theirs:
        age = "neither has a creation time" if mine is None else "both were created at the same time"
        return f"{age} and its name comes first"
    if mine is None or theirs is None:
        return "a policy without a creation time counts as the oldest"
    return f"it is older (created {mine.isoformat()}, this one {theirs.isoformat()})"


def _entries(ports: Iterable[PortMode]) -> str:
    said = [f"{entry.port}: {entry.mode}" for entry in ports]
    return f"portLevelMtls ({', '.join(said)})"


def _pairs(selector: Labels) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(selector))


def _first_known(*origins: Origin) -> Origin:
    return next((origin for origin in origins if origin != NOWHERE), NOWHERE)
