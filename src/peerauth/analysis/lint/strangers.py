"""Callers that have no certificate of the mesh and that STRICT refuses: the kubelet, the API server, scrapers.

Each check keeps quiet where something that Istio does by default saves the caller: probes and scrape annotations are
rewritten at injection unless an annotation says no, and ambient lets the kubelet pass. Sources: Istio's application
health checking, Prometheus integration and ambient references; Kubernetes' admission webhook reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from peerauth.analysis.lint.codes import API_SERVER_REFUSED, PROBE_REFUSED, SCRAPE_REFUSED
from peerauth.analysis.lint.survey import Judged, Survey, listed, port_named, service_port
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
    for judged in survey.judged:
        if not judged.workload.probes or judged.decision.dataplane is not Dataplane.SIDECAR:
            continue
        if label_value(judged.workload.meta.annotations, REWRITE_PROBES) != "false":
            continue
        for probe in judged.workload.probes:
            number = _probed(probe, judged)
            if number is not None and _refuses(judged, number):
                yield _probe_refused(judged, probe, number)


def _probed(probe: Probe, judged: Judged) -> int | None:
    return probe.port if isinstance(probe.port, int) else port_named(judged.workload.ports, probe.port)


def _probe_refused(judged: Judged, probe: Probe, number: int) -> Diagnostic:
    return PROBE_REFUSED.found(
        f"the {probe.kind} probe ({probe.protocol}) of {judged.name} dials port {number}, which is STRICT: the kubelet "
        f"has no certificate and is refused, and {REWRITE_PROBES}=false keeps the probe from being rewritten",
        subject=judged.subject,
        origin=probe.origin,
        hint=f"remove the annotation {REWRITE_PROBES}, or make port {number} PERMISSIVE",
        evidence=(_decider(judged, number),),
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
            (judged, number)
            for judged in survey.behind.get(name, ())
            if (number := target_number(port, judged.workload)) is not None and _refuses(judged, number, ClientKind.TLS)
        ]
        if refusing:
            called = target.webhook or target.meta.name
            yield API_SERVER_REFUSED.found(
                f"the API server calls {listed(judged.name for judged, _ in refusing)} on port {_numbers(refusing)} "
                f"for {called}, and that port is STRICT: the API server has no certificate of the mesh and is refused",
                subject=f"{target.kind} {target.meta.name}",
                origin=target.meta.origin,
                hint=_exception(refusing),
                evidence=(
                    Evidence(f"Service {name.namespace}/{name.name} port {target.service_port}", port.origin),
                    *(_decider(judged, number) for judged, number in refusing[:10]),
                ),
            )


def _numbers(refusing: Sequence[tuple[Judged, int]]) -> str:
    return ", ".join(map(str, sorted({number for _, number in refusing})))


def _exception(refusing: Sequence[tuple[Judged, int]]) -> str:
    """The exception that lets the caller in and nothing else."""
    entries = ", ".join(f"{number}: {{mode: PERMISSIVE}}" for number in sorted({number for _, number in refusing}))
    return f"in a policy that selects these workloads: portLevelMtls: {{{entries}}}"


def scrapes(survey: Survey) -> Iterator[Diagnostic]:
    """Ports that a pod announces to Prometheus and that refuse plaintext."""
    for judged in survey.judged:
        annotations = judged.workload.meta.annotations
        if not annotations or label_value(annotations, SCRAPE) != "true" or _merged(judged):
            continue
        written = label_value(annotations, SCRAPE_PORT) or ""
        if not written.isdecimal() or not _refuses(judged, int(written)):
            continue
        yield SCRAPE_REFUSED.found(
            f"{judged.name} asks to be scraped on port {written}, which is STRICT: a Prometheus outside the mesh is "
            "refused, and so is one that dials pod addresses without the mesh's certificate",
            subject=judged.subject,
            origin=judged.workload.meta.origin,
            path=f"metadata.annotations[{SCRAPE_PORT}]",
            hint=_exception([(judged, int(written))]),
            evidence=(_decider(judged, int(written)),),
        )


def _merged(judged: Judged) -> bool:
    """Whether the injector sends scrapers to the agent's own port instead."""
    if judged.decision.dataplane is not Dataplane.SIDECAR:
        return False
    return label_value(judged.workload.meta.annotations, MERGE_METRICS) != "false"


def _refuses(judged: Judged, number: int, client: ClientKind = ClientKind.PLAINTEXT) -> bool:
    return judged.receives(client, number) is Arrival.REFUSED


def _decider(judged: Judged, number: int) -> Evidence:
    reason: Reason = judged.decision.deciding(number)
    return Evidence(f"{reason.policy or reason.level.value} says {reason.said} for {judged.name}", reason.origin)
