"""What reaches proxies after a change, in which order, and that nothing reaches those it does not touch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from peerauth.aio import spawn
from peerauth.control import plane as control_plane
from peerauth.control.outstanding import Behind, CaughtUp
from peerauth.control.plane import ControlPlane, proxy_key
from peerauth.dataplane.envoy.destinations import destination_name
from peerauth.dataplane.type_urls import CLUSTER, LISTENER
from peerauth.model.changes import Change, Delete, ObjectRef, Reset, Upsert
from peerauth.model.inventory import Port, WorkloadKey
from peerauth.model.mesh import MeshConfig
from peerauth.model.placement import Captor, Capture, Placement
from peerauth.policy.decision import EffectiveMode
from peerauth.xds.cache import ResourceCache
from rigs.bounded import idle, soon
from rigs.standins import Clock, Process, Proxies
from samples.meshes import namespace, policy, workload

FINANCE = WorkloadKey("foo", "finance")
WEB = WorkloadKey("foo", "web")
LEDGER = WorkloadKey("foo", "ledger")


def placed(name: str, address: str) -> Reset:
    """What the source of a workload of its own says: that it is there, and where."""
    made = workload(f"foo/{name}", {"app": name}, ports=(Port(8080), Port(9000)))
    return Reset(name, (made, Placement(made.key, "here", (address,), Capture.TRANSPARENT, Captor.SIDECAR)))


def says(mode: str, **ports: str) -> Change:
    numbered = {int(port[1:]): said for port, said in ports.items()}
    return Upsert("test", policy("foo/finance", mode, selector={"app": "finance"}, ports=numbered))


@pytest.fixture
def cache() -> ResourceCache:
    return ResourceCache()


@pytest.fixture
async def proxies(cache: ResourceCache) -> Proxies:
    made = Proxies(cache)
    for key in (FINANCE, WEB):
        made.connect(proxy_key(key))
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=[1, 16])
async def plane(
    request: pytest.FixtureRequest,
    cache: ResourceCache,
    proxies: Proxies,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[ControlPlane]:
    """finance and web, both with sidecars; finance is DISABLE, and web dials it. Nothing is in flight to wait for.

    What holds, holds whether they are told at once or each in its turn.
    """
    monkeypatch.setattr(control_plane, "READERS_AT_ONCE", request.param)
    monkeypatch.setattr(control_plane, "IN_FLIGHT_SECONDS", 0)
    made = ControlPlane(cache, acknowledgements=proxies, processes=proxies.process, sleep=clock.sleep)
    injected = Upsert("test", namespace("foo", {"istio-injection": "enabled"}))
    made.apply(injected, placed("finance", "10.0.0.1"), placed("web", "10.0.0.2"))
    made.apply(says("DISABLE"))
    async with asyncio.TaskGroup() as group:
        running = spawn(group, made.run(), name="control plane")
        await settled(made)
        proxies.ask(proxy_key(WEB), CLUSTER, *(destination_name("10.0.0.1", port) for port in (8080, 9000)))
        yield made
        running.cancel()


async def settled(plane: ControlPlane) -> None:
    await soon("every stage ends, and the proxies answer or are out of time", plane.settled())


def versions(cache: ResourceCache, key: WorkloadKey) -> dict[str, str]:
    return cache.versions(proxy_key(key), CLUSTER) | cache.versions(proxy_key(key), LISTENER)


async def test_a_jump_from_disable_to_strict_takes_both_until_clients_have_acknowledged(
    plane: ControlPlane, proxies: Proxies
) -> None:
    proxies.still.add(proxy_key(WEB))
    plane.apply(says("STRICT"))
    assert plane.rollout.in_force[FINANCE].mode is EffectiveMode.PERMISSIVE
    await idle()
    assert plane.rollout.in_force[FINANCE].mode is EffectiveMode.PERMISSIVE
    proxies.go_on(proxy_key(WEB))
    await settled(plane)
    assert plane.rollout.in_force[FINANCE].mode is EffectiveMode.STRICT


async def test_a_stage_waits_for_no_proxy_that_never_dialled_the_server(
    plane: ControlPlane, cache: ResourceCache, proxies: Proxies
) -> None:
    """Nor is such a proxy told anything, whatever becomes of the server."""
    plane.apply(placed("ledger", "10.0.0.3"))
    proxies.connect(proxy_key(LEDGER))
    await settled(plane)
    proxies.still.add(proxy_key(LEDGER))
    before = versions(cache, LEDGER)
    for mode in ("STRICT", "DISABLE", "PERMISSIVE"):
        plane.apply(says(mode))
        await settled(plane)
        assert plane.rollout.in_force[FINANCE].mode.value == mode
    assert versions(cache, LEDGER) == before


async def test_a_workload_that_comes_or_goes_tells_those_who_dialled_it_and_nobody_else(
    plane: ControlPlane, cache: ResourceCache, proxies: Proxies
) -> None:
    before = versions(cache, FINANCE)
    proxies.ask(proxy_key(WEB), CLUSTER, destination_name("10.0.0.3", 8080))
    for change in (placed("ledger", "10.0.0.3"), Delete("ledger", ObjectRef("Pod", "foo", "ledger"))):
        proxies.still.update({proxy_key(FINANCE), proxy_key(WEB)})
        plane.apply(change)
        await plane.published()
        assert plane.outstanding.waited_for() == (proxy_key(WEB),)
        for key in (FINANCE, WEB):
            proxies.go_on(proxy_key(key))
        await settled(plane)
    assert versions(cache, FINANCE) == before


async def test_clients_change_over_only_after_the_server_takes_both(
    plane: ControlPlane, cache: ResourceCache, proxies: Proxies
) -> None:
    proxies.still.add(proxy_key(FINANCE))
    before = versions(cache, WEB)
    plane.apply(says("STRICT"))
    await idle()
    assert versions(cache, WEB) == before
    proxies.go_on(proxy_key(FINANCE))
    await settled(plane)
    assert versions(cache, WEB) != before


async def test_permissive_to_strict_is_in_force_at_once(plane: ControlPlane, proxies: Proxies) -> None:
    plane.apply(says("PERMISSIVE"))
    await settled(plane)
    proxies.still.add(proxy_key(FINANCE))
    plane.apply(says("STRICT"))
    assert plane.rollout.in_force[FINANCE].mode is EffectiveMode.STRICT


async def test_a_stage_opens_only_the_port_that_changes_over(plane: ControlPlane, proxies: Proxies) -> None:
    plane.apply(says("STRICT", p8080="DISABLE"))
    await settled(plane)
    proxies.still.add(proxy_key(FINANCE))
    plane.apply(says("STRICT"))
    assert plane.rollout.in_force[FINANCE].mode_of(8080) is EffectiveMode.PERMISSIVE
    assert plane.rollout.in_force[FINANCE].mode_of(9000) is EffectiveMode.STRICT


async def test_a_proxy_that_is_not_connected_is_given_the_decision_without_a_stage(
    plane: ControlPlane, proxies: Proxies
) -> None:
    proxies.disconnect(proxy_key(FINANCE))
    plane.apply(says("STRICT"))
    assert plane.rollout.in_force[FINANCE].mode is EffectiveMode.STRICT


async def test_a_stage_lasts_five_seconds_whoever_stands_still(
    plane: ControlPlane, proxies: Proxies, clock: Clock
) -> None:
    """Server and client stand still: the two waits of a stage share its time."""
    proxies.still.update({proxy_key(FINANCE), proxy_key(WEB)})
    plane.apply(says("STRICT"))
    await clock.passes(1)
    proxies.go_on(proxy_key(FINANCE))
    await clock.passes(3.9)
    assert plane.rollout.in_force[FINANCE].mode is EffectiveMode.PERMISSIVE
    await clock.passes(0.2)
    assert plane.rollout.in_force[FINANCE].mode is EffectiveMode.STRICT


async def test_a_stage_is_not_held_up_by_a_proxy_that_was_out_of_time_before_it_began(
    plane: ControlPlane, proxies: Proxies, clock: Clock
) -> None:
    proxies.still.add(proxy_key(WEB))
    plane.apply(says("STRICT"))
    await clock.passes(6)
    plane.apply(says("DISABLE"))
    await settled(plane)
    assert plane.rollout.in_force[FINANCE].mode is EffectiveMode.DISABLE


async def test_a_stage_does_not_wait_for_that_of_another_workload(
    plane: ControlPlane, proxies: Proxies, clock: Clock
) -> None:
    """Each has its own five seconds, from when its change was taken in."""
    plane.apply(Upsert("test", policy("foo/ledger", "DISABLE", selector={"app": "ledger"})))
    plane.apply(placed("ledger", "10.0.0.3"))
    proxies.connect(proxy_key(LEDGER))
    await settled(plane)
    proxies.still.add(proxy_key(WEB))
    plane.apply(says("STRICT"))
    await clock.passes(3)
    plane.apply(Upsert("test", policy("foo/ledger", "STRICT", selector={"app": "ledger"})))
    assert plane.rollout.in_force[LEDGER].mode is EffectiveMode.PERMISSIVE
    proxies.still.add(proxy_key(FINANCE))
    await clock.passes(2.1)
    assert plane.rollout.in_force[FINANCE].mode is EffectiveMode.STRICT
    await clock.passes(3)
    assert plane.rollout.in_force[LEDGER].mode is EffectiveMode.STRICT


async def test_what_is_decided_during_a_stage_comes_into_force_after_it(plane: ControlPlane, proxies: Proxies) -> None:
    proxies.still.add(proxy_key(WEB))
    plane.apply(says("STRICT"))
    await idle()
    plane.apply(says("DISABLE"))
    plane.apply(says("PERMISSIVE", p9000="STRICT"))
    proxies.go_on(proxy_key(WEB))
    await settled(plane)
    assert plane.rollout.in_force[FINANCE].mode is EffectiveMode.PERMISSIVE
    assert plane.rollout.in_force[FINANCE].mode_of(9000) is EffectiveMode.STRICT


async def test_a_workload_that_goes_away_during_a_stage_ends_it(
    plane: ControlPlane, cache: ResourceCache, proxies: Proxies
) -> None:
    proxies.still.add(proxy_key(WEB))
    plane.apply(says("STRICT"))
    await idle()
    plane.apply(Delete("finance", ObjectRef("Pod", "foo", "finance")))
    proxies.go_on(proxy_key(WEB))
    await settled(plane)
    assert plane.sidecars() == (WEB,)
    assert versions(cache, FINANCE) == {}


async def test_only_what_all_its_proxies_have_acknowledged_to_its_end_is_called_acknowledged(
    plane: ControlPlane, proxies: Proxies
) -> None:
    """A server that has taken both ways has not taken what was decided."""
    plane.outstanding.take_acknowledged()
    proxies.still.add(proxy_key(WEB))
    async with asyncio.TaskGroup() as group:
        said = spawn(group, plane.acknowledged(), name="said")
        plane.apply(says("STRICT"))
        await idle()
        assert not said.done()
        proxies.go_on(proxy_key(WEB))
        assert await soon("both proxies acknowledge", said) == {proxy_key(FINANCE), proxy_key(WEB)}


async def test_a_proxy_that_stands_still_after_a_change_that_closes_a_port_is_ended_and_named(
    plane: ControlPlane, proxies: Proxies, clock: Clock
) -> None:
    said: list[Behind | CaughtUp] = []
    plane.outstanding.follow(said.append)
    plane.apply(says("PERMISSIVE", p9000="STRICT"))
    await settled(plane)
    for key in (FINANCE, WEB):
        proxies.processes[proxy_key(key)] = Process()
        proxies.still.add(proxy_key(key))
    plane.apply(says("STRICT"))
    await clock.passes(5.1)
    (behind,) = said
    assert isinstance(behind, Behind)
    assert behind.proxy == proxy_key(FINANCE)
    assert behind.open == ("foo/finance all other ports PERMISSIVE -> STRICT",)
    assert [proxies.processes[proxy_key(key)].ends for key in (FINANCE, WEB)] == [1, 0]


async def test_an_edit_of_the_mesh_configuration_reaches_the_clients(plane: ControlPlane, cache: ResourceCache) -> None:
    plane.apply(says("PERMISSIVE"))
    await settled(plane)
    for auto_mtls in (False, True):
        before = versions(cache, WEB)
        plane.apply(Upsert("test", MeshConfig(enable_auto_mtls=auto_mtls)))
        assert versions(cache, WEB) != before


async def test_a_policy_that_changes_nothing_reaches_no_proxy(plane: ControlPlane, cache: ResourceCache) -> None:
    before = versions(cache, FINANCE), versions(cache, WEB)
    plane.apply(Upsert("test", policy("bar/default", "STRICT")))
    plane.apply(says("DISABLE"))
    assert (versions(cache, FINANCE), versions(cache, WEB)) == before


async def test_only_the_selected_workload_is_told_when_clients_need_not_change(
    plane: ControlPlane, cache: ResourceCache
) -> None:
    plane.apply(says("PERMISSIVE"))
    await settled(plane)
    before = versions(cache, FINANCE), versions(cache, WEB)
    plane.apply(says("STRICT"))
    assert versions(cache, FINANCE) != before[0]
    assert versions(cache, WEB) == before[1]


async def test_a_workload_that_leaves_the_mesh_keeps_no_configuration(
    plane: ControlPlane, cache: ResourceCache
) -> None:
    plane.apply(Upsert("test", namespace("foo")))
    await plane.published()
    assert plane.sidecars() == ()
    assert versions(cache, FINANCE) == {}


async def test_others_have_their_turn_while_many_are_told(
    plane: ControlPlane, cache: ResourceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first are told at once, and each of the others when it is theirs."""
    monkeypatch.setattr(control_plane, "READERS_AT_ONCE", 1)
    plane.apply(says("PERMISSIVE"))
    await settled(plane)
    before = {key: versions(cache, key) for key in (FINANCE, WEB)}
    plane.apply(Upsert("test", policy("foo/default", "STRICT")), says("STRICT"))
    assert [key for key, had in before.items() if versions(cache, key) != had] == [FINANCE]
    turns = 0
    while versions(cache, WEB) == before[WEB]:
        await asyncio.sleep(0)
        turns += 1
    assert turns
    await plane.published()


async def test_what_is_said_while_many_are_told_is_told_once(
    plane: ControlPlane, cache: ResourceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_plane, "READERS_AT_ONCE", 1)
    plane.apply(says("PERMISSIVE"), Upsert("test", policy("foo/default", "PERMISSIVE")))
    await settled(plane)
    before = versions(cache, WEB)
    for mode in ("STRICT", "PERMISSIVE"):
        plane.apply(Upsert("test", policy("foo/default", mode)), says("STRICT"))
    await plane.published()
    assert versions(cache, WEB) == before
