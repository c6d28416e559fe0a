"""As what each kind of client arrives under each mode, on each data plane; written down client by client."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import pytest

from peerauth.model.connections import Arrival
from peerauth.policy.capture import Captured, Gap
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode, PortDecision
from peerauth.policy.outbound import Transport
from peerauth.policy.reception import TUNNELS, ClientKind, reception

P, T, M = Arrival.PLAINTEXT, Arrival.PASSTHROUGH_TLS, Arrival.MUTUAL_TLS
U, R, N = Arrival.UNTOUCHED, Arrival.REFUSED, Arrival.UNREACHABLE

MODES = (EffectiveMode.STRICT, EffectiveMode.PERMISSIVE, EffectiveMode.DISABLE)
Table = Mapping[ClientKind, tuple[Arrival, Arrival, Arrival]]

# STRICT, PERMISSIVE, DISABLE.
SIDECAR: Table = {
    ClientKind.PLAINTEXT: (R, P, U),
    ClientKind.TLS: (R, T, U),
    ClientKind.ISTIO_ALPN_NO_CERT: (R, R, U),
    ClientKind.MTLS: (M, M, U),
    ClientKind.MTLS_NO_ALPN: (M, T, U),
    ClientKind.OTHER_CA: (R, R, U),
    ClientKind.OTHER_DOMAIN: (R, R, U),
    ClientKind.HBONE: (M, M, M),
    ClientKind.HBONE_NO_CERT: (R, R, R),
    ClientKind.HBONE_OTHER_CA: (R, R, R),
    ClientKind.HBONE_OTHER_DOMAIN: (R, R, R),
}
AMBIENT: Table = {kind: SIDECAR[kind] if kind in TUNNELS else (R, P, P) for kind in ClientKind}
BARE: Table = {kind: (N, N, N) if kind in TUNNELS else (U, U, U) for kind in ClientKind}
TABLES = {Dataplane.SIDECAR: SIDECAR, Dataplane.AMBIENT: AMBIENT, Dataplane.GATEWAY: BARE, Dataplane.NONE: BARE}


def test_the_tables_cover_every_kind_and_data_plane() -> None:
    assert set(SIDECAR) == set(ClientKind)
    assert set(TABLES) == set(Dataplane)


@pytest.mark.parametrize(("on", "kind"), [*product(Dataplane, ClientKind)])
def test_a_client_arrives_as_the_table_says_on_every_port_of_a_mode(on: Dataplane, kind: ClientKind) -> None:
    for mode, arrival in zip(MODES, TABLES[on][kind], strict=True):
        for other in MODES:
            named = Decision(on, other, (PortDecision(8080, mode),))
            for server, port in ((Decision(on, mode), None), (Decision(on, mode), 8080), (named, 8080)):
                received = reception(kind, server, port)
                assert received.arrival is arrival, (mode, port)
                assert received.why


@pytest.mark.parametrize(("on", "kind"), [*product(Dataplane, ClientKind)])
def test_what_does_not_reach_the_proxy_goes_to_the_application_but_tunnels_do_reach_it(
    on: Dataplane, kind: ClientKind
) -> None:
    gap = Gap("kept away from the proxy by the annotation A", "the annotation A", "A")
    for mode, port in product(MODES, (None, 8080, 9000)):
        server = Decision(on, mode)
        everything = reception(kind, server, port)
        missed = reception(kind, server, port, captured=Captured({9000: None}, others=gap))
        if kind in TUNNELS or port == 9000:
            assert missed == everything
        else:
            assert missed.arrival is Arrival.UNTOUCHED
            assert "kept away from the proxy by the annotation A" in missed.why


@pytest.mark.parametrize("transport", Transport)
def test_what_a_client_s_proxy_speaks_is_a_kind_of_client(transport: Transport) -> None:
    by_sidecar = {mode: reception(transport.client, Decision(Dataplane.SIDECAR, mode), 8080).arrival for mode in MODES}
    assert by_sidecar == dict(zip(MODES, SIDECAR[ClientKind(transport.value)], strict=True))
