"""At no moment does a STRICT port let plaintext in: someone dials it in plaintext from before there is a mesh, through
its start, edits of everything else, and the death of its proxy; the application counts what it gets.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import msgspec
import pytest

from peerauth.agent.echo import listen_tcp
from peerauth.agent.netns import MeshNetwork, WorkloadNamespace, sockets_of
from peerauth.model.inventory import Workload
from peerauth.model.placement import Captor, Capture
from peerauth.model.world import MeshObject
from rigs.mesh_on_this_machine import (
    CLIENT,
    EGRESS,
    FINANCE,
    LEGACY,
    NO_ROOT,
    WEB,
    Hammer,
    Ledger,
    Machine,
    application,
    example,
    hammering,
    machine,
    policy,
    until,
)

pytestmark = pytest.mark.envoy

S, P, D = "STRICT", "PERMISSIVE", "DISABLE"
STRICT_ON_8080 = (
    policy("foo", S),
    policy("foo", S, app="finance"),
    policy("foo", S, app="finance", ports={9000: D}),
    policy("foo", S, app="finance", ports={8080: S, 9000: P}),
    policy("istio-system", S),
    policy("foo", P, app="finance", ports={8080: S}) + "---\n" + policy("foo", D),
    policy("foo", S, app="finance", ports={9000: D, 4321: P}),
    policy("foo", S),
)
"""Each of them says STRICT for finance:8080, every time for another reason, with other modes around it."""


def as_another_account(said: tuple[MeshObject, ...]) -> tuple[MeshObject, ...]:
    """The same documents with another service account for finance: its certificate and its proxy have to be others."""
    return tuple(
        msgspec.structs.replace(each, service_account="treasury")
        if isinstance(each, Workload) and each.key == FINANCE
        else each
        for each in said
    )


async def refused_again(hammers: list[Hammer]) -> None:
    await asyncio.gather(*(hammer.more(5, "refused") for hammer in hammers))


async def kill_proxy(running: Machine) -> None:
    """Kills finance's Envoy and waits until its supervisor has another one running."""
    supervisor = running.mesh.agents()[FINANCE].supervisor
    assert supervisor.pid is not None
    restarts = supervisor.restarts
    os.kill(supervisor.pid, signal.SIGKILL)
    await until(lambda: supervisor.restarts > restarts)
    await supervisor.ready()


async def through_edits_and_a_killed_proxy(running: Machine, hammers: list[Hammer]) -> None:
    for edit in STRICT_ON_8080:
        await running.load(example(edit))
        await refused_again(hammers)
    before = [hammer.outcomes["unreachable"] for hammer in hammers]
    await kill_proxy(running)
    await refused_again(hammers)
    closed = [hammer.outcomes["unreachable"] for hammer in hammers]
    assert all(now > then for now, then in zip(closed, before, strict=True)), "while it was gone the port was closed"


async def test_explicit_capture(tmp_path: Path) -> None:
    async with machine(tmp_path) as running:
        captors = dict.fromkeys((CLIENT, FINANCE, WEB), Captor.SIDECAR) | {LEGACY: Captor.NOBODY}
        places = {each.workload: each for each in await running.network.place(captors, node="local")}
        address, behind = places[FINANCE].addresses[0], places[FINANCE].application
        strict, other = Ledger(), Ledger()
        async with (
            application(listen_tcp(behind, 8080), strict),
            application(listen_tcp(behind, 9000), other),
            hammering((address, 8080)) as hammers,
        ):
            await asyncio.gather(*(hammer.more(5, "unreachable") for hammer in hammers))
            await running.load(example(STRICT_ON_8080[0]))
            assert places[FINANCE] == running.mesh.placement(FINANCE)
            await refused_again(hammers)
            await through_edits_and_a_killed_proxy(running, hammers)
            await running.load(as_another_account(example(STRICT_ON_8080[0])))
            await refused_again(hammers)
            assert (strict.connections, strict.received) == (0, 0)
            assert all(set(hammer.outcomes) == {"unreachable", "refused"} for hammer in hammers)
            assert await running.reaches(FINANCE, 8080, tls=running.mutual()), "it was there all the time"
            by_client = await running.dial_at(EGRESS, 8080)
            assert await by_client.echoes(), "clients expect its new name"
            assert await running.reaches(FINANCE, 9000, tls=running.mutual())


@pytest.mark.root
@pytest.mark.skipif(bool(NO_ROOT), reason=NO_ROOT or "supported")
async def test_transparent_capture_from_the_namespace_s_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Declared and undeclared ports, both families; the application listens before its namespace has a link."""
    ledger, hammers = Ledger(), list[Hammer]()
    connect = MeshNetwork._connect
    async with contextlib.AsyncExitStack() as applications, asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []

        async def connect_watched(self: MeshNetwork, made: WorkloadNamespace, link: str, capture: bool) -> None:
            if "finance" in made.name:
                for port in (8080, 7777):
                    for wildcard in ("0.0.0.0", "::"):  # noqa: S104  of a namespace
                        listener = listen_tcp(wildcard, port, sockets=sockets_of(made.path))
                        await applications.enter_async_context(application(listener, ledger))
                outside = running.network.outside()
                targets = [(address, port) for address in made.addresses for port in (8080, 7777)]
                hammers.extend(Hammer(*target, sockets=outside, connect_seconds=0.05) for target in targets)
                tasks.extend(group.create_task(hammer.run()) for hammer in hammers)
                await asyncio.gather(*(hammer.more(2, "unreachable") for hammer in hammers))
            await connect(self, made, link, capture)

        async with machine(tmp_path, capture=Capture.TRANSPARENT) as running:
            monkeypatch.setattr(MeshNetwork, "_connect", connect_watched)
            await running.load(example(policy("foo", S)))
            await refused_again(hammers)
            edits = [edit for edit in STRICT_ON_8080 if f"mode: {P}" not in edit.split("portLevelMtls")[0]]
            for edit in edits:
                await running.load(example(edit))
                await refused_again(hammers)
            await kill_proxy(running)
            await refused_again(hammers)
            assert (ledger.connections, ledger.received) == (0, 0)
            assert {outcome for hammer in hammers for outcome in hammer.outcomes} == {"unreachable", "refused"}
            for ipv6 in (False, True):
                for port in (8080, 7777):
                    assert await running.reaches(FINANCE, port, tls=running.mutual(), ipv6=ipv6)
            for task in tasks:
                task.cancel()
