"""Policies among themselves: two at one level, selectors without effect, and a narrower policy that is weaker.

Who wins is never worked out here: at the levels of mesh and namespace `contenders` says it, at the level of workloads
the reasons of the decisions do. Each pair of policies is reported once, with the workloads it concerns.
"""

from __future__ import annotations

from collections.abc import Iterator

from peerauth.analysis.lint.codes import CONFLICT, DOWNGRADE, ROOT_SELECTOR
from peerauth.analysis.lint.survey import Survey, listed
from peerauth.model.diagnostic import Diagnostic, Evidence, Severity
from peerauth.model.meta import NO_LABELS, NOWHERE, Labels
from peerauth.model.peerauth import Mode, PeerAuthentication, PortMode
from peerauth.policy.decision import Decision, Level, Reason, Verdict
from peerauth.policy.resolve import contenders

Pair = tuple[str, str]


def conflicts(survey: Survey) -> Iterator[Diagnostic]:
    """Policies that lose to an older one of their level, and what is lost with them."""
    seen: set[Pair] = set()
    for level, namespace, policies in _broad(survey):
        where = "mesh" if level is Level.MESH else f"namespace {namespace}"
        for loser in policies[1:]:
            yield _conflict(policies[0], loser, level=level, concerns=f"They speak for the whole {where}.")
    for pair, workloads in sorted(_lost_workloads(survey).items()):
        seen.add(pair)
        older, newer = map(survey.policy, pair)
        yield _conflict(older, newer, level=Level.WORKLOAD, concerns=f"Both select workload {listed(workloads)}.")
    for group in _same_selector(survey):
        for loser in group[1:]:
            if (group[0].meta.full_name, loser.meta.full_name) not in seen:
                yield _conflict(group[0], loser, level=Level.WORKLOAD, concerns="Their selectors are the same.")


def root_selectors(survey: Survey) -> Iterator[Diagnostic]:
    """Policies that stand in the root namespace and have a selector: they do nothing at all."""
    root = survey.world.mesh.root_namespace
    policies = survey.world.policies.in_namespace(root).values()
    for policy in sorted(policies, key=lambda policy: policy.meta.full_name):
        if not contenders(policy.selector, root, policies=[policy], root_namespace=root).ignored:
            continue
        yield ROOT_SELECTOR.found(
            f"policy {policy.meta.full_name} has no effect: {root} is the root namespace, where a selector picks no "
            "workloads, and a policy that has one is not a mesh policy either",
            subject=_subject(policy),
            origin=policy.meta.origin if policy.selector_origin == NOWHERE else policy.selector_origin,
            path="spec.selector",
            hint="for the mesh, remove the selector; for those workloads, move the policy into their namespace",
        )


def downgrades(survey: Survey) -> Iterator[Diagnostic]:
    """Policies, or port entries, that admit plaintext where the next wider level would have refused it."""
    concerned: dict[tuple[Reason, Reason], list[str]] = {}
    for decision, workloads in survey.decided:
        pairs = list(_weaker_steps(decision))
        names = [judged.name for judged in workloads if survey.may_be_enforced(judged)] if pairs else []
        for pair in pairs if names else ():
            concerned.setdefault(pair, []).extend(names)
    for (narrow, wide), concerns in sorted(concerned.items(), key=lambda item: _place(item[0][0])):
        entry = "" if narrow.port is None else f" for port {narrow.port}"
        yield DOWNGRADE.found(
            f"policy {narrow.policy} says {narrow.said}{entry} where {wide.policy} ({wide.level}) says {wide.said}: "
            f"workload {listed(concerns)} takes plaintext{_where(narrow)}",
            subject=f"PeerAuthentication {narrow.policy}",
            origin=narrow.origin,
            path="spec.mtls.mode" if narrow.port is None else f"spec.portLevelMtls.{narrow.port}.mode",
            hint="if this is not an exception that someone still needs, remove it",
            evidence=(Evidence(f"{wide.policy} says {wide.said} for the {wide.level}", wide.origin),),
        )


def _where(reason: Reason) -> str:
    return "" if reason.port is None else f" on port {reason.port}"


def _place(reason: Reason) -> tuple[str, int]:
    return reason.policy, reason.port or 0


def _weaker_steps(decision: Decision) -> Iterator[tuple[Reason, Reason]]:
    """Pairs of the reason that is in force and the wider one that was STRICT."""
    base = decision.deciding()
    if base.said is not Mode.STRICT:
        overridden = [r for r in decision.reasons if r.verdict is Verdict.OVERRIDDEN and r.said is Mode.STRICT]
        yield from ((base, wide) for wide in overridden[-1:])
        return
    for reason in decision.reasons:
        in_force = reason.port is not None and reason.verdict is Verdict.DECIDES
        if in_force and reason.said in (Mode.PERMISSIVE, Mode.DISABLE):
            yield reason, base


def _broad(survey: Survey) -> Iterator[tuple[Level, str, tuple[PeerAuthentication, ...]]]:
    """The policies without a selector, by mesh and namespace, oldest first."""
    world, root = survey.world, survey.world.mesh.root_namespace
    for namespace in sorted({name.namespace for name in world.policies}):
        policies = world.policies.in_namespace(namespace).values()
        speakers = contenders(NO_LABELS, namespace, policies=policies, root_namespace=root)
        yield Level.MESH, namespace, speakers.mesh
        yield Level.NAMESPACE, namespace, speakers.namespace


def _lost_workloads(survey: Survey) -> dict[Pair, list[str]]:
    """For each winner and loser at the level of workloads, the workloads that both select."""
    lost: dict[Pair, list[str]] = {}
    for decision, workloads in survey.decided:
        pairs = [
            (reason.lost_to, reason.policy)
            for reason in decision.reasons
            if reason.verdict is Verdict.LOSES and reason.level is Level.WORKLOAD and reason.port is None
        ]
        names = [judged.name for judged in workloads] if pairs else []
        for pair in pairs:
            lost.setdefault(pair, []).extend(names)
    return lost


def _same_selector(survey: Survey) -> Iterator[tuple[PeerAuthentication, ...]]:
    """Policies of one namespace with one selector, oldest first: they clash on whatever it comes to match."""
    groups: dict[tuple[str, Labels], list[PeerAuthentication]] = {}
    for policy in survey.world.policies.values():
        if policy.selector:
            groups.setdefault((policy.meta.namespace, policy.selector), []).append(policy)
    root = survey.world.mesh.root_namespace
    for (namespace, selector), group in sorted(groups.items(), key=lambda item: item[1][0].meta.full_name):
        if len(group) > 1:
            yield contenders(selector, namespace, policies=group, root_namespace=root).workload


def _conflict(winner: PeerAuthentication, loser: PeerAuthentication, *, level: Level, concerns: str) -> Diagnostic:
    lost = list(_lost(winner, loser))
    consequence = f"Lost: {'; '.join(lost)}." if lost else "Nothing is lost: both say the same."
    return CONFLICT.found(
        f"policy {loser.meta.full_name} is not heard: {winner.meta.full_name} speaks at the same level ({level}) "
        f"and goes first. {consequence} {concerns}",
        subject=_subject(loser),
        origin=loser.meta.origin,
        severity=CONFLICT.severity if lost else Severity.INFO,
        hint="merge the two into one policy; port entries of several policies are not merged",
        evidence=(
            Evidence(f"{winner.meta.full_name} wins: {_age(winner)}", winner.meta.origin),
            Evidence(f"{loser.meta.full_name} loses: {_age(loser)}", loser.meta.origin),
        ),
    )


def _age(policy: PeerAuthentication) -> str:
    if policy.meta.created is None:
        return "no creationTimestamp, which counts as oldest; ties go by name"
    return f"created {policy.meta.created.isoformat()}"


def _lost(winner: PeerAuthentication, loser: PeerAuthentication) -> Iterator[str]:
    """What the loser says that the winner does not."""
    if loser.mode not in (Mode.UNSET, winner.mode):
        yield f"mode {loser.mode} (the winner says {winner.mode})"
    kept = {entry.port: entry.mode for entry in winner.ports}
    for entry in loser.ports:
        if kept.get(entry.port) is not entry.mode:
            yield f"port {entry.port} {entry.mode}{_instead(entry, kept)}"


def _instead(entry: PortMode, kept: dict[int, Mode]) -> str:
    said = kept.get(entry.port)
    return f" (the winner says {said})" if said is not None else " (the winner does not name it)"


def _subject(policy: PeerAuthentication) -> str:
    return f"PeerAuthentication {policy.meta.full_name}"
