"""`peerauth probe`: dial the mesh that `peerauth up` runs here, or one port of any mesh, and compare with documents."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from peerauth.agent.netns import sockets_of
from peerauth.errors import PeerAuthError, SourceError
from peerauth.local.networks import ordinary_socket
from peerauth.local.proof import PortReport, PortToProve, probe_credentials, prove
from peerauth.local.running_mesh import RunningMesh, find
from peerauth.model.inventory import WorkloadKey
from peerauth.model.world import Reset
from peerauth.policy.decision import Dataplane
from peerauth.policy.mesh import Mesh
from peerauth.probe import ClientCertificate, Credentials, foreign_certificate
from peerauth.runtime.authority import AuthorityFolder, now
from peerauth.runtime.settings import Settings
from peerauth.runtime.up import has_errors
from peerauth.sources import files


class Wanted(Protocol):
    """What to probe: a workload, and one of its ports or all."""

    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def port(self) -> int | None: ...


class _Documents:
    """What the documents say must happen."""

    def __init__(self, paths: Sequence[str]) -> None:
        loaded = files.load(paths)
        if has_errors(loaded.diagnostics):
            raise SourceError("the documents have errors", hint="peerauth check says how to mend them")
        self.mesh = Mesh()
        self.mesh.apply(Reset("files", loaded.objects))

    def declares(self, key: WorkloadKey, port: int) -> bool:
        """Whether anyone says that the workload has this port."""
        world = self.mesh.world
        return any(found.number == port for found in world.declared_ports(world.workloads[key]))


async def probe_running(wanted: Wanted | None, *, paths: Sequence[str], settings: Settings) -> tuple[PortReport, ...]:
    """Probes the mesh that runs on this machine, or the wanted part of it. `paths` replace the run's own documents.

    Raises PeerAuthError when nothing runs, SourceError for documents that cannot be used.
    """
    running = next(find(settings.sockets), None)
    if running is None:
        raise PeerAuthError(
            "no `peerauth up` of this user runs on this machine",
            hint="start one (peerauth up examples/finance --apps), or name an --address",
        )
    documents = _Documents(paths or running.paths)
    ports = tuple(_ports(running, documents, wanted))
    if not ports:
        raise PeerAuthError(
            "the running mesh has no such workload or port", hint="peerauth probe without arguments probes all"
        )
    state = settings.state.resolve() in Path(running.authority).parents
    authority = AuthorityFolder(Path(running.authority), running.trust_domain, plugged_in=not state)
    issuer = await authority.open(make=False)
    presented = probe_credentials(issuer, trust_domain=running.trust_domain, now=now(), serial=secrets.randbits(120))
    sockets = sockets_of(running.outside) if running.outside else ordinary_socket
    return await prove(ports, presented=presented, sockets=sockets)


async def probe_address(
    wanted: Wanted, port: int, *, address: str, paths: Sequence[str], presented: Credentials
) -> tuple[PortReport, ...]:
    """Probes one port at an address. Raises PeerAuthError for a workload that the documents do not have."""
    documents = _Documents(paths)
    found = [key for key in documents.mesh.decisions if (key.namespace, key.name) == (wanted.namespace, wanted.name)]
    if not found:
        raise PeerAuthError(f"the documents have no workload {wanted.namespace}/{wanted.name}")
    key = min(found)
    decision = documents.mesh.decisions.decision(key)
    if not decision.dataplane.enforces:
        what = "a gateway" if decision.dataplane is Dataplane.GATEWAY else "outside the mesh"
        raise PeerAuthError(f"{key} is {what}: no policy says what its ports must do")
    target = PortToProve(key, address, port, documents.declares(key, port), decision)
    return await prove([target], presented=presented, sockets=ordinary_socket)


def given_credentials(*, certificate: Path | None, key: Path | None, roots: Path | None) -> Credentials:
    """What the probe presents to a mesh whose authority it does not have. Raises PeerAuthError."""
    if certificate is None or key is None or roots is None:
        raise PeerAuthError(
            "--address needs --certificate, --key and --roots",
            hint="in an Istio sidecar they are what `istioctl proxy-config secret` shows",
        )
    mesh = ClientCertificate(certificate.read_bytes(), key.read_bytes())
    return Credentials(
        roots=roots.read_bytes(), mesh=mesh, other_ca=foreign_certificate("spiffe://cluster.local/ns/peerauth/sa/probe")
    )


def _ports(running: RunningMesh, documents: _Documents, wanted: Wanted | None) -> Iterator[PortToProve]:
    for workload in running.workloads:
        key = workload.key
        if wanted is not None and (key.namespace, key.name) != (wanted.namespace, wanted.name):
            continue
        if key not in documents.mesh.decisions:
            continue
        decision = documents.mesh.decisions.decision(key)
        numbers = workload.ports if wanted is None or wanted.port is None else (wanted.port,)
        for port in numbers:
            yield PortToProve(key, workload.addresses[0], port, documents.declares(key, port), decision)
