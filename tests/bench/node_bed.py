"""A node with its proxy, and the control plane that tells it, for bench_node.py: a mesh of which `local` workloads are
on the node and `remote` ones are not, all ambient.

Every local workload has an identity and a network namespace of its own, with nothing in it; ten remote ones share an
identity. Only the first workload's namespace is captured and has a link: it dials. All remote addresses are at the
other end, where every connection is refused at once: the node's proxy has to know where to connect and gets no further.
Where namespaces cannot be made, nobody dials, and the workloads are of explicit capture: loopback addresses, one port
each beside HBONE's.

Envoy has as many workers as the product gives it, one for each processor.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bench.loader import Door
from bench.proxies import Proxies
from bench.turns import processor_seconds, resident
from peerauth.agent.commands import run_tool
from peerauth.agent.netns import MeshNetwork, unsupported
from peerauth.control.plane import ControlPlane
from peerauth.dataplane.ambient.nodes import Nodes
from peerauth.dataplane.projection import Update
from peerauth.dataplane.type_urls import CLUSTER, LISTENER, TypeUrl
from peerauth.model.changes import Change, MeshObject, Reset
from peerauth.model.inventory import Namespace, Port, Workload, WorkloadKey
from peerauth.model.mesh import DEFAULT_MESH
from peerauth.model.meta import Meta
from peerauth.model.placement import Captor, Capture, Placement
from peerauth.policy.mesh import Step
from peerauth.policy.outbound import identity_of
from peerauth.policy.rollout import Orders
from peerauth.xds.wire import ProxyKey
from rigs.ambientnode import node_secrets
from rigs.envoyrig import Authority
from samples.meshes import namespace, pairs

NODE = ProxyKey("node")
SOURCE = "bench"
LOCAL_NAMESPACE = "node"
REPLICAS = 10
PER_NAMESPACE = 100
PORT = 8080
REMOTE = "10.0.0.0/12"
"""Where the addresses of remote workloads are."""
RECEIVED = "cluster.xds-grpc.upstream_cx_rx_bytes_total"
DRAINING = ("listener_manager.total_listeners_draining", "listener_manager.total_filter_chains_draining")
_COUNTERS = "^({})$".format("|".join((RECEIVED, *DRAINING)).replace(".", r"\."))
_AMBIENT = {"istio.io/dataplane-mode": "ambient"}


class Draining(NamedTuple):
    """How many of Envoy's listeners, and of the filter chains of others, are on their way out."""

    listeners: int
    chains: int


class Taken(NamedTuple):
    """One change, in seconds, from the control plane's word to Envoy's acknowledgement.

    `decide`: what the policies say now. `render`: the pieces that are new. `envoy`: from there to the acknowledgement,
    with what discovery does. `processor` is Envoy's time on all threads. `names` are the resources that changed, `wire`
    the bytes that Envoy received for them.
    """

    decide: float
    render: float
    envoy: float
    processor: float
    names: frozenset[str]
    wire: int
    draining: Draining

    @property
    def whole(self) -> float:
        return self.decide + self.render + self.envoy


class Started(NamedTuple):
    """Bytes and open files of an Envoy that listens, and how many seconds after it connected it did so."""

    local: int
    remote: int
    resident: int
    files: int
    seconds: float


class _Timed:
    """The nodes' projection, drawn at once; `seconds` are those of its last update."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self.seconds = 0.0

    @property
    def visited(self) -> int:
        return self._nodes.visited

    def update(self, step: Step, orders: Orders) -> Iterator[tuple[str, Update | None]]:
        start = time.perf_counter()
        news = list(self._nodes.update(step, orders))
        self.seconds = time.perf_counter() - start
        return iter(news)


class Bed:
    """One node, of a mesh of its own. `places` are the namespaces of its workloads, by number, and of one more that
    may come later; two beds have no number in common.
    """

    def __init__(self, folder: Path, places: Mapping[int, str], authority: Authority) -> None:
        self._proxies = Proxies(folder)
        discovery = self._proxies.discovery
        self._control = ControlPlane(self._proxies.cache, acknowledgements=discovery)
        nodes = Nodes(self._control.mesh)
        self._nodes = _Timed(nodes)
        self._control.project(self._nodes, proxy=lambda _: NODE, on_demand=nodes.on_demand)
        discovery.follow(self._heard)
        self._names: set[str] = set()
        self._places = places
        self._authority = authority
        self.first, *_, self.spare = places
        self.process = self.remote = 0

    async def start(self, remote: int) -> Started:
        """Starts Envoy; returns when it listens."""
        own = [local_workload(number) for number in self._places]
        secrets = node_secrets(self._authority, *(identity_of(each, mesh=DEFAULT_MESH) for each in own))
        placements = tuple(_placement(number, path) for number, path in self._places.items())
        objects: tuple[MeshObject, ...] = (*_namespaces(remote), *own[:-1], *map(remote_workload, range(remote)))
        self._control.apply(Reset("machine", placements), Reset(SOURCE, objects))
        self.process = await self._proxies.connected(NODE, secrets, workers=len(os.sched_getaffinity(0)))
        self.remote = remote
        await self._proxies.discovery.wait_connected(NODE)
        start = time.perf_counter()
        await self._accepted()
        while not await self._listens():  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0.01)
        return _started(self.process, len(own) - 1, remote, seconds=time.perf_counter() - start)

    async def take(self, change: Change) -> Taken:
        """Carries one change through."""
        before = await self._proxies.counters(NODE, _COUNTERS)
        self._names.clear()
        used = processor_seconds([self.process])
        moments = [time.perf_counter()]
        self._control.apply(change)
        moments.append(time.perf_counter())
        await self._control.settled()
        moments.append(time.perf_counter())
        used = processor_seconds([self.process]) - used
        await self._accepted()
        after = await self._proxies.counters(NODE, _COUNTERS)
        draining = Draining(*(after[each] for each in DRAINING))
        told, envoy = (later - earlier for earlier, later in itertools.pairwise(moments))
        render, names = self._nodes.seconds, frozenset(self._names)
        return Taken(told - render, render, envoy, used, names, after[RECEIVED] - before[RECEIVED], draining)

    async def dial(self, remote: Iterable[int]) -> None:
        """The first workload dials remote ones, until the proxy is done with each."""
        for number in remote:
            door = Door(PORT, remote_workload(number).addresses[0], self._places[self.first])
            with contextlib.suppress(OSError):
                connection = await door.open()
                await connection.reader.read()
                await connection.close()
        await self._accepted()

    def resident(self) -> int:
        """Envoy's memory, in bytes."""
        return resident(self.process)

    async def stop(self) -> None:
        await self._proxies.stop()

    def _heard(self, _: ProxyKey, __: TypeUrl | None, names: Collection[str]) -> None:
        self._names.update(names)

    async def _accepted(self) -> None:
        for kind in (CLUSTER, LISTENER):
            if refused := await self._proxies.discovery.wait_acked(NODE, kind):
                raise RuntimeError(f"Envoy refused {refused}")

    async def _listens(self) -> bool:
        said = await self._proxies.counters(NODE, r"^listener_manager\.(workers_started|total_listeners_warming)$")
        return said == {"listener_manager.workers_started": 1, "listener_manager.total_listeners_warming": 0}


@contextlib.asynccontextmanager
async def places_for(beds: Iterable[range]) -> AsyncIterator[dict[int, str]]:
    """Namespaces for the local workloads of these numbers, by path; empty paths where none can be made.

    The first of each bed is captured and reaches all remote addresses, where nothing listens.
    """
    if unsupported():
        yield {number: "" for numbers in beds for number in numbers}
        return
    async with MeshNetwork() as network:  # removes what a killed run leaves, by its names
        sink = await network.add("bench/sink", capture=False)
        await run_tool("ip", "-n", sink.name, "route", "add", "local", REMOTE, "dev", "lo")
        bare: dict[int, str] = {}
        dialling: dict[int, str] = {}
        for first, *others in beds:
            bare |= {number: f"peerauth-{network.instance}-{number}" for number in others}
            dialling[first] = (await network.add(f"bench/dials-{first}")).path
        await run_tool("ip", "-batch", "-", text="".join(f"netns add {name}\n" for name in bare.values()))
        try:
            yield dialling | {number: f"/run/netns/{name}" for number, name in bare.items()}
        finally:
            await run_tool("ip", "-batch", "-", text="".join(f"netns delete {name}\n" for name in bare.values()))


def local_workload(number: int) -> Workload:
    """A workload of the node, selected by the label `app`, which is its name."""
    key, high = _local_key(number), 240 + os.getpid() % 8  # apart from what other tests bind on loopback
    meta = Meta(key.name, key.namespace, labels=pairs({"app": key.name}))
    address = f"127.{high}.{number >> 8}.{number & 255}"
    return Workload(meta, service_account=key.name, ports=(Port(PORT),), addresses=(address,), node="here")


def _placement(number: int, namespace: str) -> Placement:
    capture = Capture.TRANSPARENT if namespace else Capture.EXPLICIT
    addresses = local_workload(number).addresses
    return Placement(_local_key(number), "here", addresses, capture, Captor.NODE, "127.0.0.1", namespace)


def remote_workload(number: int) -> Workload:
    """A workload of another node; ten in a row are one application."""
    application = f"app-{number // REPLICAS}"
    meta = Meta(f"remote-{number}", _remote_namespace(number), labels=pairs({"app": application}))
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    return Workload(meta, service_account=application, ports=(Port(PORT),), addresses=(address,), node="elsewhere")


def _started(process: int, local: int, remote: int, *, seconds: float) -> Started:
    return Started(local, remote, resident(process), len(list(Path(f"/proc/{process}/fd").iterdir())), seconds)


def _local_key(number: int) -> WorkloadKey:
    return WorkloadKey(LOCAL_NAMESPACE, f"local-{number}")


def _remote_namespace(number: int) -> str:
    return f"ns-{number // PER_NAMESPACE}"


def _namespaces(remote: int) -> list[Namespace]:
    # One more than there are, for a remote workload that comes later.
    names = {LOCAL_NAMESPACE, *(_remote_namespace(number) for number in range(remote + 1))}
    return [namespace(name, _AMBIENT) for name in sorted(names)]
