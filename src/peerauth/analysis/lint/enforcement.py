"""Where what the policy asks is not what happens: ambient's missing DISABLE, excluded ports, workloads outside or not
as their labels say, gateways.

A policy that is written and not enforced is worse than none, because someone relies on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from peerauth.analysis.explain import on_dataplane
from peerauth.analysis.lint.codes import (
    AMBIENT_DISABLE,
    EXCLUDED_PORT,
    NOT_AS_LABELLED,
    ON_GATEWAY,
    OUTSIDE_MESH,
    UNKNOWN_NAMESPACE,
)
from peerauth.analysis.lint.survey import Posture, Survey, listed
from peerauth.model.diagnostic import Diagnostic, Evidence
from peerauth.model.inventory import Admission
from peerauth.model.meta import Origin
from peerauth.policy.capture import Gap
from peerauth.policy.decision import Dataplane, EffectiveMode, Level, Reason, Verdict
from peerauth.policy.membership import DATAPLANE_MODE, INJECT, INJECTION, Membership


def ambient_disable(survey: Survey) -> Iterator[Diagnostic]:
    """What asks for DISABLE on workloads whose data plane cannot do it; once for each policy (and port)."""
    concerned: dict[Reason, list[str]] = {}
    for posture in survey.postures:
        if posture.decision.dataplane is Dataplane.AMBIENT:
            for reason in _asking_disable(posture):
                concerned.setdefault(reason, []).append(posture.name)
    for reason, workloads in sorted(concerned.items(), key=lambda item: (item[0].policy, item[0].port or 0)):
        where = f"on port {reason.port}" if reason.port is not None else "as the mode"
        yield AMBIENT_DISABLE.found(
            f"policy {reason.policy} asks for DISABLE {where} of workload {listed(workloads)}, in ambient mode: "
            "it is enforced as PERMISSIVE, plaintext and HBONE both pass",
            subject=f"PeerAuthentication {reason.policy}",
            origin=reason.origin,
            path="spec.mtls.mode" if reason.port is None else f"spec.portLevelMtls.{reason.port}.mode",
            hint="write PERMISSIVE, which is what happens; only a sidecar can refuse mutual TLS",
        )


def _asking_disable(posture: Posture) -> Iterator[Reason]:
    decision = posture.decision
    if decision.mode is EffectiveMode.DISABLE:
        yield decision.deciding()
    for entry in decision.ports:
        reason = decision.deciding(entry.port)
        if entry.mode is EffectiveMode.DISABLE and reason.port is not None:
            yield reason


def outside_mesh(survey: Survey) -> Iterator[Diagnostic]:
    """Policies that select workloads which no proxy of the mesh stands before; once for each policy."""
    for full_name, outside in _selected(posture for posture in survey.postures if survey.is_outside(posture)):
        yield OUTSIDE_MESH.found(
            f"policy {full_name} selects workload {listed(posture.name for posture in outside)}, outside the mesh: "
            "nothing is enforced there, plaintext passes whatever the policy says",
            subject=f"PeerAuthentication {full_name}",
            origin=survey.policy(full_name).meta.origin,
            hint=f"put it into the mesh ({INJECTION}=enabled or {DATAPLANE_MODE}=ambient on the namespace, or on the "
            f"pod {INJECT}=true), or do not count on the policy",
            evidence=_whys(survey, outside),
        )


def on_gateways(survey: Survey) -> Iterator[Diagnostic]:
    """Policies that select gateways, whose listeners follow Gateway resources instead; once for each policy."""
    gateways = (posture for posture in survey.postures if posture.decision.dataplane is Dataplane.GATEWAY)
    for full_name, selected in _selected(gateways):
        yield ON_GATEWAY.found(
            f"policy {full_name} selects gateway {listed(posture.name for posture in selected)}: its listeners come "
            "from Gateway resources, and the policy is not in force on them",
            subject=f"PeerAuthentication {full_name}",
            origin=survey.policy(full_name).meta.origin,
            hint="say in the Gateway's servers (tls.mode) what clients must present",
            evidence=_whys(survey, selected),
        )


_HEARD = (Verdict.DECIDES, Verdict.INHERITS, Verdict.OVERRIDDEN)


def _selected(workloads: Iterable[Posture]) -> list[tuple[str, list[Posture]]]:
    """The policies that win the level of workloads for some of these, by name."""
    selected: dict[str, list[Posture]] = {}
    for posture in workloads:
        for reason in posture.decision.reasons:
            if reason.level is Level.WORKLOAD and reason.verdict in _HEARD:
                selected.setdefault(reason.policy, []).append(posture)
    return sorted(selected.items())


def _whys(survey: Survey, workloads: list[Posture]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(f"{posture.name}: {survey.membership(posture).why}", posture.workload.meta.origin)
        for posture in workloads[:10]
    )


def not_as_labelled(survey: Survey) -> Iterator[Diagnostic]:
    """Live pods whose data plane is another than their labels ask for; once for all of a namespace that are alike."""
    alike: dict[tuple[str, Membership], list[Posture]] = {}
    for posture in survey.postures:
        if posture.workload.admission is not Admission.AHEAD:
            found = survey.membership(posture)
            if found.by_labels is not None:
                alike.setdefault((posture.workload.meta.namespace, found), []).append(posture)
    for (_, found), workloads in alike.items():
        if found.by_labels is None:
            continue
        first = workloads[0]
        yield NOT_AS_LABELLED.found(
            f"workload {listed(posture.name for posture in workloads)} is {on_dataplane(found.dataplane)} "
            f"({found.why}), and by its labels it would be {on_dataplane(found.by_labels)} ({found.why_by_labels})",
            subject=first.subject,
            origin=first.workload.meta.origin,
            hint=_to_agree(found.dataplane, found.by_labels),
        )


def _to_agree(found: Dataplane, by_labels: Dataplane) -> str:
    """What makes a pod and its labels agree again."""
    if by_labels is Dataplane.NONE:
        return "if it is to stay in the mesh, put the label back before it is created again; if not, restart it"
    if (found, by_labels) == (Dataplane.NONE, Dataplane.AMBIENT):
        return "see whether istio-cni runs on its node and what it says of the pod: a pod is captured while it runs"
    return "injection happens when a pod is created: restart it (kubectl rollout restart)"


def unknown_namespaces(survey: Survey) -> Iterator[Diagnostic]:
    """Namespaces whose labels would say which data plane their workloads have, and that nobody described."""
    hanging: dict[str, list[Posture]] = {}
    for posture in survey.postures:
        if survey.is_unknown(posture):
            hanging.setdefault(posture.workload.meta.namespace, []).append(posture)
    for namespace, workloads in sorted(hanging.items()):
        yield UNKNOWN_NAMESPACE.found(
            f"the Namespace {namespace} is not in the input: whether {listed(posture.name for posture in workloads)} "
            "is in the mesh is not known, and is shown as outside",
            subject=f"Namespace {namespace}",
            origin=min((posture.workload.meta.origin for posture in workloads), default=Origin()),
            hint=f"add the Namespace {namespace} with its labels to what is read",
        )


def excluded_ports(survey: Survey) -> Iterator[Diagnostic]:
    """Ports that the policy closes and that do not reach the proxy which would close them."""
    for posture in survey.postures:
        if not posture.decision.dataplane.enforces or not (posture.captured.may_miss or posture.decision.ports):
            continue
        ports, others = posture.ports_of_interest(), posture.captured.others
        for port in ports:
            gap = posture.missed(port)
            if gap is not None and posture.decision.mode_of(port) is EffectiveMode.STRICT:
                yield _excluded(posture, gap, posture.decision.deciding(port), f"port {port}")
        if others is not None and not ports and posture.decision.mode is EffectiveMode.STRICT:
            yield _excluded(posture, others, posture.decision.deciding(), "every port")


def _excluded(posture: Posture, gap: Gap, reason: Reason, which: str) -> Diagnostic:
    return EXCLUDED_PORT.found(
        f"{which} of {posture.name} is STRICT by {reason.policy}, but {gap.why}: plaintext gets in",
        subject=posture.subject,
        origin=posture.workload.meta.origin,
        path=f"metadata.annotations[{gap.annotation}]" if gap.annotation else "",
        hint=f"mend {gap.setting}; to admit plaintext on purpose, say PERMISSIVE for the port"
        if gap.setting
        else "remove the entry: an application cannot listen on a port of the sidecar's agent",
        evidence=(Evidence(f"{reason.policy} says {reason.said}", reason.origin),),
    )
