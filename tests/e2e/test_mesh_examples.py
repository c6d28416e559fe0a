"""Every documented example, and every mode at every level, on one running mesh whose documents are exchanged live.

What must happen is written down here client by client, and never asked of the code under test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from captures import both_captures
from levels import APP, IN, LEVELS, NO, SEEN, UNDECLARED, D, P, Ports, S, ports
from mesh_on_this_machine import Machine, example, machine
from peerauth.dataplane.resources import Capture
from peerauth.model.inventory import WorkloadKey
from peerauth.model.world import MeshObject
from peerauth.probe import Attempt, ProbeTarget, attempt
from peerauth.probe.kinds import ClientKind

pytestmark = pytest.mark.envoy

MEANT: dict[str, dict[str, str]] = {
    "STRICT": {
        "plaintext": NO,
        "tls": NO,
        "istio-alpn-no-cert": NO,
        "mtls": IN,
        "mtls-no-alpn": IN,
        "other-ca": NO,
        "other-domain": NO,
        "hbone": IN,
        "hbone-no-cert": NO,
    },
    "PERMISSIVE": {
        "plaintext": IN,
        "tls": APP,
        "istio-alpn-no-cert": NO,
        "mtls": IN,
        "mtls-no-alpn": APP,
        "other-ca": NO,
        "other-domain": NO,
        "hbone": IN,
        "hbone-no-cert": NO,
    },
    "DISABLE": {
        "plaintext": IN,
        "tls": APP,
        "istio-alpn-no-cert": APP,
        "mtls": APP,
        "mtls-no-alpn": APP,
        "other-ca": APP,
        "other-domain": APP,
        "hbone": IN,
        "hbone-no-cert": NO,
    },
}

EXAMPLES: dict[str, Ports] = {
    "policy.yaml": ports(D, S, S, finance=S),
    "policies/1-namespace-strict": ports(S, S, S, finance=S),
    "policies/2-workload-strict": ports(S, S, P, finance=S),
    "policies/3-port-disable": ports(D, S, P, finance=S),
    "policies/4a-alone": ports(D, P, P, finance=P),
    "policies/4b-under-strict-namespace": ports(D, S, S, finance=S),
    "policies/4c-under-strict-mesh": ports(D, S, S, finance=S),
    "policies/5-mesh-strict": ports(P, P, P, finance=P, ledger=S),
}


async def differences(running: Machine, wanted: Ports) -> list[str]:
    """Every client that did not meet what it had to."""
    found = await asyncio.gather(
        *(
            _difference(running, key, port, mode, kind)
            for (key, port), mode in wanted.items()
            if port != UNDECLARED or running.network.capture is Capture.TRANSPARENT
            for kind in ClientKind
        )
    )
    return [said for said in found if said]


async def _difference(running: Machine, key: WorkloadKey, port: int, mode: str, kind: ClientKind) -> str:
    made = await _attempt(running, key, port, kind)
    wanted, seen = MEANT[mode][kind.value], SEEN.get(made.outcome, made.outcome.value)
    return "" if seen == wanted else f"{key}:{port} {kind.value}: {seen} ({made.evidence}), must be: {wanted}"


async def _attempt(running: Machine, key: WorkloadKey, port: int, kind: ClientKind) -> Attempt:
    target = ProbeTarget(running.at(key), port)
    return await attempt(
        target, kind, running.presented, sockets=running.network.outside(), connect_seconds=10, answer_seconds=10
    )


def test_the_table_tells_every_kind_of_client_and_every_example() -> None:
    assert all(list(clients) == [kind.value for kind in ClientKind] for clients in MEANT.values())
    folder = Path(__file__).parents[2] / "examples" / "finance"
    assert {f"policies/{each.name}" for each in (folder / "policies").iterdir()} == EXAMPLES.keys() - {"policy.yaml"}


async def try_each(running: Machine, cases: Mapping[str, tuple[tuple[MeshObject, ...], Ports]]) -> dict[str, list[str]]:
    failed: dict[str, list[str]] = {}
    for name, (documents, wanted) in cases.items():
        await running.load(documents)
        if found := await differences(running, wanted):
            failed[name] = found
    return failed


@both_captures
async def test_every_documented_example_does_what_it_says(tmp_path: Path, capture: Capture) -> None:
    """On one mesh, each after the other: what an earlier one left behind would show."""
    async with machine(tmp_path, capture=capture, applications=True) as running:
        cases = {name: (example(name), wanted) for name, wanted in EXAMPLES.items()}
        assert await try_each(running, cases) == {}


@both_captures
async def test_every_mode_at_every_level_does_what_it_says_to_every_client(tmp_path: Path, capture: Capture) -> None:
    async with machine(tmp_path, capture=capture, applications=True) as running:
        cases = {name: (example(*policies), wanted) for name, (policies, wanted) in LEVELS.items()}
        assert await try_each(running, cases) == {}
