"""What other documents than policies change: where the application listens, whom the mesh trusts, which TLS it speaks;
and what the proxies make of what applications dial.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from pathlib import Path

import pytest

from peerauth.agent.echo import listen_tcp
from peerauth.local.flows import prove_flows
from peerauth.model.connections import Arrival, ConnectionSeen
from peerauth.model.inventory import WorkloadKey
from peerauth.model.placement import Capture
from rigs.clients import loopback
from rigs.mesh_on_this_machine import (
    CLIENT,
    EGRESS,
    EXAMPLE,
    FINANCE,
    LEGACY,
    NO_ROOT,
    WEB,
    Ledger,
    Machine,
    application,
    example,
    machine,
    objects,
    policy,
)

pytestmark = pytest.mark.envoy

needs_root = [pytest.mark.root, pytest.mark.skipif(bool(NO_ROOT), reason=NO_ROOT or "supported")]
both_captures = pytest.mark.parametrize(
    "capture", [Capture.EXPLICIT, pytest.param(Capture.TRANSPARENT, marks=needs_root)]
)
both_families = pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])

S, P, D = "STRICT", "PERMISSIVE", "DISABLE"
STRICT_AND_PERMISSIVE = policy("foo", P, app="finance", ports={8080: S, 9000: P})


BARE = (
    "apiVersion: v1\nkind: Pod\nmetadata: {name: bare, namespace: foo, uid: 0c9ac3f5}\n"
    "spec: {containers: [{name: app, ports: [{containerPort: 8080}]}]}\n"
)
"""A pod of a namespace with injection that runs without a sidecar."""
GATEWAY = (
    "apiVersion: v1\nkind: Pod\nmetadata: {name: gateway, namespace: foo}\n"
    "spec: {containers: [{name: istio-proxy, args: [proxy, router]}]}\n"
)


def mesh_config(text: str) -> str:
    """Istio's mesh configuration, where Istio keeps it."""
    lines = "".join(f"    {line}\n" for line in text.splitlines())
    return (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n" + lines
    )


def ingress(*listeners: tuple[int, str]) -> str:
    """A Sidecar that says where finance's application really listens."""
    entries = "".join(
        f"  - port: {{number: {port}, protocol: TCP, name: tcp-{port}}}\n    defaultEndpoint: {endpoint}\n"
        for port, endpoint in listeners
    )
    return (
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: finance, namespace: foo}\nspec:\n"
        "  workloadSelector: {labels: {app: finance}}\n  ingress:\n" + entries
    )


@both_captures
async def test_the_application_is_where_the_sidecar_s_ingress_says(tmp_path: Path, capture: Capture) -> None:
    """Another address and port, or a Unix socket: the port's own mode holds all the same."""
    inside, path = loopback(77), f"/tmp/peerauth-test-{os.getpid()}.sock"
    documents = example(STRICT_AND_PERMISSIVE, ingress((8080, f"{inside}:7070"), (9000, f"unix://{path}")))
    async with machine(tmp_path, capture=capture) as running:
        await running.load(documents)
        tcp, unix = Ledger(), Ledger()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        try:
            async with (
                application(listen_tcp(inside, 7070, sockets=running.network.sockets(FINANCE)), tcp),
                application(listener, unix),
            ):
                assert not await running.reaches(FINANCE, 8080)
                assert tcp.connections == 0
                assert await running.reaches(FINANCE, 8080, tls=running.mutual())
                assert (tcp.connections, unix.connections) == (1, 0)
                assert await running.reaches(FINANCE, 9000)
                assert await running.reaches(FINANCE, 9000, tls=running.mutual())
                assert (tcp.connections, unix.connections) == (1, 2)
                await running.load(example(policy("foo", S), ingress((8080, f"unix://{path}"))))
                assert await running.reaches(FINANCE, 8080, tls=running.mutual())
                assert not await running.reaches(FINANCE, 8080)
                assert (tcp.connections, unix.connections) == (1, 3)
        finally:
            os.unlink(path)


async def test_a_client_of_a_trust_domain_alias_is_let_in_for_as_long_as_it_is_an_alias(tmp_path: Path) -> None:
    alias = mesh_config("trustDomain: cluster.local\ntrustDomainAliases: [not-cluster.local]")
    async with machine(tmp_path) as running:
        stranger = running.mutual(certificate=running.presented.other_domain)
        await running.load(example(policy("foo", S)))
        await running.serve(FINANCE, 8080)
        assert not await running.reaches(FINANCE, 8080, tls=stranger)
        await running.load(example(policy("foo", S), alias))
        assert await running.reaches(FINANCE, 8080, tls=stranger)
        assert await running.reaches(FINANCE, 8080, tls=running.mutual())
        assert not await running.reaches(FINANCE, 8080, tls=running.mutual(certificate=running.presented.other_ca)), (
            "an alias is another name, not another authority"
        )
        await running.load(example(policy("foo", S)))
        assert not await running.reaches(FINANCE, 8080, tls=stranger)


async def test_the_mesh_s_least_tls_version_holds_for_clients_and_suits_its_own_proxies(tmp_path: Path) -> None:
    async with machine(tmp_path) as running:
        older = running.mutual(newest=ssl.TLSVersion.TLSv1_2)
        await running.load(example(policy("foo", S)))
        await running.serve(FINANCE, 8080)
        assert await running.reaches(FINANCE, 8080, tls=older)
        await running.load(example(policy("foo", S), mesh_config("meshMTLS: {minProtocolVersion: TLSV1_3}")))
        assert not await running.reaches(FINANCE, 8080, tls=older)
        assert await running.reaches(FINANCE, 8080, tls=running.mutual())
        connection = await running.dial_at(EGRESS, 8080)
        assert await connection.echoes()


async def arrived(running: Machine, server: WorkloadKey, port: int, *, ipv6: bool) -> ConnectionSeen:
    """What the application of foo/client dials in plaintext, as the server's proxy saw it arrive."""
    with running.arrivals() as arrivals:
        assert await running.reaches(server, port, by=CLIENT, ipv6=ipv6)
        async with asyncio.timeout(5):
            while True:
                seen = await arrivals.get()
                if (seen.workload, seen.port) == (str(server), port):
                    return seen


@pytest.mark.root
@pytest.mark.skipif(bool(NO_ROOT), reason=NO_ROOT or "supported")
@both_families
async def test_what_an_application_dials_goes_out_as_each_endpoint_wants_it(tmp_path: Path, ipv6: bool) -> None:
    async with machine(tmp_path, capture=Capture.TRANSPARENT) as running:
        await running.load(example(policy("foo", S), policy("foo", S, app="finance", ports={9000: D}), BARE, GATEWAY))
        strict = await running.serve(FINANCE, 8080, 7777)
        untouched = await running.serve(FINANCE, 9000)
        elsewhere = await running.serve(LEGACY, 8080)

        for port in (8080, 7777):
            seen = await arrived(running, FINANCE, port, ipv6=ipv6)
            assert seen.arrival is Arrival.MUTUAL_TLS, f"port {port}"
            assert seen.peer is not None
            assert seen.peer.uri == "spiffe://cluster.local/ns/foo/sa/client"
        assert (await arrived(running, FINANCE, 9000, ipv6=ipv6)).arrival is Arrival.UNTOUCHED
        assert untouched.connections == 1
        assert await running.reaches(LEGACY, 8080, by=CLIENT, ipv6=ipv6), "what is outside the mesh gets plaintext"
        assert elsewhere.connections == 1

        for name in ("bare", "gateway"):
            key = WorkloadKey("foo", name)
            reached = await running.serve(key, 8080)
            for client in (CLIENT, LEGACY):
                assert await running.reaches(key, 8080, by=client, ipv6=ipv6), f"no proxy stands before {key}"
            assert reached.connections == 2

        received = strict.received
        for port in (8080, 7777):
            assert not await running.reaches(FINANCE, port, by=LEGACY, ipv6=ipv6)
        assert strict.received == received
        assert await running.reaches(FINANCE, 9000, by=LEGACY, ipv6=ipv6)

        # A workload's own traffic to itself is its own business; to others it is its proxy's.
        await running.serve(WEB, 8080)
        assert (await arrived(running, WEB, 8080, ipv6=ipv6)).arrival is Arrival.MUTUAL_TLS
        assert await running.reaches(WEB, 8080, by=WEB, ipv6=ipv6)


async def test_in_explicit_capture_the_egress_listener_speaks_as_each_port_wants_it(tmp_path: Path) -> None:
    async with machine(tmp_path) as running:
        await running.load(example("policy.yaml"))
        await running.serve(FINANCE, 8080, 9000)
        for port, wanted in ((8080, Arrival.UNTOUCHED), (9000, Arrival.MUTUAL_TLS)):
            with running.arrivals() as arrivals:
                connection = await running.dial_at(EGRESS, port)
                assert await connection.echoes()
                async with asyncio.timeout(5):
                    assert (await arrivals.get()).arrival is wanted


NO_AUTO_MTLS = mesh_config("enableAutoMtls: false")


async def flows(running: Machine) -> dict[tuple[WorkloadKey, WorkloadKey, int], Arrival | None]:
    """What arrived of what applications sent through their own proxies; all of it must be as the policy says."""
    reports = await prove_flows(running.mesh, log=running.log, presented=running.presented)
    assert [report.sentence for report in reports if not report.ok] == []
    return {(each.flow.client, each.flow.server, each.flow.server_port): each.arrived for each in reports}


async def test_an_edit_of_the_mesh_configuration_reaches_the_clients_and_the_proof_knows_it(tmp_path: Path) -> None:
    """Without auto mTLS a sidecar sends what its application sends, and a STRICT port refuses that."""
    mutual = {(CLIENT, FINANCE, 8080): Arrival.MUTUAL_TLS, (CLIENT, FINANCE, 9000): Arrival.MUTUAL_TLS}
    as_sent = {(CLIENT, FINANCE, 8080): Arrival.REFUSED, (CLIENT, FINANCE, 9000): Arrival.PLAINTEXT}
    async with machine(tmp_path, applications=True) as running:
        for edit, arrives in (((), mutual), ((NO_AUTO_MTLS,), as_sent), ((), mutual)):
            await running.load(example(STRICT_AND_PERMISSIVE, *edit))
            assert await flows(running) == arrives


@pytest.mark.root
@pytest.mark.skipif(bool(NO_ROOT), reason=NO_ROOT or "supported")
async def test_without_auto_mtls_tunnels_are_what_they_were_and_sidecars_send_what_applications_send(
    tmp_path: Path,
) -> None:
    """finance and client have a sidecar, errand and web none."""
    mixed = EXAMPLE.parent / "mixed" / "mesh.yaml"
    async with machine(tmp_path, capture=Capture.TRANSPARENT, applications=True) as running:
        await running.load(objects(mixed, policy("foo", S), STRICT_AND_PERMISSIVE, NO_AUTO_MTLS))
        found = await flows(running)
        assert found[CLIENT, FINANCE, 8080] is Arrival.REFUSED
        assert found[CLIENT, FINANCE, 9000] is Arrival.PLAINTEXT
        others = {arrived for (client, server, _), arrived in found.items() if (client, server) != (CLIENT, FINANCE)}
        assert others == {Arrival.MUTUAL_TLS}
        assert {client.name for client, _, _ in found} == {"client", "errand"}
