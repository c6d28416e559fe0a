"""`--require strict`: every port of every workload of the mesh that admits anything but mutual TLS is a failure.

What is enforced counts, not what was asked. What is not known is not passed: a workload whose Namespace was not given
is judged as if it were in the mesh, and what runs containers and is not understood is a failure. So is a pod that its
labels put into the mesh and that runs outside. Others that are known to be outside are not the mesh's, and not judged;
nor are gateways, on which PeerAuthentication is not in force: how many were left out is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from peerauth.analysis.lint.codes import NOT_STRICT, NOT_UNDERSTOOD, NOTHING_REQUIRED_OF, ON_GATEWAY
from peerauth.analysis.lint.survey import Posture, Survey, listed
from peerauth.analysis.may_select import Possible
from peerauth.analysis.passed_over import not_understood
from peerauth.model.diagnostic import Diagnostic, Evidence
from peerauth.model.inventory import Admission, PassedOver
from peerauth.policy.capture import Gap, captured_of
from peerauth.policy.decision import Dataplane, EffectiveMode, Reason


def not_strict(survey: Survey) -> Iterator[Diagnostic]:
    """One finding for each workload whose mode is not STRICT and for each port that differs from a STRICT workload."""
    required = False
    gateways = [posture for posture in survey.postures if posture.decision.dataplane is Dataplane.GATEWAY]
    for posture in survey.postures:
        if survey.may_be_enforced(posture):
            required = True
            possible = survey.may_select.get(posture.workload.key, ())
            in_mesh = posture if posture.decision.dataplane.enforces else _with_a_sidecar(survey, posture)
            yield from _failures(in_mesh) or _failures_to_come(in_mesh, possible)
        elif _should_be_in_the_mesh(survey, posture):
            required = True
            yield _missing(survey, posture)
    if gateways:
        yield _left_out(gateways)
    for runs in not_understood(survey.world):
        yield _not_understood(runs)
    if not required:
        yield NOTHING_REQUIRED_OF.found(
            "STRICT is required, and the input has no workload of the mesh: nothing was verified",
            subject="mesh",
            hint="give the workloads and their Namespaces along with the policies",
        )


def _with_a_sidecar(survey: Survey, posture: Posture) -> Posture:
    """A workload of which it is not known whether it is in the mesh, as it would be judged there."""
    mesh = survey.world.meshes.of(posture.decision.revision)
    captured = captured_of(posture.workload, Dataplane.SIDECAR, mesh=mesh)
    decision = msgspec.structs.replace(posture.decision, dataplane=Dataplane.SIDECAR)
    return msgspec.structs.replace(posture, decision=decision, captured=captured)


def _should_be_in_the_mesh(survey: Survey, posture: Posture) -> bool:
    if posture.workload.admission is Admission.AHEAD or posture.decision.dataplane is not Dataplane.NONE:
        return False
    by_labels = survey.membership(posture).by_labels
    return by_labels is not None and by_labels.enforces


def _missing(survey: Survey, posture: Posture) -> Diagnostic:
    found = survey.membership(posture)
    return NOT_STRICT.found(
        f"workload {posture.name} belongs to the mesh by its labels, and nothing is enforced on it: {found.why}",
        subject=posture.subject,
        origin=posture.workload.meta.origin,
        hint="restart it, so that it gets its proxy",
        evidence=(Evidence(f"{posture.name}: {found.why_by_labels}", posture.workload.meta.origin),),
    )


def _left_out(gateways: Sequence[Posture]) -> Diagnostic:
    many = f"{len(gateways)} gateway{'' if len(gateways) == 1 else 's'}"
    return ON_GATEWAY.found(
        f"STRICT was not required of {many} ({listed(posture.name for posture in gateways)}): their listeners come "
        "from Gateway resources, and PeerAuthentication is not in force on them",
        subject=gateways[0].subject,
        origin=gateways[0].workload.meta.origin,
        hint="look at the Gateway's servers (tls.mode) for what their clients must present",
    )


def _failures_to_come(posture: Posture, possible: Iterable[Possible]) -> Iterator[Diagnostic]:
    """What is not STRICT for some pods only, if a policy selects them once they are created."""
    for one in possible:
        decision = msgspec.structs.replace(one.decision, dataplane=posture.decision.dataplane)
        failures = _failures(msgspec.structs.replace(posture, decision=decision))
        if failures and one.is_heard:
            yield NOT_STRICT.found(
                f"workload {posture.name} may not be STRICT on some pods: policy "
                f"{one.policy.meta.full_name} selects by {one.by}",
                subject=posture.subject,
                origin=posture.workload.meta.origin,
                hint="select by a label of the pod template, or give the pods as they run in place of it",
                evidence=(Evidence(failures[0].message, one.policy.meta.origin),),
            )


def _failures(posture: Posture) -> list[Diagnostic]:
    return list(_each_failure(posture))


def _each_failure(posture: Posture) -> Iterator[Diagnostic]:
    mode = posture.decision.in_force(None)
    if mode is not EffectiveMode.STRICT:
        yield _workload_failure(posture, mode)
    elif posture.captured.others is not None:
        yield _not_captured(posture, posture.captured.others)
    for port in posture.ports_of_interest():
        in_force, missed = posture.decision.in_force(port), posture.missed(port)
        if missed is not None:
            hint = f"mend {missed.setting}" if missed.setting else _OF_THE_AGENT
            yield _port_failure(posture, port, f"it is {missed.why}", hint=hint)
        elif in_force is not EffectiveMode.STRICT and in_force is not mode:
            yield _port_failure(posture, port, f"it is {in_force}", hint=f"remove the exception for port {port}")


_OF_THE_AGENT = "remove the entry for the port, which is not the application's"


def _not_understood(runs: PassedOver) -> Diagnostic:
    return NOT_UNDERSTOOD.found(
        f"{runs.subject} ({runs.group}) runs containers, but has no pod template where one is looked for: whether its "
        "ports are STRICT is not known",
        subject=runs.subject,
        origin=runs.meta.origin,
        hint="give the pods that it makes, or the workload that it refers to, in its place; if it runs nothing, leave "
        "it out of the input",
    )


def _workload_failure(posture: Posture, mode: EffectiveMode) -> Diagnostic:
    reason = posture.decision.deciding()
    same = [str(port) for port in posture.ports_of_interest() if posture.decision.in_force(port) is mode]
    rest = "every port not declared" if posture.ports_of_interest() else "every port"
    ports = " and ".join(part for part in (", ".join(same), rest) if part)
    return NOT_STRICT.found(
        f"workload {posture.name} is {mode} on {ports}",
        subject=posture.subject,
        origin=posture.workload.meta.origin,
        hint="set STRICT for the workload, its namespace or the mesh",
        evidence=(_said(reason),),
    )


def _not_captured(posture: Posture, gap: Gap) -> Diagnostic:
    return NOT_STRICT.found(
        f"workload {posture.name} is STRICT, but every port that is not declared is {gap.why}",
        subject=posture.subject,
        origin=posture.workload.meta.origin,
        hint=f"mend {gap.setting}",
        evidence=(_said(posture.decision.deciding()),),
    )


def _port_failure(posture: Posture, port: int, what: str, *, hint: str) -> Diagnostic:
    reason = posture.decision.deciding(port)
    return NOT_STRICT.found(
        f"port {port} of workload {posture.name} is not STRICT: {what}",
        subject=posture.subject,
        origin=posture.workload.meta.origin,
        hint=hint,
        evidence=(_said(reason),),
    )


def _said(reason: Reason) -> Evidence:
    who = f"policy {reason.policy}" if reason.policy else "Istio's default"
    return Evidence(f"{who} says {reason.said}. {reason.why}", reason.origin)
