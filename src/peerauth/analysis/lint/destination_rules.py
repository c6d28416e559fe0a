"""DestinationRules that tell clients to do what the servers' policy refuses.

A DestinationRule's TLS settings replace what a client would find out by itself, so a contradiction is an outage. Only
sidecars in front of the server are looked at: an HBONE tunnel is chosen whatever a DestinationRule says. MUTUAL brings
certificates of its own, of which nothing is known here. Source: Istio's DestinationRule reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from peerauth.analysis.lint.codes import CLIENT_CONTRADICTS
from peerauth.analysis.lint.survey import Posture, Survey, listed
from peerauth.model.connections import Arrival
from peerauth.model.diagnostic import Diagnostic, Evidence
from peerauth.model.inventory import DestinationRule, PortTls, Service
from peerauth.model.tables import Name, name_of
from peerauth.model.world import target_number
from peerauth.policy.decision import Dataplane
from peerauth.policy.reception import ClientKind

# What a client is by each TLS mode, as what it cannot want to arrive, and what that does to it.
FAILS = {
    "DISABLE": (ClientKind.PLAINTEXT, Arrival.REFUSED, "sends plaintext, which is refused"),
    "SIMPLE": (ClientKind.TLS, Arrival.REFUSED, "presents no certificate, and the handshake is refused"),
    "ISTIO_MUTUAL": (
        ClientKind.MTLS,
        Arrival.UNTOUCHED,
        "sends mutual TLS, which reaches the application undeciphered",
    ),
}


def contradictions(survey: Survey) -> Iterator[Diagnostic]:
    """One finding for each TLS setting of a rule that names a Service and fails against a workload behind it."""
    for name in sorted(survey.world.destination_rules):
        rule = survey.world.destination_rules[name]
        service = _service_of(survey, rule)
        if service is None:
            continue
        behind = survey.behind.get(name_of(service), ())
        for tls in rule.tls:
            refusing = sorted(_refusing(service, tls, behind, rule), key=lambda pair: (pair[0].name, pair[1]))
            if refusing:
                yield _contradicts(rule, tls, service, refusing)


def _service_of(survey: Survey, rule: DestinationRule) -> Service | None:
    """The Service that a rule's host names: short names are of the rule's own namespace. Wildcards name none."""
    labels = rule.host.rstrip(".").split(".")
    if labels[0] == "*" or (len(labels) > 2 and labels[2] != "svc"):
        return None
    namespace = labels[1] if len(labels) > 1 else rule.meta.namespace
    return survey.world.services.get(Name(namespace, labels[0]))


def _refusing(
    service: Service, tls: PortTls, behind: Sequence[Posture], rule: DestinationRule
) -> Iterator[tuple[Posture, int]]:
    if tls.mode not in FAILS:
        return
    # A setting for one port goes before the one for all.
    elsewhere = {other.port for other in rule.tls if other.port is not None and other.subset == tls.subset}
    for port in service.ports:
        if port.protocol != "TCP" or (port.number in elsewhere if tls.port is None else port.number != tls.port):
            continue
        targets = [(posture, target_number(port, posture.workload)) for posture in behind]
        failing = [(posture, number) for posture, number in targets if number and _fails(posture, number, tls)]
        # Which workloads a subset holds is not known here: only if all refuse, its own do.
        if not tls.subset or len(failing) == len(behind):
            yield from failing


def _fails(posture: Posture, number: int, tls: PortTls) -> bool:
    client, arrival, _ = FAILS[tls.mode]
    met = posture.decision.dataplane is Dataplane.SIDECAR and posture.captured.gap(number) is None
    return met and posture.receives(client, number) is arrival


def _contradicts(
    rule: DestinationRule, tls: PortTls, service: Service, refusing: Sequence[tuple[Posture, int]]
) -> Diagnostic:
    _, _, effect = FAILS[tls.mode]
    modes = ", ".join(sorted({posture.decision.in_force(number) for posture, number in refusing}))
    numbers = ", ".join(map(str, sorted({number for _, number in refusing})))
    names = listed(posture.name for posture, _ in refusing)
    subset = f" for its subset {tls.subset}" if tls.subset else ""
    deciders = {posture.decision.deciding(number) for posture, number in refusing}
    return CLIENT_CONTRADICTS.found(
        f"{rule.meta.full_name} tells clients of {service.meta.full_name} to use {tls.mode}{subset}, and port "
        f"{numbers} of {names} is {modes}: a client {effect}",
        subject=f"DestinationRule {rule.meta.full_name}",
        origin=tls.origin,
        hint="remove the rule's tls block: clients then do what each server's own mode needs",
        evidence=tuple(
            Evidence(f"{reason.policy or 'the default'} says {reason.said}", reason.origin)
            for reason in sorted(deciders, key=lambda reason: (reason.policy, reason.port or 0))
        ),
    )
