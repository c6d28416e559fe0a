"""Services on a running mesh in network namespaces: endpoints of every mode, as sidecars and the node dial them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

import pytest

from peerauth.agent.commands import run_tool
from peerauth.agent.echo import listen_tcp
from peerauth.agent.netns import sockets_of
from peerauth.model.connections import Arrival, ConnectionSeen
from peerauth.model.inventory import WorkloadKey
from peerauth.model.placement import Capture
from peerauth.policy import destinations, shards
from peerauth.policy.shards import MOST_ENDPOINTS
from rigs.captures import needs_root
from rigs.mesh_on_this_machine import Hammer, Ledger, Machine, application, hammering, machine, objects, policy

pytestmark = [pytest.mark.envoy, *needs_root]

VIP, VIP6 = "10.96.0.1", "fd96::1"
SIDECAR, AMBIENT, OUTSIDE = "sidecar.istio.io/status", "ambient.istio.io/redirection", "example.com/none"
"""The annotation by which a pod proves to have this data plane, or none."""
PORTS = {"strict": 8080, "disabled": 8081, "ambient": 8082, "outside": 8083}
SERVERS = {"strict": SIDECAR, "disabled": SIDECAR, "ambient": AMBIENT, "outside": OUTSIDE}
CLIENTS = {"by-sidecar": SIDECAR, "by-node": AMBIENT}

SERVICE = f"""
apiVersion: v1
kind: Service
metadata: {{name: shop, namespace: foo}}
spec:
  clusterIPs: ["{VIP}", "{VIP6}"]
  selector: {{app: shop}}
  ports: [{{name: web, port: 80, targetPort: http}}]
"""
REGISTRY_ONLY = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"}
"""


def key(name: str) -> WorkloadKey:
    return WorkloadKey("foo", name, "Pod")


def pod(name: str, proves: str, *, app: str = "client", port: int = 0, ready: bool = True) -> str:
    """A pod that runs; what it proves decides its data plane."""
    ports = f"[{{name: http, containerPort: {port}}}]" if port else "[]"
    return f"""
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: foo
  labels: {{app: {app}, it: {name}}}
  annotations: {{{proves}: {"enabled" if proves == AMBIENT else '"{}"'}}}
spec:
  serviceAccountName: {name}
  containers: [{{name: app, ports: {ports}}}]
status: {{phase: Running, conditions: [{{type: Ready, status: "{ready}"}}]}}
"""


def disabled(mode: str) -> str:
    """A policy for that pod, selected by its own label, so that a Service and a policy need not agree."""
    return policy("foo", "STRICT", app="disabled", ports={PORTS["disabled"]: mode}).replace("{app:", "{it:")


def shop(servers: Mapping[str, str] = SERVERS, *, unready: Iterable[str] = (), mode: str = "DISABLE") -> str:
    """The clients, the Service, and servers behind it; all is STRICT, but for `disabled`, which is of another mode."""
    clients = [pod(name, proves) for name, proves in CLIENTS.items()]
    behind = [
        pod(name, proves, app="shop", port=PORTS.get(name, 8080), ready=name not in unready)
        for name, proves in servers.items()
    ]
    return "\n---\n".join([*clients, *behind, SERVICE, policy("foo", "STRICT"), disabled(mode)])


@contextlib.asynccontextmanager
async def running_shop(folder: Path, servers: Mapping[str, str] = SERVERS) -> AsyncIterator[Machine]:
    async with machine(folder, capture=Capture.TRANSPARENT) as running:
        await running.load(objects(shop(servers)))
        yield running


async def calls(running: Machine, client: str, address: str, number: int) -> int:
    """How many of so many connections of a client's application are answered."""
    answered = 0
    for _ in range(number):
        connection = await running.dial_at(address, 80, by=key(client))
        answered += await connection.echoes()
        await connection.close()
    return answered


@pytest.mark.parametrize("most", [MOST_ENDPOINTS, 1])
async def test_a_service_leads_to_endpoints_of_every_mode_each_in_its_own_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """In one piece, and in several, as a large one: each then has an endpoint of its own."""
    for module in (shards, destinations):
        monkeypatch.setattr(module, "MOST_ENDPOINTS", most)
    async with running_shop(tmp_path) as running:
        ledgers = {name: await running.serve(key(name), port) for name, port in PORTS.items()}
        for address in (VIP, VIP6):
            for client in CLIENTS:
                before = {name: ledger.connections for name, ledger in ledgers.items()}
                with running.arrivals() as arrivals:
                    assert await calls(running, client, address, 16) == 16
                    came = {name: ledger.connections - before[name] for name, ledger in ledgers.items()}
                    seen = await heard(arrivals, 16 - came["outside"])
                assert sum(came.values()) == 16
                assert all(came.values()), "load is spread"
                untouched = Arrival.UNTOUCHED if client == "by-sidecar" else Arrival.MUTUAL_TLS
                assert Counter([(each.workload, each.arrival) for each in seen]) == {
                    ("foo/strict", Arrival.MUTUAL_TLS): came["strict"],
                    ("foo/disabled", untouched): came["disabled"],
                    ("foo/ambient", Arrival.MUTUAL_TLS): came["ambient"],
                }


async def heard(arrivals: asyncio.Queue[ConnectionSeen], number: int) -> list[ConnectionSeen]:
    async with asyncio.timeout(10):
        return [await arrivals.get() for _ in range(number)]


async def test_endpoints_come_and_go_under_load_without_one_failed_request(tmp_path: Path) -> None:
    """An endpoint that is not ready gets nothing; it may end when that is acknowledged, and nobody notices."""
    servers = {"strict": SIDECAR, "ambient": AMBIENT}
    async with running_shop(tmp_path, servers) as running, contextlib.AsyncExitStack() as stack:
        for name in servers:
            await running.serve(key(name), PORTS[name])
        hammers: list[Hammer] = []
        for client in CLIENTS:
            sockets = running.network.sockets(key(client))
            hammers += await stack.enter_async_context(hammering((VIP, 80), (VIP6, 80), sockets=sockets))
        for proves in (SIDECAR, AMBIENT):
            more = {**servers, "newcomer": proves}
            await running.load(objects(shop(more, unready=["newcomer"])))
            ledger = Ledger()
            async with listening(running, "newcomer", 8080, ledger):
                for hammer in hammers:
                    await hammer.more(5)
                assert ledger.connections == 0, "it is not ready"
                await running.load(objects(shop(more)))
                for hammer in hammers:
                    await hammer.more(10)
                assert ledger.connections > 0
                await running.load(objects(shop(more, unready=["newcomer"])))
                for hammer in hammers:
                    await hammer.more(2)  # what was on its way is over
                came = ledger.connections
                for hammer in hammers:
                    await hammer.more(10)
                assert ledger.connections == came
            await running.load(objects(shop(servers)))
        for hammer in hammers:
            await hammer.more(5)
            assert set(hammer.outcomes) == {"answered"}


@contextlib.asynccontextmanager
async def listening(running: Machine, name: str, port: int, ledger: Ledger) -> AsyncIterator[None]:
    """An application of a workload, for as long as the context lasts."""
    async with contextlib.AsyncExitStack() as stack:
        for address in running.mesh.control_plane.mesh.world.placements[key(name)].addresses:
            listener = listen_tcp(address, port, sockets=running.network.sockets(key(name)))
            await stack.enter_async_context(application(listener, ledger))
        yield


@pytest.mark.parametrize("name", ["strict", "disabled", "ambient"])
async def test_a_workload_that_dials_its_own_service_is_served_as_any_other(tmp_path: Path, name: str) -> None:
    async with running_shop(tmp_path, {name: SERVERS[name]}) as running:
        await running.serve(key(name), PORTS[name])
        for address in (VIP, VIP6):
            assert await calls(running, name, address, 2) == 2
        own = await running.dial(key(name), PORTS[name], by=key(name))
        assert await own.echoes(), "and at its own address it is on its own"


async def test_from_disable_to_strict_and_back_no_client_of_a_service_is_refused(tmp_path: Path) -> None:
    """Those who dial the Service change over in time, as those do who dial the workload itself."""
    servers = {"disabled": SIDECAR}
    async with running_shop(tmp_path, servers) as running, contextlib.AsyncExitStack() as stack:
        await running.serve(key("disabled"), PORTS["disabled"])
        itself = running.at(key("disabled"))
        hammers: list[Hammer] = []
        for client in CLIENTS:
            sockets = running.network.sockets(key(client))
            targets = ((VIP, 80), (itself, PORTS["disabled"]))
            hammers += await stack.enter_async_context(hammering(*targets, sockets=sockets))
        for mode in ("STRICT", "DISABLE", "STRICT"):
            for hammer in hammers:
                await hammer.more(10)
            await running.load(objects(shop(servers, mode=mode)))
            for hammer in hammers:
                await hammer.more(10)
        assert not await running.reaches(key("disabled"), PORTS["disabled"]), "plaintext from outside is refused"
        for hammer in hammers:
            assert set(hammer.outcomes) == {"answered"}


async def test_a_service_that_has_nothing_ready_is_closed_and_one_that_is_not_known_is_as_the_mesh_allows(
    tmp_path: Path,
) -> None:
    async with running_shop(tmp_path, {"strict": SIDECAR}) as running:
        await running.serve(key("strict"), 8080)
        outside = running.network.outside_namespace
        ledger = Ledger()
        unknown, another = "10.77.0.1", "10.77.0.2"
        async with (
            addresses_of(outside, unknown, another),
            application(listen_tcp("0.0.0.0", 80, sockets=sockets_of(outside)), ledger),  # noqa: S104  of its namespace
        ):
            for client in CLIENTS:
                assert await calls(running, client, VIP, 1) == 1
                assert await calls(running, client, unknown, 1) == 1, "as it is: ALLOW_ANY is the default"
            await running.load(objects(shop({"strict": SIDECAR}, unready=["strict"])))
            for client in CLIENTS:
                assert await calls(running, client, VIP, 1) == 0
            await running.load(objects(shop({"strict": SIDECAR}), REGISTRY_ONLY))
            came = ledger.connections
            for client in CLIENTS:
                assert await calls(running, client, VIP, 1) == 1
                assert await calls(running, client, another, 1) == 0
            assert ledger.connections == came


@contextlib.asynccontextmanager
async def addresses_of(namespace: str, *addresses: str) -> AsyncIterator[None]:
    """More addresses of a namespace, for as long as the context lasts."""
    name = Path(namespace).name
    for address in addresses:
        await run_tool("ip", "-n", name, "addr", "add", f"{address}/32", "dev", "eth0")
    yield
    for address in addresses:
        await run_tool("ip", "-n", name, "addr", "del", f"{address}/32", "dev", "eth0")
