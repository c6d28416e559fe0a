"""`peerauth up` with a real ztunnel as the node's proxy: the same documents, the same proof, live edits, outages."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from peerauth.identity.spiffe import SpiffeId
from peerauth.model.connections import Arrival
from peerauth.model.inventory import Workload
from peerauth.model.placement import Capture
from peerauth.model.world import MeshObject
from rigs.mesh_on_this_machine import CLIENT, FINANCE, WEB, Machine, hammering, machine, objects, policy, until
from rigs.up_process import peerauth_up
from rigs.ztunnelrig import BINARY, missing

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(missing()), reason=missing() or "a ztunnel is at hand"),
]

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(*policies: str) -> tuple[MeshObject, ...]:
    return objects(EXAMPLES / "ambient" / "mesh.yaml", *policies)


def with_ztunnel(folder: Path) -> contextlib.AbstractAsyncContextManager[Machine]:
    return machine(folder, capture=Capture.TRANSPARENT, ztunnel=Path(BINARY))


@pytest.mark.parametrize(
    "documents",
    [
        ["ambient"],
        ["ambient/mesh.yaml", "ambient/policies/5-mesh-strict"],
        pytest.param(["mixed"], marks=pytest.mark.envoy),
    ],
    ids=" ".join,
)
async def test_the_examples_are_proved_as_with_an_envoy(tmp_path: Path, documents: list[str]) -> None:
    paths = [str(EXAMPLES / each) for each in documents]
    async with peerauth_up(tmp_path, *paths, "--apps", "--once", "--capture", "transparent", "--ztunnel", BINARY) as up:
        assert await up.ends() == 0, "".join([*up.out, *up.err])
        await up.says("one ztunnel for")
        await up.says("every one did what the policy says")


async def test_an_edit_to_strict_cuts_plaintext_and_leaves_tunnels_and_neighbours_alone(tmp_path: Path) -> None:
    async with with_ztunnel(tmp_path) as running:
        await running.load(example(policy("foo", "PERMISSIVE")))
        await running.serve(FINANCE, 8080)
        await running.serve(WEB, 8080)
        plain, neighbour = await running.dial(FINANCE, 8080), await running.dial(WEB, 8080)
        tunnel = await running.dial(FINANCE, 8080, by=CLIENT)
        for connection in (plain, neighbour, tunnel):
            assert await connection.echoes()
        await running.load(example(policy("foo", "PERMISSIVE"), policy("foo", "STRICT", app="finance")))
        assert await plain.ended()
        assert not await running.reaches(FINANCE, 8080)
        assert await running.reaches(FINANCE, 8080, by=CLIENT, ipv6=True)
        assert await tunnel.echoes()
        assert await neighbour.echoes()
        await running.load(example(policy("foo", "PERMISSIVE")))
        assert await running.reaches(FINANCE, 8080)


async def test_what_it_logs_says_how_a_connection_arrived(tmp_path: Path) -> None:
    async with with_ztunnel(tmp_path) as running:
        await running.load(example(policy("foo", "STRICT", ports={}), policy("foo", "PERMISSIVE", app="finance")))
        for key in (FINANCE, WEB):
            await running.serve(key, 8080)
        for key, by, outcome in (
            (FINANCE, None, Arrival.PLAINTEXT),
            (FINANCE, CLIENT, Arrival.MUTUAL_TLS),
            (WEB, None, Arrival.REFUSED),
        ):
            with running.arrivals() as arrivals:
                assert await running.reaches(key, 8080, by=by) is (outcome is not Arrival.REFUSED)
                seen = await arrivals.get()
            assert (seen.workload, seen.port, seen.arrival) == (str(key), 8080, outcome)
            assert seen.peer == (SpiffeId("cluster.local", "foo", "client") if by else None)


async def test_workloads_come_and_go_while_others_connections_live_on(tmp_path: Path) -> None:
    async with with_ztunnel(tmp_path) as running:
        everyone = example(policy("foo", "STRICT"))
        without_web = tuple(each for each in everyone if not (isinstance(each, Workload) and each.key == WEB))
        await running.load(without_web)
        await running.serve(FINANCE, 8080)
        held = await running.dial(FINANCE, 8080, by=CLIENT)
        assert await held.echoes()
        for _ in range(2):
            await running.load(everyone)
            await running.serve(WEB, 8080)
            assert await running.reaches(WEB, 8080, by=CLIENT)
            assert await running.reaches(FINANCE, 8080, by=WEB)
            assert not await running.reaches(WEB, 8080)
            await running.load(without_web)
            assert tuple(each.key for each in running.mesh.view.served()) == (CLIENT, FINANCE)
            assert await held.echoes()


async def test_a_killed_ztunnel_comes_back_and_lets_nothing_in_meanwhile(tmp_path: Path) -> None:
    async with with_ztunnel(tmp_path) as running:
        await running.load(example(policy("foo", "STRICT")))
        ledger = await running.serve(FINANCE, 8080)
        assert await running.reaches(FINANCE, 8080, by=CLIENT)
        supervisor = running.mesh.ztunnel()
        async with hammering((running.at(FINANCE), 8080), sockets=running.network.outside()) as hammers:
            await hammers[0].more(5)
            assert supervisor.pid is not None
            os.kill(supervisor.pid, signal.SIGKILL)
            await until(lambda: supervisor.restarts == 1 and supervisor.live)
            async with asyncio.timeout(30):
                await running.mesh.ready()
            await hammers[0].more(5, "refused")
        assert ledger.forbidden == 0
        assert await running.reaches(FINANCE, 8080, by=CLIENT)
