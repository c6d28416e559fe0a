"""Every mode at every level against every client of ambient workloads, on one mesh whose documents change live."""

from __future__ import annotations

import asyncio
from itertools import product
from pathlib import Path

import pytest

from peerauth.model.placement import Capture
from peerauth.policy.reception import ClientKind
from rigs.captures import both_captures, transparent_only
from rigs.clients import PATIENCE_S
from rigs.mesh_clients import AMBIENT, CLIENTS, SIDECAR, differences
from rigs.mesh_on_this_machine import CLIENT, FINANCE, Ledger, machine, objects, policy
from samples.levels import LEVELS, UNDECLARED, D, P, S

pytestmark = pytest.mark.envoy

MESH = Path(__file__).parents[2] / "examples" / "ambient" / "mesh.yaml"
BANNER = b"220 ready\r\n"


def test_the_tables_tell_every_client() -> None:
    assert AMBIENT.keys() == SIDECAR.keys() == CLIENTS.keys() > {kind.value for kind in ClientKind}


@both_captures
async def test_every_mode_at_every_level_does_what_it_says_to_every_client(tmp_path: Path, capture: Capture) -> None:
    """Each case after the other, so what an earlier one left behind would show."""
    failed: dict[str, list[str]] = {}
    async with machine(tmp_path, capture=capture) as running:
        for name, (policies, wanted) in LEVELS.items():
            await running.load(objects(MESH, *policies))
            if found := await differences(running, wanted, AMBIENT):
                failed[name] = found
    assert failed == {}


class SpeaksFirst(Ledger):
    """An application that greets whoever comes, and repeats what it hears after that."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BANNER)
        await super().serve(reader, writer)


@transparent_only
async def test_a_server_that_speaks_first_is_heard_in_every_mode_by_whom_it_lets_in(tmp_path: Path) -> None:
    """Nobody says a word before: not to the proxy either, which has nothing to tell a protocol by."""
    async with machine(tmp_path, capture=Capture.TRANSPARENT) as running:
        await running.load(objects(MESH))
        application = await running.serve(FINANCE, 8080, UNDECLARED, ledger=SpeaksFirst())
        for mode in (S, P, D):
            await running.load(objects(MESH, policy("foo", mode)))
            for caller, port, ipv6 in product((None, CLIENT), (8080, UNDECLARED), (False, True)):
                connection = await running.dial(FINANCE, port, by=caller, ipv6=ipv6)
                if mode == S and caller is None:
                    assert await connection.ended()
                else:
                    async with asyncio.timeout(PATIENCE_S):
                        assert await connection.reader.readexactly(len(BANNER)) == BANNER
                    assert await connection.echoes()
        assert application.connections == 4 + 8 + 8
