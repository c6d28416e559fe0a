"""Clients outside the mesh, without a certificate of it, that STRICT refuses: the kubelet, the API server, scrapers.

Each check keeps quiet where something that Istio does by default saves the caller: probes and scrape annotations are
rewritten at injection unless an annotation says no, and ambient lets the kubelet pass. Sources: Istio's application
health checking, Prometheus integration and ambient references; Kubernetes' admission webhook reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from peerauth.analysis.lint.codes import API_SERVER_REFUSED, PROBE_REFUSED, SCRAPE_REFUSED
from peerauth.analysis.lint.survey import Posture, Survey, listed, port_named, service_port
from peerauth.model.connections import Arrival
from peerauth.model.diagnostic import Diagnostic, Evidence
from peerauth.model.inventory import Probe
from peerauth.model.meta import label_value
from peerauth.model.tables import Name
from peerauth.model.world import target_number
from peerauth.policy.decision import Dataplane, Reason
from peerauth.policy.reception import ClientKind

REWRITE_PROBES = "sidecar.istio.io/rewriteAppHTTPProbers"
SCRAPE, SCRAPE_PORT = "prometheus.io/scrape", "prometheus.io/port"
MERGE_METRICS = "prometheus.istio.io/merge-metrics"


def probes(survey: Survey) -> Iterator[Diagnostic]:
    """Probes of sidecar workloads that dial a STRICT port and that an annotation keeps from being rewritten."""
    for posture in survey.postures:
        if not posture.workload.probes or posture.decision.dataplane is not Dataplane.SIDECAR:
            continue
        if label_value(posture.workload.meta.annotations, REWRITE_PROBES) != "false":
            continue
        for probe in posture.workload.probes:
            number = _probed(probe, posture)
            if number is not None and _refuses(posture, number):
                yield _probe_refused(posture, probe, number)


def _probed(probe: Probe, posture: Posture) -> int | None:
    return probe.port if isinstance(probe.port, int) else port_named(posture.workload.ports, probe.port)


def _probe_refused(posture: Posture, probe: Probe, number: int) -> Diagnostic:
    return PROBE_REFUSED.found(
        f"the {probe.kind} probe ({probe.protocol}) of {posture.name} dials port {number}, which is STRICT: the "
        f"kubelet has no certificate and is refused, and {REWRITE_PROBES}=false keeps the probe from being rewritten",
        subject=posture.subject,
        origin=probe.origin,
        hint=f"remove the annotation {REWRITE_PROBES}, or make port {number} PERMISSIVE",
        evidence=(_decider(posture, number),),
    )


def api_server_calls(survey: Survey) -> Iterator[Diagnostic]:
    """Webhooks and aggregated APIs whose Service leads to a STRICT port."""
    for ref in sorted(survey.world.api_targets):
        target = survey.world.api_targets[ref]
        name = Name(target.service_namespace, target.service_name)
        service = survey.world.services.get(name)
        port = service_port(service, target.service_port) if service is not None else None
        if port is None:
            continue
        refusing = [
            (posture, number)
            for posture in survey.behind.get(name, ())
            if (number := target_number(port, posture.workload)) is not None
            and _refuses(posture, number, ClientKind.TLS)
        ]
        if refusing:
            called = target.webhook or target.meta.name
            yield API_SERVER_REFUSED.found(
                f"the API server calls {listed(posture.name for posture, _ in refusing)} on port {_numbers(refusing)} "
                f"for {called}, and that port is STRICT: the API server has no certificate of the mesh and is refused",
                subject=f"{target.kind} {target.meta.name}",
                origin=target.meta.origin,
                hint=_exception(refusing),
                evidence=(
                    Evidence(f"Service {name.namespace}/{name.name} port {target.service_port}", port.origin),
                    *(_decider(posture, number) for posture, number in refusing[:10]),
                ),
            )


def _numbers(refusing: Sequence[tuple[Posture, int]]) -> str:
    return ", ".join(map(str, sorted({number for _, number in refusing})))


def _exception(refusing: Sequence[tuple[Posture, int]]) -> str:
    """The exception that lets the caller in and nothing else."""
    entries = ", ".join(f"{number}: {{mode: PERMISSIVE}}" for number in sorted({number for _, number in refusing}))
    return f"in a policy that selects these workloads: portLevelMtls: {{{entries}}}"


def scrapes(survey: Survey) -> Iterator[Diagnostic]:
    """Ports that a pod announces to Prometheus and that refuse plaintext."""
    for posture in survey.postures:
        annotations = posture.workload.meta.annotations
        if not annotations or label_value(annotations, SCRAPE) != "true" or _merged(posture):
            continue
        written = label_value(annotations, SCRAPE_PORT) or ""
        if not written.isdecimal() or not _refuses(posture, int(written)):
            continue
        yield SCRAPE_REFUSED.found(
            f"{posture.name} asks to be scraped on port {written}, which is STRICT: a Prometheus outside the mesh is "
            "refused, and so is one that dials pod addresses without the mesh's certificate",
            subject=posture.subject,
            origin=posture.workload.meta.origin,
            path=f"metadata.annotations[{SCRAPE_PORT}]",
            hint=_exception([(posture, int(written))]),
            evidence=(_decider(posture, int(written)),),
        )


def _merged(posture: Posture) -> bool:
    """Whether the injector sends scrapers to the agent's own port instead."""
    if posture.decision.dataplane is not Dataplane.SIDECAR:
        return False
    return label_value(posture.workload.meta.annotations, MERGE_METRICS) != "false"


def _refuses(posture: Posture, number: int, client: ClientKind = ClientKind.PLAINTEXT) -> bool:
    return posture.receives(client, number) is Arrival.REFUSED


def _decider(posture: Posture, number: int) -> Evidence:
    reason: Reason = posture.decision.deciding(number)
    return Evidence(f"{reason.policy or reason.level.value} says {reason.said} for {posture.name}", reason.origin)
