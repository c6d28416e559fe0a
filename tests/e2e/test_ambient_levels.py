"""Every mode at every level against every client of ambient workloads, on one mesh whose documents change live."""

from __future__ import annotations

from pathlib import Path

import pytest

from ambient_clients import CLIENTS, MEANT, VICTIM, differences, take_address, witnesses
from captures import both_captures
from levels import LEVELS
from mesh_on_this_machine import FINANCE, WEB, machine, objects
from peerauth.dataplane.resources import Capture
from peerauth.probe.kinds import ClientKind

pytestmark = pytest.mark.envoy

MESH = Path(__file__).parents[2] / "examples" / "ambient" / "mesh.yaml"


def test_the_table_tells_every_client() -> None:
    assert MEANT.keys() == CLIENTS.keys() > {kind.value for kind in ClientKind}


@both_captures
async def test_every_mode_at_every_level_does_what_it_says_to_every_client(tmp_path: Path, capture: Capture) -> None:
    """Each case after the other, so what an earlier one left behind would show."""
    async with machine(tmp_path, capture=capture) as running:
        await running.load(objects(MESH))
        await take_address(running, VICTIM, before=(FINANCE, WEB))
        failed: dict[str, list[str]] = {}
        async with witnesses(running) as applications:
            for name, (policies, wanted) in LEVELS.items():
                await running.load(objects(MESH, *policies))
                if found := await differences(running, wanted, seen_by=applications):
                    failed[name] = found
        assert failed == {}
