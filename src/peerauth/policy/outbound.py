"""The client's side of a decision: how a proxy must speak to each endpoint of the mesh.

Pure. It follows the endpoint's own effective mode on the port that is dialled, never its namespace's or Service's:
a client that guesses from a wider level sends plaintext to a port that refuses it, or TLS to one that cannot read it.
Source: DESIGN, "Sidecar, outbound"; Istio's auto mTLS, which `enableAutoMtls: false` of the mesh configuration turns
off for sidecars and not for HBONE.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from peerauth.identity.spiffe import SpiffeId
from peerauth.model.inventory import Workload
from peerauth.model.mesh import MeshConfig
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode
from peerauth.policy.reception import ClientKind


class Transport(StrEnum):
    """What a client's proxy puts around the application's bytes."""

    PLAINTEXT = "plaintext"
    MUTUAL_TLS = "mtls"
    HBONE = "hbone"

    @property
    def client(self) -> ClientKind:
        """As what kind of client an application that speaks plaintext then comes to the server."""
        return _CLIENTS[self]


_CLIENTS = {
    Transport.PLAINTEXT: ClientKind.PLAINTEXT,
    Transport.MUTUAL_TLS: ClientKind.MTLS,
    Transport.HBONE: ClientKind.HBONE,
}


class PortTransport(msgspec.Struct, frozen=True, order=True):
    """A port of an endpoint that is spoken to in its own way."""

    port: int
    transport: Transport


class OutboundPeer(msgspec.Struct, frozen=True):
    """One workload as those see it who connect to it.

    `identity` is what its certificate must say wherever the transport has one. `exceptions` are the ports whose
    transport is not `transport`, ascending.
    """

    addresses: tuple[str, ...]
    identity: SpiffeId
    transport: Transport
    exceptions: tuple[PortTransport, ...] = ()

    def transport_to(self, port: int) -> Transport:
        """How to speak to one port, declared or not."""
        return next((entry.transport for entry in self.exceptions if entry.port == port), self.transport)


def identity_of(workload: Workload, *, mesh: MeshConfig) -> SpiffeId:
    """The identity a workload has by its namespace and service account."""
    return SpiffeId(mesh.trust_domain, workload.meta.namespace, workload.service_account)


def peer_of(
    workload: Workload, *, decision: Decision, mesh: MeshConfig, client: Dataplane = Dataplane.SIDECAR
) -> OutboundPeer:
    """How clients of a data plane connect to a workload about which this was decided."""
    transport, exceptions = _spoken_to(decision, mesh=mesh, client=client)
    return OutboundPeer(workload.addresses, identity_of(workload, mesh=mesh), transport, exceptions)


def asks_alike(one: Decision, other: Decision, *, mesh: MeshConfig) -> bool:
    """Whether clients connect to a workload in the same way whichever of two decisions is that about it."""
    return _spoken_to(one, mesh=mesh) == _spoken_to(other, mesh=mesh)


def transport_to(client: Dataplane, server: Decision, port: int, *, mesh: MeshConfig) -> Transport:
    """What a client of this data plane puts around the bytes for a server's port, declared or not."""
    return _spoken_by(client, server.dataplane, server.mode_of(port), mesh)


def _spoken_to(
    server: Decision, *, mesh: MeshConfig, client: Dataplane = Dataplane.SIDECAR
) -> tuple[Transport, tuple[PortTransport, ...]]:
    """What clients put around their bytes for a server, and the ports for which it is something else."""
    transport = _spoken_by(client, server.dataplane, server.mode, mesh)
    spoken = ((entry.port, _spoken_by(client, server.dataplane, entry.mode, mesh)) for entry in server.ports)
    return transport, tuple(PortTransport(port, how) for port, how in spoken if how is not transport)


def _spoken_by(client: Dataplane, server: Dataplane, mode: EffectiveMode, mesh: MeshConfig) -> Transport:
    """What a client puts around its bytes for a port of this mode; a node's proxy speaks HBONE to all who take it."""
    match client:
        case Dataplane.SIDECAR:
            return _transport(server, mode, mesh)
        case Dataplane.AMBIENT if server.enforces:
            return Transport.HBONE
        case _:
            return Transport.PLAINTEXT


def _transport(dataplane: Dataplane, mode: EffectiveMode, mesh: MeshConfig) -> Transport:
    match dataplane:
        case Dataplane.AMBIENT:
            # HBONE is terminated by the node's proxy whatever the policy says: ambient has no DISABLE.
            return Transport.HBONE
        case Dataplane.SIDECAR if mesh.enable_auto_mtls and mode is not EffectiveMode.DISABLE:
            return Transport.MUTUAL_TLS
        case _:
            return Transport.PLAINTEXT
