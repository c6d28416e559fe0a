"""Where what the policy asks is not what happens: ambient's missing DISABLE, excluded ports, workloads outside.

A policy that is written and not enforced is worse than none, because someone relies on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from peerauth.analysis.lint.codes import AMBIENT_DISABLE, EXCLUDED_PORT, OUTSIDE_MESH, UNKNOWN_NAMESPACE
from peerauth.analysis.lint.survey import Judged, Survey, excluded_by, listed
from peerauth.model.diagnostic import Diagnostic, Evidence
from peerauth.model.meta import Origin
from peerauth.policy.decision import Dataplane, EffectiveMode, Level, Reason, Verdict
from peerauth.policy.membership import DATAPLANE_MODE, INJECT, INJECTION, dataplane_of


def ambient_disable(survey: Survey) -> Iterator[Diagnostic]:
    """What asks for DISABLE on workloads whose data plane cannot do it; once for each policy (and port)."""
    concerned: dict[Reason, list[str]] = {}
    for judged in survey.judged:
        if judged.decision.dataplane is Dataplane.AMBIENT:
            for reason in _asking_disable(judged):
                concerned.setdefault(reason, []).append(judged.name)
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


def _asking_disable(judged: Judged) -> Iterator[Reason]:
    decision = judged.decision
    if decision.mode is EffectiveMode.DISABLE:
        yield decision.deciding()
    for entry in decision.ports:
        reason = decision.deciding(entry.port)
        if entry.mode is EffectiveMode.DISABLE and reason.port is not None:
            yield reason


def outside_mesh(survey: Survey) -> Iterator[Diagnostic]:
    """Policies that select workloads which no proxy of the mesh stands before; once for each policy."""
    concerned: dict[str, list[Judged]] = {}
    for judged in survey.judged:
        if survey.is_outside(judged):
            for reason in judged.decision.reasons:
                if reason.level is Level.WORKLOAD and reason.verdict in _HEARD:
                    concerned.setdefault(reason.policy, []).append(judged)
    for full_name, outside in sorted(concerned.items()):
        yield OUTSIDE_MESH.found(
            f"policy {full_name} selects workload {listed(judged.name for judged in outside)}, outside the mesh: "
            "nothing is enforced there, plaintext passes whatever the policy says",
            subject=f"PeerAuthentication {full_name}",
            origin=survey.policy(full_name).meta.origin,
            hint=f"put it into the mesh ({INJECTION}=enabled or {DATAPLANE_MODE}=ambient on the namespace, or on the "
            f"pod {INJECT}=true), or do not count on the policy",
            evidence=tuple(_why_outside(survey, judged) for judged in outside[:10]),
        )


_HEARD = (Verdict.DECIDES, Verdict.INHERITS, Verdict.OVERRIDDEN)


def _why_outside(survey: Survey, judged: Judged) -> Evidence:
    workload = judged.workload
    why = dataplane_of(workload, survey.world.namespaces.get(workload.meta.namespace)).why
    return Evidence(f"{judged.name}: {why}", workload.meta.origin)


def unknown_namespaces(survey: Survey) -> Iterator[Diagnostic]:
    """Namespaces whose labels would say which data plane their workloads have, and that nobody described."""
    hanging: dict[str, list[Judged]] = {}
    for judged in survey.judged:
        if survey.is_unknown(judged):
            hanging.setdefault(judged.workload.meta.namespace, []).append(judged)
    for namespace, workloads in sorted(hanging.items()):
        yield UNKNOWN_NAMESPACE.found(
            f"the Namespace {namespace} is not in the input: whether {listed(judged.name for judged in workloads)} "
            "is in the mesh is not known, and is shown as outside",
            subject=f"Namespace {namespace}",
            origin=min((judged.workload.meta.origin for judged in workloads), default=Origin()),
            hint=f"add the Namespace {namespace} with its labels to what is read",
        )


def excluded_ports(survey: Survey) -> Iterator[Diagnostic]:
    """Ports that the policy closes and that an annotation of the pod keeps away from its sidecar."""
    for judged in survey.judged:
        if not judged.workload.meta.annotations:
            continue
        for port in judged.ports_of_interest():
            annotation = excluded_by(judged.workload, judged.decision.dataplane, port)
            if not annotation or judged.decision.mode_of(port) is not EffectiveMode.STRICT:
                continue
            reason = judged.decision.deciding(port)
            yield EXCLUDED_PORT.found(
                f"port {port} of {judged.name} is STRICT by {reason.policy}, but the annotation {annotation} keeps "
                "it away from the proxy: plaintext reaches the application",
                subject=judged.subject,
                origin=judged.workload.meta.origin,
                path=f"metadata.annotations[{annotation}]",
                hint="remove the port from the annotation; to admit plaintext on purpose, say PERMISSIVE for the port",
                evidence=(Evidence(f"{reason.policy} says {reason.said}", reason.origin),),
            )
