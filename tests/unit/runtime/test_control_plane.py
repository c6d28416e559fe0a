"""What reaches proxies after a change, in which order, and that nothing reaches those it does not touch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from meshes import namespace, policy, workload
from peerauth.aio import spawn
from peerauth.dataplane.resources import CLUSTER, LISTENER, Capture, TypeUrl
from peerauth.model.changes import Change, Delete, ObjectRef, Reset, Upsert
from peerauth.model.inventory import Port, Workload, WorkloadKey
from peerauth.policy.decision import EffectiveMode
from peerauth.runtime import control_plane
from peerauth.runtime.control_plane import ControlPlane, proxy_key
from peerauth.xds.cache import ResourceCache
from peerauth.xds.status import Nack
from peerauth.xds.wire import ProxyKey

FINANCE = WorkloadKey("foo", "finance")
WEB = WorkloadKey("foo", "web")


class Proxies:
    """Every proxy is connected unless said otherwise, and acknowledges when the test lets it."""

    def __init__(self) -> None:
        self.away: set[ProxyKey] = set()
        self.asked: asyncio.Queue[tuple[ProxyKey, TypeUrl]] = asyncio.Queue()
        self.go = asyncio.Event()
        self.go.set()

    def connected(self, proxy: ProxyKey) -> bool:
        return proxy not in self.away

    async def wait_acked(self, proxy: ProxyKey, type_url: TypeUrl) -> tuple[Nack, ...]:
        self.asked.put_nowait((proxy, type_url))
        await self.go.wait()
        return ()


def placed(name: str, address: str) -> Workload:
    made = workload(f"foo/{name}", {"app": name}, ports=(Port(8080), Port(9000)))
    return msgspec.structs.replace(made, addresses=(address,))


def says(mode: str, **ports: str) -> Change:
    numbered = {int(port[1:]): said for port, said in ports.items()}
    return Upsert("test", policy("foo/finance", mode, selector={"app": "finance"}, ports=numbered))


@pytest.fixture
def proxies() -> Proxies:
    return Proxies()


@pytest.fixture
def cache() -> ResourceCache:
    return ResourceCache()


@pytest.fixture
async def plane(cache: ResourceCache, proxies: Proxies, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ControlPlane]:
    """finance and web, both with sidecars; finance is DISABLE. Nothing is in flight to wait for."""
    monkeypatch.setattr(control_plane, "IN_FLIGHT_SECONDS", 0)
    made = ControlPlane(cache, acknowledgements=proxies, capture=Capture.TRANSPARENT)
    mesh = (namespace("foo", {"istio-injection": "enabled"}), placed("finance", "10.0.0.1"), placed("web", "10.0.0.2"))
    made.apply(Reset("test", mesh))
    made.apply(says("DISABLE"))
    async with asyncio.TaskGroup() as group:
        running = spawn(group, made.run(), name="control plane")
        await made.settled()
        while not proxies.asked.empty():
            proxies.asked.get_nowait()
        yield made
        running.cancel()


def versions(cache: ResourceCache, key: WorkloadKey) -> dict[str, str]:
    return cache.versions(proxy_key(key), CLUSTER) | cache.versions(proxy_key(key), LISTENER)


async def test_a_jump_from_disable_to_strict_takes_both_until_clients_have_acknowledged(
    plane: ControlPlane, proxies: Proxies
) -> None:
    proxies.go.clear()
    plane.apply(says("STRICT"))
    assert plane.in_force(FINANCE).mode is EffectiveMode.PERMISSIVE
    assert {proxy for proxy, _ in [await proxies.asked.get(), await proxies.asked.get()]} == {proxy_key(FINANCE)}
    assert plane.in_force(FINANCE).mode is EffectiveMode.PERMISSIVE
    proxies.go.set()
    asked = {(await proxies.asked.get())[0] for _ in range(4)}
    assert asked == {proxy_key(FINANCE), proxy_key(WEB)}
    await plane.settled()
    assert plane.in_force(FINANCE).mode is EffectiveMode.STRICT


async def test_clients_change_over_only_after_the_server_takes_both(
    plane: ControlPlane, cache: ResourceCache, proxies: Proxies
) -> None:
    proxies.go.clear()
    before = versions(cache, WEB)
    plane.apply(says("STRICT"))
    await proxies.asked.get()
    assert versions(cache, WEB) == before
    proxies.go.set()
    await plane.settled()
    assert versions(cache, WEB) != before


async def test_permissive_to_strict_is_in_force_at_once(plane: ControlPlane, proxies: Proxies) -> None:
    plane.apply(says("PERMISSIVE"))
    await plane.settled()
    proxies.go.clear()
    plane.apply(says("STRICT"))
    assert plane.in_force(FINANCE).mode is EffectiveMode.STRICT


async def test_a_stage_opens_only_the_port_that_changes_over(plane: ControlPlane, proxies: Proxies) -> None:
    plane.apply(says("STRICT", p8080="DISABLE"))
    await plane.settled()
    proxies.go.clear()
    plane.apply(says("STRICT"))
    assert plane.in_force(FINANCE).mode_of(8080) is EffectiveMode.PERMISSIVE
    assert plane.in_force(FINANCE).mode_of(9000) is EffectiveMode.STRICT


async def test_a_proxy_that_is_not_connected_is_given_the_decision_without_a_stage(
    plane: ControlPlane, proxies: Proxies
) -> None:
    proxies.away.add(proxy_key(FINANCE))
    plane.apply(says("STRICT"))
    assert plane.in_force(FINANCE).mode is EffectiveMode.STRICT


async def test_a_client_that_never_answers_does_not_keep_a_port_open(
    plane: ControlPlane, proxies: Proxies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_plane, "STAGE_SECONDS", 0.01)
    proxies.go.clear()
    plane.apply(says("STRICT"))
    await plane.settled()
    assert plane.in_force(FINANCE).mode is EffectiveMode.STRICT


async def test_what_is_decided_during_a_stage_comes_into_force_after_it(plane: ControlPlane, proxies: Proxies) -> None:
    proxies.go.clear()
    plane.apply(says("STRICT"))
    await proxies.asked.get()
    plane.apply(says("DISABLE"))
    plane.apply(says("PERMISSIVE", p9000="STRICT"))
    proxies.go.set()
    await plane.settled()
    assert plane.in_force(FINANCE).mode is EffectiveMode.PERMISSIVE
    assert plane.in_force(FINANCE).mode_of(9000) is EffectiveMode.STRICT


async def test_a_workload_that_goes_away_during_a_stage_ends_it(
    plane: ControlPlane, cache: ResourceCache, proxies: Proxies
) -> None:
    proxies.go.clear()
    plane.apply(says("STRICT"))
    await proxies.asked.get()
    plane.apply(Delete("test", ObjectRef("Pod", "foo", "finance")))
    proxies.go.set()
    await plane.settled()
    assert plane.sidecars() == (WEB,)
    assert versions(cache, FINANCE) == {}


async def test_a_policy_that_changes_nothing_reaches_no_proxy(plane: ControlPlane) -> None:
    assert plane.apply(Upsert("test", policy("bar/default", "STRICT"))).proxies == frozenset()
    again = plane.apply(says("DISABLE"))
    assert (again.decisions, again.proxies) == ((), frozenset())


async def test_only_the_selected_workload_is_told_when_clients_need_not_change(plane: ControlPlane) -> None:
    plane.apply(says("PERMISSIVE"))
    await plane.settled()
    assert plane.apply(says("STRICT")).proxies == {FINANCE}


async def test_a_workload_that_leaves_the_mesh_keeps_no_configuration(
    plane: ControlPlane, cache: ResourceCache
) -> None:
    plane.apply(Upsert("test", namespace("foo")))
    assert plane.sidecars() == ()
    assert versions(cache, FINANCE) == {}
