"""Every documented example, and every mode at every level, on one running mesh whose documents are exchanged live.

What must happen is written down here client by client, and never asked of the code under test.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from peerauth.model.placement import Capture
from peerauth.model.world import MeshObject
from rigs.captures import both_captures
from rigs.mesh_clients import SIDECAR, differences
from rigs.mesh_on_this_machine import Machine, example, machine
from samples.levels import LEVELS, D, P, Ports, S, ports

pytestmark = pytest.mark.envoy

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


def test_every_example_is_in_the_table() -> None:
    folder = Path(__file__).parents[2] / "examples" / "finance"
    assert {f"policies/{each.name}" for each in (folder / "policies").iterdir()} == EXAMPLES.keys() - {"policy.yaml"}


async def try_each(running: Machine, cases: Mapping[str, tuple[tuple[MeshObject, ...], Ports]]) -> dict[str, list[str]]:
    failed: dict[str, list[str]] = {}
    for name, (documents, wanted) in cases.items():
        await running.load(documents)
        if found := await differences(running, wanted, SIDECAR):
            failed[name] = found
    return failed


@both_captures
async def test_every_documented_example_does_what_it_says(tmp_path: Path, capture: Capture) -> None:
    """On one mesh, each after the other: what an earlier one left behind would show."""
    async with machine(tmp_path, capture=capture) as running:
        cases = {name: (example(name), wanted) for name, wanted in EXAMPLES.items()}
        assert await try_each(running, cases) == {}


@both_captures
async def test_every_mode_at_every_level_does_what_it_says_to_every_client(tmp_path: Path, capture: Capture) -> None:
    async with machine(tmp_path, capture=capture) as running:
        cases = {name: (example(*policies), wanted) for name, (policies, wanted) in LEVELS.items()}
        assert await try_each(running, cases) == {}
