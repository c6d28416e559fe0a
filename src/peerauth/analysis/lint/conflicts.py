"""Policies among themselves: two at one level, selectors without effect, and a narrower policy that is weaker.

Who wins is never worked out here: at the levels of mesh and namespace `contenders` says it, at the level of workloads
the reasons of the decisions do. Each pair of policies is reported once, with the workloads it concerns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from peerauth.analysis.lint.codes import CONFLICT, DOWNGRADE, ROOT_SELECTOR
from peerauth.analysis.lint.revisions import istiods, reads
from peerauth.analysis.lint.survey import Survey, listed, selector_place
from peerauth.model.diagnostic import Diagnostic, Evidence, Severity
from peerauth.model.meta import NO_LABELS, Labels
from peerauth.model.peerauth import Mode, PeerAuthentication, PortMode
from peerauth.policy.decision import Decision, Level, Reason, Verdict
from peerauth.policy.resolve import Contenders, contenders
from peerauth.policy.revisions import Istiod, revision_label

Pair = tuple[str, str]


def conflicts(survey: Survey) -> Iterator[Diagnostic]:
    """Policies that lose to an older one of their level, and what is lost with them."""
    seen: set[Pair] = set()
    for level, namespace, policies in _broad(survey):
        for loser in policies[1:]:
            if _is_news(policies[0], loser, seen):
                where = "mesh" if level is Level.MESH else f"namespace {namespace}"
                concerns = f"They speak for the whole {where}{_of_one_revision(policies[0], loser)}."
                yield _conflict(policies[0], loser, level=level, concerns=concerns)
    for pair, workloads in sorted(_lost_workloads(survey).items()):
        seen.add(pair)
        older, newer = map(survey.policy, pair)
        yield _conflict(older, newer, level=Level.WORKLOAD, concerns=f"Both select workload {listed(workloads)}.")
    for group in _same_selector(survey):
        for loser in group[1:]:
            if _is_news(group[0], loser, seen):
                concerns = f"Their selectors are the same{_of_one_revision(group[0], loser)}."
                yield _conflict(group[0], loser, level=Level.WORKLOAD, concerns=concerns)


def _is_news(winner: PeerAuthentication, loser: PeerAuthentication, seen: set[Pair]) -> bool:
    """Whether this pair has not been reported: two policies may meet in several revisions."""
    pair = winner.meta.full_name, loser.meta.full_name
    if pair in seen:
        return False
    seen.add(pair)
    return True


def _of_one_revision(*policies: PeerAuthentication) -> str:
    """The revision in which policies meet, if one of them is for one alone."""
    label = next((label for policy in policies if (label := revision_label(policy))), None)
    return f", in the revision {label}" if label else ""


def root_selectors(survey: Survey) -> Iterator[Diagnostic]:
    """Policies that stand in the root namespace and have a selector: they do nothing at all."""
    found: dict[str, list[str]] = {}
    everyone = istiods(survey)
    for istiod in everyone:
        root = istiod.root_namespace
        for policy in survey.world.policies.in_namespace(root).values():
            if contenders(
                policy.selector, root, policies=[policy], root_namespace=root, revision=istiod.revision
            ).ignored:
                found.setdefault(policy.meta.full_name, []).append(istiod.revision)
    for full_name, revisions in sorted(found.items()):
        policy = survey.policy(full_name)
        of_all = len({istiod.root_namespace for istiod in everyone}) == 1
        where = "" if of_all else f" in the revision {listed(revisions)}"
        yield ROOT_SELECTOR.found(
            f"policy {full_name} has no effect{where}: {policy.meta.namespace} is the root namespace, where a selector "
            "picks no workloads, and a policy that has one is not a mesh policy either",
            subject=_subject(policy),
            origin=selector_place(policy),
            path="spec.selector",
            hint="for the mesh, remove the selector; for those workloads, move the policy into their namespace",
        )


def downgrades(survey: Survey) -> Iterator[Diagnostic]:
    """Policies, or port entries, that admit plaintext where the next wider level would have refused it."""
    concerned: dict[tuple[Reason, Reason], list[str]] = {}
    for decision, workloads in survey.decided:
        pairs = list(_weaker_steps(decision))
        names = [posture.name for posture in workloads if survey.may_be_enforced(posture)] if pairs else []
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
    """The policies without a selector, by mesh and namespace and by the revision that reads them, oldest first."""
    world, everyone = survey.world, istiods(survey)
    for namespace in sorted({name.namespace for name in world.policies}):
        policies = world.policies.in_namespace(namespace).values()
        for istiod in _apart(policies, everyone):
            if reads(survey, istiod, namespace) is not False:
                speakers = _speakers(NO_LABELS, namespace, policies, istiod)
                yield Level.MESH, namespace, speakers.mesh
                yield Level.NAMESPACE, namespace, speakers.namespace


def _apart(policies: Collection[PeerAuthentication], everyone: tuple[Istiod, ...]) -> Iterator[Istiod]:
    """The istiods for which one namespace's policies may come to something different: one of those that agree."""
    labels = {revision_label(policy) for policy in policies}
    seen: set[tuple[str, object]] = set()
    for istiod in everyone:
        label = istiod.revision if istiod.revision in labels else ""
        agreeing = label, istiod.mesh
        if agreeing not in seen:
            seen.add(agreeing)
            yield istiod


def _speakers(labels: Labels, namespace: str, policies: Collection[PeerAuthentication], istiod: Istiod) -> Contenders:
    return contenders(
        labels, namespace, policies=policies, root_namespace=istiod.root_namespace, revision=istiod.revision
    )


def _lost_workloads(survey: Survey) -> dict[Pair, list[str]]:
    """For each winner and loser at the level of workloads, the workloads that both select."""
    lost: dict[Pair, list[str]] = {}
    for decision, workloads in survey.decided:
        pairs = [
            (reason.lost_to, reason.policy)
            for reason in decision.reasons
            if reason.verdict is Verdict.LOSES and reason.level is Level.WORKLOAD and reason.port is None
        ]
        names = [posture.name for posture in workloads] if pairs else []
        for pair in pairs:
            lost.setdefault(pair, []).extend(names)
    return lost


def _same_selector(survey: Survey) -> Iterator[tuple[PeerAuthentication, ...]]:
    """Policies of one namespace with one selector, oldest first: they clash on whatever it comes to match."""
    groups: dict[tuple[str, Labels], list[PeerAuthentication]] = {}
    for policy in survey.world.policies.values():
        if policy.selector:
            groups.setdefault((policy.meta.namespace, policy.selector), []).append(policy)
    everyone = istiods(survey)
    for (namespace, selector), group in sorted(groups.items(), key=lambda item: item[1][0].meta.full_name):
        for istiod in _apart(group, everyone) if len(group) > 1 else ():
            yield _speakers(selector, namespace, group, istiod).workload


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
