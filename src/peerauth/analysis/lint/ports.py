"""Port entries that name the wrong port, and ports on which PERMISSIVE cannot work as hoped.

`portLevelMtls` speaks of the workload's own ports. Server-first protocols: Istio's protocol selection reference says
why a proxy that must wait for the client's first bytes cannot serve them; the list holds only those whose server
really speaks first on the wire.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from functools import lru_cache

from peerauth.analysis.lint.codes import SERVER_FIRST, SERVICE_PORT, UNKNOWN_PORT
from peerauth.analysis.lint.survey import Posture, Survey, listed
from peerauth.model.diagnostic import Diagnostic, Evidence
from peerauth.model.inventory import Service, ServicePort, WorkloadKey
from peerauth.model.peerauth import PeerAuthentication, PortMode
from peerauth.model.world import target_number
from peerauth.policy.decision import Dataplane, EffectiveMode, Level, Verdict

SERVER_FIRST_PORTS: Mapping[int, str] = {
    21: "FTP",
    25: "SMTP",
    110: "POP3",
    143: "IMAP",
    587: "SMTP submission",
    3306: "MySQL",
}
SERVER_FIRST_NAMES: Mapping[str, str] = {
    "ftp": "FTP",
    "smtp": "SMTP",
    "pop3": "POP3",
    "imap": "IMAP",
    "mysql": "MySQL",
    "mariadb": "MySQL",
}


def port_entries(survey: Survey) -> Iterator[Diagnostic]:
    """Entries for a number that none of the selected workloads listens on, as far as anyone says."""
    for full_name, workloads in sorted(_winners(survey).items()):
        policy = survey.policy(full_name)
        for entry in policy.ports:
            if any(entry.port in posture.declared for posture in workloads):
                continue
            meant = list(_service_targets(sorted(workloads, key=_key_of), entry.port))
            if meant:
                yield _service_port(policy, entry, meant)
            elif all(posture.declared for posture in workloads):
                yield _unknown_port(policy, entry, workloads)


def server_first(survey: Survey) -> Iterator[Diagnostic]:
    """Ports of server-first protocols on which a sidecar waits for bytes that the client does not send."""
    patience = survey.world.mesh.protocol_detection_timeout.total_seconds()
    wait = f"after {patience:g} s" if patience else "never"
    named = _named_by_services(survey)
    for posture in survey.postures:
        if posture.decision.dataplane is not Dataplane.SIDECAR or not _may_be_server_first(posture, named):
            continue
        for number, protocol in sorted(_server_first_ports(posture)):
            if posture.enforced_on(number) is not EffectiveMode.PERMISSIVE:
                continue
            yield SERVER_FIRST.found(
                f"{posture.name} serves {protocol} on port {number}, which is PERMISSIVE: the proxy waits for the "
                f"client's first bytes to tell plaintext from mutual TLS, and a plaintext client of {protocol} waits "
                f"for the server; the proxy gives up {wait}. Mutual TLS works.",
                subject=posture.subject,
                origin=next(
                    (port.origin for port in posture.workload.ports if port.number == number),
                    posture.workload.meta.origin,
                ),
                hint=f"set port {number} to STRICT, or to DISABLE while plaintext clients remain",
            )


def _key_of(posture: Posture) -> WorkloadKey:
    return posture.workload.key


def _winners(survey: Survey) -> dict[str, list[Posture]]:
    """The policies with port entries that won the level of workloads, and the workloads they won."""
    won: dict[str, list[Posture]] = {}
    for decision, workloads in survey.decided:
        for reason in decision.reasons if decision.ports else ():
            heard = reason.verdict not in (Verdict.LOSES, Verdict.IGNORED)
            if reason.level is Level.WORKLOAD and heard:
                won.setdefault(reason.policy, []).extend(workloads)
    return won


def _service_targets(workloads: Sequence[Posture], number: int) -> Iterator[tuple[Service, ServicePort, int]]:
    """Services of the workloads that have a port with this number which leads to another port of the workload."""
    seen: set[tuple[str, int]] = set()
    for posture in workloads:
        for service in posture.services:
            for port in service.ports:
                target = target_number(port, posture.workload)
                place = (service.meta.full_name, target or 0)
                if port.number == number and target not in (None, number) and place not in seen:
                    seen.add(place)
                    yield service, port, place[1]


def _service_port(
    policy: PeerAuthentication, entry: PortMode, meant: Sequence[tuple[Service, ServicePort, int]]
) -> Diagnostic:
    targets = sorted({target for _, _, target in meant})
    numbers = listed(map(str, targets))
    return SERVICE_PORT.found(
        f"policy {policy.meta.full_name} sets port {entry.port} to {entry.mode}, but {entry.port} is the port of the "
        f"Service {listed(service.meta.full_name for service, _, _ in meant)}: the workload itself listens on "
        f"{numbers}, and portLevelMtls names the workload's ports",
        subject=f"PeerAuthentication {policy.meta.full_name}",
        origin=entry.origin,
        path=f"spec.portLevelMtls.{entry.port}",
        hint=f"write {numbers} instead of {entry.port}",
        evidence=tuple(
            Evidence(f"Service {service.meta.full_name} port {port.number} leads to target port {target}", port.origin)
            for service, port, target in meant
        ),
    )


def _unknown_port(policy: PeerAuthentication, entry: PortMode, workloads: Sequence[Posture]) -> Diagnostic:
    declared = sorted({number for posture in workloads for number in posture.declared})
    names = listed(posture.name for posture in workloads)
    return UNKNOWN_PORT.found(
        f"policy {policy.meta.full_name} sets port {entry.port} to {entry.mode}, and nothing says that workload "
        f"{names} listens on it",
        subject=f"PeerAuthentication {policy.meta.full_name}",
        origin=entry.origin,
        path=f"spec.portLevelMtls.{entry.port}",
        hint="declare the port where the workload is described, or correct the number",
        evidence=(Evidence(f"the declared ports are {', '.join(map(str, declared))}"),),
    )


def _named_by_services(survey: Survey) -> set[WorkloadKey]:
    """The workloads behind Services that say a server-first protocol for one of their ports."""
    return {
        posture.workload.key
        for name, behind in survey.behind.items()
        if any(_said_by(port) in SERVER_FIRST_NAMES for port in survey.world.services[name].ports)
        for posture in behind
    }


def _may_be_server_first(posture: Posture, named: Container[WorkloadKey]) -> bool:
    """Whether a closer look is worth it: most workloads have nothing of the kind."""
    return (
        not SERVER_FIRST_PORTS.keys().isdisjoint(posture.declared)
        or any(_protocol_in(port.name) in SERVER_FIRST_NAMES for port in posture.workload.ports)
        or posture.workload.key in named
    )


def _server_first_ports(posture: Posture) -> Iterator[tuple[int, str]]:
    """Ports and their protocol, by what Services and containers call them, else by their number."""
    said = _said_protocols(posture)
    for number in posture.declared:
        names = said.get(number, [])
        by_name = next((SERVER_FIRST_NAMES[name] for name in names if name in SERVER_FIRST_NAMES), "")
        # A name that says another protocol goes before the number: http on 25 is not SMTP.
        protocol = by_name or ("" if _is_explicit(names) else SERVER_FIRST_PORTS.get(number, ""))
        if protocol:
            yield number, protocol


def _said_protocols(posture: Posture) -> dict[int, list[str]]:
    said: dict[int, list[str]] = {}
    for port in posture.workload.ports:
        said.setdefault(port.number, []).append(_protocol_in(port.name))
    for service in posture.services:
        for service_port in service.ports:
            number = target_number(service_port, posture.workload)
            if number is not None:
                said.setdefault(number, []).append(_said_by(service_port))
    return said


def _said_by(port: ServicePort) -> str:
    return port.app_protocol.lower() or _protocol_in(port.name)


@lru_cache(maxsize=1024)
def _protocol_in(name: str) -> str:
    """The protocol that Istio reads in a port's name: what stands before the first dash."""
    return name.lower().partition("-")[0]


def _is_explicit(names: Sequence[str]) -> bool:
    return any(name in ("http", "http2", "https", "grpc", "tls", "redis", "mongo") for name in names)
