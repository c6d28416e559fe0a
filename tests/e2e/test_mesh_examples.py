"""Every documented example, and every mode at every level, on one running mesh whose documents are exchanged live.

What must happen is written down here client by client, and never asked of the code under test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from mesh_on_this_machine import FINANCE, NO_ROOT, WEB, Machine, example, machine, policy
from peerauth.dataplane.resources import Capture
from peerauth.model.inventory import WorkloadKey
from peerauth.model.world import MeshObject
from peerauth.probe import Attempt, ProbeTarget, attempt
from peerauth.probe.kinds import ClientKind, Outcome

pytestmark = pytest.mark.envoy

both_captures = pytest.mark.parametrize(
    "capture",
    [
        Capture.EXPLICIT,
        pytest.param(
            Capture.TRANSPARENT,
            marks=[pytest.mark.root, pytest.mark.skipif(bool(NO_ROOT), reason=NO_ROOT or "supported")],
        ),
    ],
)

LEDGER = WorkloadKey("bar", "ledger", "Deployment")
UNDECLARED = 18080

IN, APP, NO = "reaches the application", "its own bytes reach the application", "refused"
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
SEEN = {Outcome.ACCEPTED: IN, Outcome.PASSED_THROUGH: APP, Outcome.REFUSED: NO}

S, P, D = "STRICT", "PERMISSIVE", "DISABLE"
Ports = Mapping[tuple[WorkloadKey, int], str]


def ports(finance_8080: str, finance_9000: str, web: str, *, finance: str, ledger: str = "") -> Ports:
    """Modes by port; `finance` is for the port of finance that no one declared, web has one mode for all."""
    found = {
        (FINANCE, 8080): finance_8080,
        (FINANCE, 9000): finance_9000,
        (FINANCE, UNDECLARED): finance,
        (WEB, 8080): web,
        (WEB, UNDECLARED): web,
    }
    return found | {(LEDGER, 8080): ledger, (LEDGER, UNDECLARED): ledger} if ledger else found


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

ROOT = "istio-system"
LEVELS: dict[str, tuple[tuple[str, ...], Ports]] = {
    "nothing at all": ((), ports(P, P, P, finance=P)),
    "mesh STRICT": ((policy(ROOT, S),), ports(S, S, S, finance=S)),
    "mesh PERMISSIVE": ((policy(ROOT, P),), ports(P, P, P, finance=P)),
    "mesh DISABLE": ((policy(ROOT, D),), ports(D, D, D, finance=D)),
    "mesh UNSET": ((policy(ROOT, "UNSET"),), ports(P, P, P, finance=P)),
    "namespace STRICT over mesh DISABLE": ((policy(ROOT, D), policy("foo", S)), ports(S, S, S, finance=S)),
    "namespace PERMISSIVE over mesh STRICT": ((policy(ROOT, S), policy("foo", P)), ports(P, P, P, finance=P)),
    "namespace DISABLE over mesh STRICT": ((policy(ROOT, S), policy("foo", D)), ports(D, D, D, finance=D)),
    "namespace UNSET under mesh STRICT": ((policy(ROOT, S), policy("foo", "UNSET")), ports(S, S, S, finance=S)),
    "workload STRICT over namespace DISABLE": (
        (policy("foo", D), policy("foo", S, app="finance")),
        ports(S, S, D, finance=S),
    ),
    "workload PERMISSIVE over namespace STRICT": (
        (policy("foo", S), policy("foo", P, app="finance")),
        ports(P, P, S, finance=P),
    ),
    "workload DISABLE over namespace STRICT": (
        (policy("foo", S), policy("foo", D, app="finance")),
        ports(D, D, S, finance=D),
    ),
    "workload UNSET under namespace STRICT": (
        (policy("foo", S), policy("foo", "UNSET", app="finance")),
        ports(S, S, S, finance=S),
    ),
    "port STRICT over workload PERMISSIVE": (
        (policy("foo", P, app="finance", ports={8080: S}),),
        ports(S, P, P, finance=P),
    ),
    "port PERMISSIVE over workload STRICT": (
        (policy("foo", S, app="finance", ports={8080: P}),),
        ports(P, S, P, finance=S),
    ),
    "port DISABLE over workload STRICT": (
        (policy("foo", S, app="finance", ports={8080: D}),),
        ports(D, S, P, finance=S),
    ),
    "port UNSET under workload STRICT": (
        (policy("foo", S, app="finance", ports={8080: "UNSET"}),),
        ports(S, S, P, finance=S),
    ),
    "a port that no one declared STRICT over workload PERMISSIVE": (
        (policy("foo", P, app="finance", ports={UNDECLARED: S}),),
        ports(P, P, P, finance=S),
    ),
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
