"""What a mode does to a client: as what a connection of each kind arrives at a port about which something was decided.

Pure, and the only place that says it: the probe expects it, findings and flows follow from it. It is DESIGN's table of
modes turned round, seen from the connection. Sources: DESIGN sections 1 and 2; Istio's ztunnel for ambient, which takes
a certificate of the mesh in HBONE only.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from peerauth.model.connections import Arrival
from peerauth.policy.capture import Captured
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode


class ClientKind(StrEnum):
    """What a client shows of itself. Istio's ALPN is what a PERMISSIVE port tells mesh clients by.

    TLS is the application's own as well: it has neither Istio's ALPN nor a certificate of the mesh. MTLS is what a
    sidecar speaks, HBONE what a node's proxy does; who has neither speaks as the application does.
    """

    PLAINTEXT = "plaintext"
    TLS = "tls"
    ISTIO_ALPN_NO_CERT = "istio-alpn-no-cert"
    MTLS = "mtls"
    MTLS_NO_ALPN = "mtls-no-alpn"
    OTHER_CA = "other-ca"
    OTHER_DOMAIN = "other-domain"
    HBONE = "hbone"
    HBONE_NO_CERT = "hbone-no-cert"
    HBONE_OTHER_CA = "hbone-other-ca"
    HBONE_OTHER_DOMAIN = "hbone-other-domain"


TUNNELS = frozenset(
    {ClientKind.HBONE, ClientKind.HBONE_NO_CERT, ClientKind.HBONE_OTHER_CA, ClientKind.HBONE_OTHER_DOMAIN}
)
"""The kinds that open a tunnel on the HBONE port instead of dialling the application's."""

_MESH_CERTIFICATE = frozenset({ClientKind.MTLS, ClientKind.MTLS_NO_ALPN})
_ISTIO_ALPN = frozenset({ClientKind.MTLS, ClientKind.ISTIO_ALPN_NO_CERT, ClientKind.OTHER_CA, ClientKind.OTHER_DOMAIN})
_ALL = Captured()


class Reception(msgspec.Struct, frozen=True):
    """As what a connection arrives, and why, in a sentence without its end."""

    arrival: Arrival
    why: str


def reception(client: ClientKind, server: Decision, port: int | None, *, captured: Captured = _ALL) -> Reception:
    """What becomes of a client at a port, declared or not; None is every port that nobody names.

    `captured` is what of the server reaches its proxy: all, unless something is known to be kept away.
    """
    if client in TUNNELS:
        return _of_tunnel(client, server.dataplane)
    gap = captured.gap(port)
    if gap is not None or not server.dataplane.enforces:
        return Reception(Arrival.UNTOUCHED, f"the port is {gap.why}" if gap else "nothing is enforced here")
    mode = server.in_force(port)
    return _in_ambient(mode) if server.dataplane is Dataplane.AMBIENT else _at_a_sidecar(client, mode)


def _of_tunnel(client: ClientKind, on: Dataplane) -> Reception:
    if not on.enforces:
        return Reception(Arrival.UNREACHABLE, "nothing terminates HBONE here")
    if client is ClientKind.HBONE:
        return Reception(Arrival.MUTUAL_TLS, "HBONE with a certificate of this mesh is accepted in every mode")
    return Reception(Arrival.REFUSED, f"HBONE {_NOT_A_PEER[client]} in every mode")


def _in_ambient(mode: EffectiveMode) -> Reception:
    if mode is EffectiveMode.STRICT:
        return Reception(Arrival.REFUSED, "STRICT in ambient admits HBONE only")
    return Reception(Arrival.PLAINTEXT, "ambient passes on whatever is not HBONE")


def _at_a_sidecar(client: ClientKind, mode: EffectiveMode) -> Reception:
    if mode is EffectiveMode.DISABLE:
        return Reception(Arrival.UNTOUCHED, "DISABLE hands bytes to the application as they are")
    if mode is EffectiveMode.PERMISSIVE and client not in _ISTIO_ALPN:
        passed = Arrival.PLAINTEXT if client is ClientKind.PLAINTEXT else Arrival.PASSTHROUGH_TLS
        return Reception(passed, "PERMISSIVE terminates only TLS with Istio's ALPN")
    if client in _MESH_CERTIFICATE:
        return Reception(Arrival.MUTUAL_TLS, f"{mode} admits a certificate of this mesh")
    return Reception(Arrival.REFUSED, f"{mode} {_NOT_A_PEER[client]}")


_NOT_A_PEER = {
    ClientKind.PLAINTEXT: "admits mutual TLS only",
    ClientKind.TLS: "admits no TLS without a client certificate",
    ClientKind.ISTIO_ALPN_NO_CERT: "terminates Istio's ALPN and requires a client certificate",
    ClientKind.OTHER_CA: "admits no certificate of another authority",
    ClientKind.OTHER_DOMAIN: "admits no certificate of another trust domain",
    ClientKind.HBONE_NO_CERT: "requires a client certificate",
    ClientKind.HBONE_OTHER_CA: "admits no certificate of another authority",
    ClientKind.HBONE_OTHER_DOMAIN: "admits no certificate of another trust domain",
}
