"""Proof on live connections: every port of every workload with a proxy, dialled as every kind of client.

What was observed is held against the decision, not against the configuration made from it: an error in rendering shows
as an error. Connections are made as a workload outside the mesh would make them, past any proxy of the client's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from peerauth.identity.keys import CURVE, private_key_pem
from peerauth.identity.spiffe import SpiffeId
from peerauth.identity.x509 import Issuer, build_svid, certificate_pem
from peerauth.local.applications import undeclared_port
from peerauth.local.mesh import LocalMesh
from peerauth.model.inventory import WorkloadKey
from peerauth.policy.decision import Decision, EffectiveMode, Reason
from peerauth.policy.reception import ClientKind
from peerauth.probe import (
    OF_ANOTHER_DOMAIN,
    Attempt,
    ClientCertificate,
    Credentials,
    ProbeTarget,
    ProbeVerdict,
    SocketFactory,
    attempt,
    foreign_certificate,
    judge_port,
)

PROBE_NAMESPACE = "peerauth"
PROBE_ACCOUNT = "probe"
CONNECTIONS_AT_A_TIME = 64
SCHEMA = 1


class PortReport(msgspec.Struct, frozen=True):
    """One port of one workload: what was decided and why, what its data plane enforces, what each client met."""

    workload: WorkloadKey
    port: int
    declared: bool
    mode: EffectiveMode
    enforced: EffectiveMode
    reason: Reason
    verdicts: tuple[ProbeVerdict, ...]

    @property
    def ok(self) -> bool:
        """Whether there were connections, and every one did what the policy says."""
        return bool(self.verdicts) and all(verdict.ok for verdict in self.verdicts)


class PortToProve(msgspec.Struct, frozen=True):
    """What is to be proved about one port, and where it is."""

    workload: WorkloadKey
    address: str
    port: int
    declared: bool
    decision: Decision


def probe_credentials(issuer: Issuer, *, trust_domain: str, now: datetime, serial: int) -> Credentials:
    """What the probe presents: a certificate of the mesh, one of another trust domain, one of another authority."""
    mesh = SpiffeId(trust_domain, PROBE_NAMESPACE, PROBE_ACCOUNT)
    elsewhere = SpiffeId(f"not-{trust_domain}", PROBE_NAMESPACE, PROBE_ACCOUNT)
    return Credentials(
        roots=b"".join(certificate_pem(root) for root in issuer.roots),
        mesh=_certificate(mesh, issuer=issuer, now=now, serial=serial),
        other_ca=foreign_certificate(mesh.uri),
        other_domain=_certificate(elsewhere, issuer=issuer, now=now, serial=serial + 1),
    )


def _certificate(identity: SpiffeId, *, issuer: Issuer, now: datetime, serial: int) -> ClientCertificate:
    key = ec.generate_private_key(CURVE)
    leaf = build_svid(key.public_key(), identity=identity, issuer=issuer, now=now, serial=serial)
    chain = b"".join(certificate_pem(certificate) for certificate in (leaf, *issuer.chain))
    return ClientCertificate(chain=chain, key=private_key_pem(key))


async def prove(
    ports: Iterable[PortToProve],
    *,
    presented: Credentials,
    sockets: SocketFactory,
    kinds: Iterable[ClientKind] = tuple(ClientKind),
) -> tuple[PortReport, ...]:
    """Dials every port as every kind that there is a certificate for; the reports stand in the order of the ports."""
    wanted = [kind for kind in kinds if kind not in OF_ANOTHER_DOMAIN or presented.other_domain is not None]
    gate = asyncio.Semaphore(CONNECTIONS_AT_A_TIME)

    async def one(port: PortToProve, kind: ClientKind) -> Attempt:
        async with gate:
            return await attempt(ProbeTarget(port.address, port.port), kind, presented, sockets=sockets)

    async def report(port: PortToProve) -> PortReport:
        attempts = await asyncio.gather(*(one(port, kind) for kind in wanted))
        return PortReport(
            workload=port.workload,
            port=port.port,
            declared=port.declared,
            mode=port.decision.mode_of(port.port),
            enforced=port.decision.in_force(port.port),
            reason=port.decision.deciding(port.port),
            verdicts=judge_port(port.decision, port.port, attempts),
        )

    return tuple(await asyncio.gather(*(report(port) for port in ports)))


def ports_to_prove(mesh: LocalMesh) -> tuple[PortToProve, ...]:
    """Every declared port of every workload with a proxy, and where such ports are covered one that nobody declared."""
    decisions = mesh.control_plane.mesh.decisions
    found: list[PortToProve] = []
    for served in mesh.view.served():
        address, decision = served.addresses[0], decisions.decision(served.key)
        spare = undeclared_port(mesh.network.capture, served.declared)
        for number in [*served.declared, *([] if spare is None else [spare])]:
            found.append(PortToProve(served.key, address, number, number in served.declared, decision))
    return tuple(found)


def report_document(reports: Iterable[PortReport]) -> dict[str, object]:
    """The proof as the JSON contract of docs/json.md; `SCHEMA` grows when a field changes its meaning or goes."""
    found = tuple(reports)
    return {
        "schema": SCHEMA,
        "ok": bool(found) and all(report.ok for report in found),
        "ports": [
            {
                "namespace": report.workload.namespace,
                "name": report.workload.name,
                "kind": report.workload.kind,
                "port": report.port,
                "declared": report.declared,
                "mode": report.mode.value,
                "enforced": report.enforced.value,
                "policy": report.reason.policy,
                "level": report.reason.level.value,
                "ok": report.ok,
                "connections": [_verdict_document(verdict) for verdict in report.verdicts],
            }
            for report in found
        ],
    }


def _verdict_document(verdict: ProbeVerdict) -> dict[str, object]:
    attempt = verdict.attempt
    return {
        "client": attempt.kind.value,
        "outcome": attempt.outcome.value,
        "expected": verdict.expected.outcome.value,
        "ok": verdict.ok,
        "evidence": attempt.evidence,
        "sentence": verdict.sentence,
        "server": attempt.server,
        "seconds": round(attempt.seconds, 4),
    }
