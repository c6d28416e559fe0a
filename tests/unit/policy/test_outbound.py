"""How clients speak to an endpoint: by its own effective mode, port by port."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.identity.spiffe import SpiffeId
from peerauth.model.connections import Arrival
from peerauth.model.inventory import Workload
from peerauth.model.mesh import MeshConfig
from peerauth.model.peerauth import PeerAuthentication
from peerauth.policy.decision import Dataplane, EffectiveMode
from peerauth.policy.outbound import (
    OutboundPeer,
    PortTransport,
    Transport,
    identity_of,
    peer_of,
    transport_to,
)
from peerauth.policy.reception import reception
from peerauth.policy.resolve import resolve
from samples.meshes import PORTS, ROOT, meta, policy, policy_sets

MESH = MeshConfig(trust_domain="example.org")
FINANCE = Workload(meta("foo/finance", {"app": "x"}), service_account="books", addresses=("10.0.0.1", "fd00::1"))


def peer(*policies: PeerAuthentication, on: Dataplane = Dataplane.SIDECAR, mesh: MeshConfig = MESH) -> OutboundPeer:
    decision = resolve(FINANCE.meta.labels, "foo", policies=policies, root_namespace=ROOT, dataplane=on)
    return peer_of(FINANCE, decision=decision, mesh=mesh)


def test_the_peer_has_the_workloads_addresses_and_its_accounts_identity() -> None:
    found = peer()
    assert found.addresses == FINANCE.addresses
    assert found.identity == SpiffeId("example.org", "foo", "books") == identity_of(FINANCE, mesh=MESH)


@pytest.mark.parametrize(
    ("mode", "transport"),
    [("STRICT", Transport.MUTUAL_TLS), ("PERMISSIVE", Transport.MUTUAL_TLS), ("DISABLE", Transport.PLAINTEXT)],
)
def test_a_sidecar_is_spoken_to_by_its_own_mode_not_its_namespaces(mode: str, transport: Transport) -> None:
    for wider in ("DISABLE", "STRICT"):
        found = peer(policy("foo/default", wider), policy("foo/finance", mode, selector={"app": "x"}))
        assert (found.transport, found.exceptions) == (transport, ())


def test_ports_that_differ_in_transport_are_exceptions_and_others_are_not() -> None:
    found = peer(policy("foo/f", "STRICT", selector={"app": "x"}, ports={80: "PERMISSIVE", 8080: "DISABLE"}))
    assert found.exceptions == (PortTransport(8080, Transport.PLAINTEXT),)
    disabled = peer(policy("foo/f", "DISABLE", selector={"app": "x"}, ports={80: "STRICT", 8080: "DISABLE"}))
    assert disabled.transport is Transport.PLAINTEXT
    assert disabled.exceptions == (PortTransport(80, Transport.MUTUAL_TLS),)


@given(policy_sets(), st.sampled_from(list(Dataplane)), st.booleans())
def test_every_port_is_spoken_to_as_it_can_answer(
    policies: list[PeerAuthentication], on: Dataplane, auto_mtls: bool
) -> None:
    mesh = MeshConfig(enable_auto_mtls=auto_mtls)
    decision = resolve(FINANCE.meta.labels, "foo", policies=policies, root_namespace=ROOT, dataplane=on)
    found = peer_of(FINANCE, decision=decision, mesh=mesh)
    for port in PORTS:
        disabled = decision.mode_of(port) is EffectiveMode.DISABLE
        expected = {
            Dataplane.NONE: Transport.PLAINTEXT,
            Dataplane.GATEWAY: Transport.PLAINTEXT,
            Dataplane.AMBIENT: Transport.HBONE,
            Dataplane.SIDECAR: Transport.PLAINTEXT if disabled or not auto_mtls else Transport.MUTUAL_TLS,
        }
        assert found.transport_to(port) is expected[on]


@given(policy_sets(), st.sampled_from(list(Dataplane)), st.sampled_from(list(Dataplane)), st.booleans())
def test_clients_of_each_data_plane_are_told_to_speak_as_they_do(
    policies: list[PeerAuthentication], client: Dataplane, on: Dataplane, auto_mtls: bool
) -> None:
    mesh = MeshConfig(enable_auto_mtls=auto_mtls)
    decision = resolve(FINANCE.meta.labels, "foo", policies=policies, root_namespace=ROOT, dataplane=on)
    found = peer_of(FINANCE, decision=decision, mesh=mesh, client=client)
    assert [found.transport_to(port) for port in PORTS] == [
        transport_to(client, decision, port, mesh=mesh) for port in PORTS
    ]
    if client is Dataplane.AMBIENT:
        assert found.exceptions == ()


MODES = ("DISABLE", "PERMISSIVE", "STRICT")
UNTOUCHED, PLAIN, MUTUAL, REFUSED = Arrival.UNTOUCHED, Arrival.PLAINTEXT, Arrival.MUTUAL_TLS, Arrival.REFUSED
SIDECAR, AMBIENT, NONE = Dataplane.SIDECAR, Dataplane.AMBIENT, Dataplane.NONE


@pytest.mark.parametrize("auto_mtls", [True, False])
@pytest.mark.parametrize(
    ("client", "server", "wanted", "without_auto_mtls"),
    [
        (SIDECAR, SIDECAR, (UNTOUCHED, MUTUAL, MUTUAL), (UNTOUCHED, PLAIN, REFUSED)),
        (SIDECAR, AMBIENT, (MUTUAL, MUTUAL, MUTUAL), (MUTUAL, MUTUAL, MUTUAL)),
        (SIDECAR, NONE, (UNTOUCHED, UNTOUCHED, UNTOUCHED), (UNTOUCHED, UNTOUCHED, UNTOUCHED)),
        (AMBIENT, SIDECAR, (MUTUAL, MUTUAL, MUTUAL), (MUTUAL, MUTUAL, MUTUAL)),
        (AMBIENT, AMBIENT, (MUTUAL, MUTUAL, MUTUAL), (MUTUAL, MUTUAL, MUTUAL)),
        (AMBIENT, NONE, (UNTOUCHED, UNTOUCHED, UNTOUCHED), (UNTOUCHED, UNTOUCHED, UNTOUCHED)),
        (NONE, SIDECAR, (UNTOUCHED, PLAIN, REFUSED), (UNTOUCHED, PLAIN, REFUSED)),
        (NONE, AMBIENT, (PLAIN, PLAIN, REFUSED), (PLAIN, PLAIN, REFUSED)),
    ],
)
def test_as_what_a_client_s_connection_arrives_under_each_mode(
    client: Dataplane,
    server: Dataplane,
    wanted: tuple[Arrival, ...],
    without_auto_mtls: tuple[Arrival, ...],
    auto_mtls: bool,
) -> None:
    mesh = MeshConfig(enable_auto_mtls=auto_mtls)
    for mode, arrival in zip(MODES, wanted if auto_mtls else without_auto_mtls, strict=True):
        policies = [policy("foo/f", "PERMISSIVE", selector={"app": "x"}, ports={8080: mode})]
        decision = resolve(FINANCE.meta.labels, "foo", policies=policies, root_namespace=ROOT, dataplane=server)
        transport = transport_to(client, decision, 8080, mesh=mesh)
        assert reception(transport.client, decision, 8080).arrival is arrival, mode
        if client is SIDECAR:
            assert transport is peer_of(FINANCE, decision=decision, mesh=mesh).transport_to(8080)
