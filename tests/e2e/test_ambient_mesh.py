"""Ambient workloads on a running mesh, alone and beside sidecars, whose documents are exchanged live.

The mode of each port is written down here, and never asked of the code under test.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

from peerauth.agent.admin import ask
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.connections import Arrival
from peerauth.model.inventory import Workload, WorkloadKey
from peerauth.model.placement import Capture
from peerauth.model.world import MeshObject
from rigs.captures import both_captures, transparent_only
from rigs.mesh_clients import AMBIENT, differences
from rigs.mesh_on_this_machine import (
    CLIENT,
    FINANCE,
    WEB,
    Machine,
    hammering,
    machine,
    objects,
    policy,
    until,
)
from samples.levels import UNDECLARED, D, P, Ports, S

pytestmark = pytest.mark.envoy

EXAMPLES = Path(__file__).parents[2] / "examples"
ERRAND = WorkloadKey("foo", "errand", "Deployment")
CLOSED_WITHIN_S = 5


def transparent(folder: Path) -> contextlib.AbstractAsyncContextManager[Machine]:
    """A mesh in network namespaces."""
    return machine(folder, capture=Capture.TRANSPARENT)


POLICIES: dict[str, Ports] = {
    "policy.yaml": {(FINANCE, 8080): D, (FINANCE, 9000): S, (FINANCE, UNDECLARED): S, (WEB, 8080): S},
    "policies/1-namespace-strict": {(FINANCE, 8080): S, (FINANCE, UNDECLARED): S, (WEB, 8080): S},
    "policies/2-workload-strict": {(FINANCE, 8080): S, (FINANCE, UNDECLARED): S, (WEB, 8080): P, (WEB, UNDECLARED): P},
    "policies/3-port-disable": {(FINANCE, 8080): D, (FINANCE, 9000): S, (FINANCE, UNDECLARED): S, (WEB, 8080): P},
    "policies/4a-alone": {(FINANCE, 8080): D, (FINANCE, 9000): P, (FINANCE, UNDECLARED): P, (WEB, 8080): P},
    "policies/4b-under-strict-namespace": {(FINANCE, 8080): D, (FINANCE, 9000): S, (WEB, 8080): S},
    "policies/4c-under-strict-mesh": {(FINANCE, 8080): D, (FINANCE, 9000): S, (WEB, 8080): S, (WEB, UNDECLARED): S},
    "policies/5-mesh-strict": {(FINANCE, 8080): P, (FINANCE, 9000): P, (WEB, 8080): P, (WEB, UNDECLARED): P},
}


def example(name: str, *policies: str) -> tuple[MeshObject, ...]:
    """The workloads of an example with some of its policies, as paths below it or as text."""
    folder = EXAMPLES / name
    return objects(folder / "mesh.yaml", *(folder / each if "\n" not in each else each for each in policies))


@both_captures
async def test_every_documented_example_does_what_it_says_in_ambient_mode(tmp_path: Path, capture: Capture) -> None:
    """On one mesh, each after the other: what an earlier one left behind would show."""
    assert {f"policies/{each.name}" for each in (EXAMPLES / "ambient" / "policies").iterdir()} < POLICIES.keys()
    async with machine(tmp_path, capture=capture) as running:
        for name, wanted in POLICIES.items():
            await running.load(example("ambient", name))
            assert await differences(running, wanted, AMBIENT) == [], name


@transparent_only
@pytest.mark.parametrize("mode", [S, P, D])
async def test_sidecars_and_ambient_workloads_reach_each_other_in_every_mode(tmp_path: Path, mode: str) -> None:
    """In a mixed mesh finance and client have a sidecar, web and errand have none."""
    async with transparent(tmp_path) as running:
        await running.load(example("mixed", policy("foo", mode)))
        for server in (FINANCE, WEB):
            await running.serve(server, 8080, UNDECLARED)
        for client in (CLIENT, ERRAND):
            for server in (FINANCE, WEB):
                with running.arrivals() as arrivals:
                    assert await running.reaches(server, 8080, by=client)
                    seen = await arrivals.get()
                    while (seen.port, seen.source.rpartition(":")[0]) != (8080, running.at(client)):
                        seen = await arrivals.get()
                untouched = mode == D and (client, server) == (CLIENT, FINANCE)
                assert seen.arrival is (Arrival.UNTOUCHED if untouched else Arrival.MUTUAL_TLS), (client, server)
                assert seen.tunnel is ((client, server) != (CLIENT, FINANCE))
                if not untouched:
                    assert seen.peer == SpiffeId("cluster.local", "foo", client.name)
                assert await running.reaches(server, UNDECLARED, by=client, ipv6=True)


@transparent_only
async def test_from_permissive_to_strict_plaintext_ends_and_everything_else_lives_on(tmp_path: Path) -> None:
    async with transparent(tmp_path) as running:
        await running.load(example("ambient", policy("foo", P)))
        ledger = await running.serve(FINANCE, 8080)
        await running.serve(WEB, 8080)
        plain, tunnelled = await running.dial(FINANCE, 8080), await running.dial(FINANCE, 8080, by=CLIENT)
        neighbour = await running.dial(WEB, 8080)
        for connection in (plain, tunnelled, neighbour):
            assert await connection.echoes()
        async with hammering((running.at(FINANCE), 8080), sockets=running.network.outside()) as hammers:
            await hammers[0].more(1, "answered")
            await running.load(example("ambient", policy("foo", P), policy("foo", S, app="finance")))
            forbidden = ledger.forbidden
            async with asyncio.timeout(CLOSED_WITHIN_S):
                assert await plain.ended()
            await hammers[0].more(20, "refused")
            # One connection of each hammer may have been on its way when the proxy acknowledged.
            assert ledger.forbidden <= forbidden + len(hammers)
        assert await tunnelled.echoes()
        assert await neighbour.echoes()
        await running.load(example("ambient", policy("foo", P)))
        assert await running.reaches(FINANCE, 8080)
        assert await tunnelled.echoes()


async def certificates_of_the_node(running: Machine) -> set[str]:
    """The names of the secrets that its Envoy has."""
    answer = await ask(running.mesh.node().supervisor.launch.admin, "/config_dump?resource=dynamic_active_secrets")
    return {each["name"] for each in json.loads(answer.body)["configs"]}


@transparent_only
async def test_workloads_come_and_go_while_others_connections_live_on(tmp_path: Path) -> None:
    async with transparent(tmp_path) as running:
        everyone = example("ambient", policy("foo", S))
        without_web = tuple(each for each in everyone if not (isinstance(each, Workload) and each.key == WEB))
        await running.load(without_web)
        await running.serve(FINANCE, 8080)
        held = await running.dial(FINANCE, 8080, by=CLIENT)
        assert await held.echoes()
        for _ in range(2):
            await running.load(everyone)
            await running.serve(WEB, 8080)
            names = {SpiffeId("cluster.local", "foo", name).uri for name in ("client", "finance", "web")}
            assert await certificates_of_the_node(running) == {*names, "ROOTCA"}
            assert await running.reaches(WEB, 8080, by=CLIENT)
            assert await running.reaches(FINANCE, 8080, by=WEB)
            assert not await running.reaches(WEB, 8080)
            await running.load(without_web)
            assert SpiffeId("cluster.local", "foo", "web") not in running.mesh.node().identities()
            assert await held.echoes()


@transparent_only
async def test_a_workload_may_change_from_a_sidecar_to_ambient_and_back(tmp_path: Path) -> None:
    async with transparent(tmp_path) as running:
        strict = policy("foo", S)
        documents = (EXAMPLES / "mixed" / "mesh.yaml").read_text()
        label = '        sidecar.istio.io/inject: "false"\n        istio.io/dataplane-mode: ambient\n'
        assert label in documents
        await running.load(objects(documents, strict))
        await running.serve(WEB, 8080)
        for said in (documents.replace(label, ""), documents):
            await running.load(objects(said, strict))
            assert (WEB in running.mesh.agents()) is (said is not documents)
            for client in (CLIENT, ERRAND):
                assert await running.reaches(WEB, 8080, by=client)
            assert not await running.reaches(WEB, 8080)


@transparent_only
async def test_a_killed_node_proxy_comes_back_and_lets_nothing_in_meanwhile(tmp_path: Path) -> None:
    async with transparent(tmp_path) as running:
        await running.load(example("ambient", policy("foo", S)))
        ledger = await running.serve(FINANCE, 8080)
        assert await running.reaches(FINANCE, 8080, by=CLIENT)
        supervisor = running.mesh.node().supervisor
        async with hammering((running.at(FINANCE), 8080), sockets=running.network.outside()) as hammers:
            await hammers[0].more(5)
            assert supervisor.pid is not None
            os.kill(supervisor.pid, signal.SIGKILL)
            await until(lambda: supervisor.restarts == 1 and supervisor.live)
            await running.mesh.ready()
            await hammers[0].more(5, "refused")
        assert ledger.forbidden == 0
        assert await running.reaches(FINANCE, 8080, by=CLIENT)
