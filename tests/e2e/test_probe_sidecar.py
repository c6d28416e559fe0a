"""The probe against a real sidecar: what it reports for every mode and client is what the policy says.

The proofs that `--once` and `probe` give rest on this: the probe recognises a refusal, an acceptance and a passing
through when a real Envoy does them, in both kinds of capture.
"""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from peerauth.agent.admin import ask
from peerauth.agent.echo import EchoApplication, listen_tcp
from peerauth.agent.netns import MeshNetwork, sockets_of, unsupported
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.envoy.sidecar_values import ApplicationPort
from peerauth.model.endpoint import Endpoint
from peerauth.model.placement import Capture
from peerauth.policy.reception import ClientKind
from peerauth.probe import (
    Attempt,
    ClientCertificate,
    Credentials,
    Outcome,
    ProbeTarget,
    ProbeVerdict,
    SocketFactory,
    attempt,
    foreign_certificate,
    judge_port,
)
from rigs.envoyrig import Authority, running_envoy
from samples.sidecars import CLIENT, FINANCE, decided, sidecar

pytestmark = pytest.mark.envoy
root = pytest.mark.skipif(bool(unsupported()), reason=unsupported() or "supported")

MODES = ("STRICT", "PERMISSIVE", "DISABLE")
LOOPBACK = "127.77.83.1"
APPLICATION = "127.77.83.2"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def credentials(authority: Authority) -> Credentials:
    return Credentials(
        roots=authority.root_pem,
        mesh=ClientCertificate(*authority.issue(CLIENT.uri)),
        other_ca=foreign_certificate(CLIENT.uri),
        other_domain=ClientCertificate(*authority.issue(CLIENT.uri.replace("cluster.local", "elsewhere"))),
    )


async def probe_all(
    target: ProbeTarget, mode: str, credentials: Credentials, *, sockets: SocketFactory | None = None
) -> tuple[ProbeVerdict, ...]:
    attempts: list[Attempt] = []
    for kind in ClientKind:
        attempts.append(await attempt(target, kind, credentials, sockets=sockets))
    return judge_port(decided(mode), target.port, attempts)


async def listening(admin: Path) -> None:
    """Returns once Envoy's listeners accept: it is live a little after it says that it starts its workers."""
    async with asyncio.timeout(20):
        while (await ask(admin, "/ready")).status != 200:  # noqa: ASYNC110  there is no event for it
            await asyncio.sleep(0.01)


def complaints(verdicts: tuple[ProbeVerdict, ...]) -> list[str]:
    return [f"{verdict.attempt.kind}: {verdict.sentence}" for verdict in verdicts if not verdict.ok]


@pytest.mark.parametrize("server_first", [False, True], ids=["client speaks first", "server speaks first"])
@pytest.mark.parametrize("mode", MODES)
async def test_explicit_capture(
    tmp_path: Path, authority: Authority, credentials: Credentials, mode: str, server_first: bool
) -> None:
    declared = (ApplicationPort(8080, Endpoint(APPLICATION, 8080)),)
    resources = render_sidecar(sidecar(decided(mode), addresses=(LOOPBACK,), declared=declared))
    listener = listen_tcp(APPLICATION, 8080)
    async with (
        EchoApplication(listener, workload="foo/finance", server_first=server_first),
        running_envoy(tmp_path, resources, authority.secrets(FINANCE.uri)),
    ):
        await listening(tmp_path / "admin")
        verdicts = await probe_all(ProbeTarget(LOOPBACK, 8080), mode, credentials)
    assert complaints(verdicts) == []
    others = [judge_port(decided(other), 8080, [v.attempt for v in verdicts]) for other in MODES if other != mode]
    assert all(complaints(judged) for judged in others), "the attempts must tell the modes apart"
    terminated = {v.attempt.kind for v in verdicts if v.attempt.server == FINANCE.uri}
    assert ClientKind.HBONE in terminated
    assert (ClientKind.MTLS in terminated) is (mode != "DISABLE")


@root
@pytest.mark.root
@pytest.mark.parametrize("mode", MODES)
async def test_transparent_capture_of_declared_and_undeclared_ports_in_both_families(
    tmp_path: Path, authority: Authority, credentials: Credentials, mode: str
) -> None:
    async with MeshNetwork() as network:
        finance = await network.add("foo/finance")
        outside = await network.add("bar/outside", capture=False)
        workload = sidecar(
            decided(mode), addresses=finance.addresses, declared=(ApplicationPort(8080),), capture=Capture.TRANSPARENT
        )
        inside, ports = sockets_of(finance.path), (8080, 9999)
        families = ("0.0.0.0", "::")[: len(finance.addresses)]  # noqa: S104  a namespace's
        applications = [
            EchoApplication(listen_tcp(address, port, sockets=inside), workload="foo/finance")
            for address, port in itertools.product(families, ports)
        ]
        for application in applications:
            await application.__aenter__()
        try:
            secrets = authority.secrets(FINANCE.uri)
            async with running_envoy(tmp_path, render_sidecar(workload), secrets, network_namespace=finance.path):
                await listening(tmp_path / "admin")
                for address, port in itertools.product(finance.addresses, ports):
                    verdicts = await probe_all(
                        ProbeTarget(address, port), mode, credentials, sockets=sockets_of(outside.path)
                    )
                    assert complaints(verdicts) == [], f"{address} port {port}"
        finally:
            for application in applications:
                await application.__aexit__(None, None, None)


@root
@pytest.mark.root
async def test_while_no_proxy_runs_a_captured_port_is_unreachable_and_nothing_is_proved(
    credentials: Credentials,
) -> None:
    async with MeshNetwork() as network:
        finance = await network.add("foo/finance")
        outside = await network.add("bar/outside", capture=False)
        listener = listen_tcp("0.0.0.0", 8080, sockets=sockets_of(finance.path))  # noqa: S104
        async with EchoApplication(listener, workload="foo/finance"), asyncio.timeout(30):
            target = ProbeTarget(finance.addresses[0], 8080)
            verdicts = await probe_all(target, "STRICT", credentials, sockets=sockets_of(outside.path))
    assert {verdict.attempt.outcome for verdict in verdicts} == {Outcome.UNREACHABLE}
    assert not any(verdict.ok for verdict in verdicts)
