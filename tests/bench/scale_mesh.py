"""The control plane that bench_scale.py measures: one mesh, a process of its own, a socket for each of its sidecars.

    python tests/bench/scale_mesh.py FOLDER SIDECARS WORKLOADS PER_NAMESPACE

The mesh has that many workloads, the first SIDECARS of them with a sidecar, PER_NAMESPACE to a namespace; the others
are ambient and of other nodes. `USERS` sidecars, the last ones, have asked for all that is measured: two workloads, a
pod that comes and goes, a Service. Capture is transparent.

The first line of standard output says what there is (`Subject.start`). Then every line on standard input is an order
in JSON, answered by a line of JSON, a `Cost`: `{"change": KIND, "number": N}` makes one change (N alternates what it
says) and answers when every proxy has acknowledged what follows from it; `{"end": KIND}` takes back what is left of
it; `{"expect": true}` begins to count for `{"settle": true}`, which waits until every sidecar has begun a stream since
and has what it is to have. bench_scale.py may drive this file as another version of the product has it: the dialogue
is to stay as it is.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from peerauth.aio import spawn
from peerauth.control.plane import ControlPlane, proxy_key
from peerauth.dataplane.type_urls import LISTENER, TypeUrl
from peerauth.model.changes import Change, Delete, MeshObject, Reset, Upsert, ref_of
from peerauth.model.inventory import EndpointSlice, Namespace, Port, Service, ServicePort, SliceEndpoint, Workload
from peerauth.model.meta import Meta
from peerauth.model.placement import Captor, Capture, Placement
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import Discovery, DiscoveryServer, UdsBinding
from peerauth.xds.wire import ProxyKey
from samples.meshes import ROOT, namespace, pairs, policy

SOURCE = "bench"
USERS = 20
PORT = 8080
VIRTUAL_IP = "10.200.0.1"
ENDPOINTS = 10
PER_AMBIENT_NAMESPACE = 100
BEAT_S = 0.005
MODES = ("STRICT", "PERMISSIVE")
OFF = ("DISABLE", "PERMISSIVE")
OF_MESH = "the mesh's policy"
OF_NAMESPACE = "a namespace's policy"
OF_WORKLOAD = "a workload's policy"
DISABLED = "a workload to DISABLE, or back"
COMES = "one more pod"
GOES = "one pod gone"
ENDPOINT_CHANGES = "one endpoint of a Service"
NOTHING = Reset("nobody")
Say = Callable[[int], Change]


class Cost(msgspec.Struct):
    """Seconds: this process's processor time, and elapsed until acknowledged; the longest that the event loop did not
    turn, elapsed and of its own thread's processor time. `resident` is in
    bytes, where all had to settle.
    """

    processor: float
    elapsed: float
    held: float
    held_processor: float
    resident: int = 0


class Kind(NamedTuple):
    """A kind of change. `concerned`: the numbers of the sidecars that it may reach; `end` takes back what it left."""

    say: Say
    concerned: tuple[int, ...]
    end: Change = NOTHING


class Mesh:
    """What there is and what changes, as data."""

    def __init__(self, *, sidecars: int, workloads: int, per_namespace: int) -> None:
        self.sidecars, self._workloads, self._per_namespace = sidecars, workloads, per_namespace
        self._users = tuple(range(max(2, sidecars - USERS), sidecars))
        self._spare = self.workload(workloads, name="spare", where="ns-0")
        self._slice = EndpointSlice(
            Meta("shop-1", "shop"),
            service="shop",
            endpoints=tuple(SliceEndpoint((address_of(workloads + 1 + each),)) for each in range(ENDPOINTS)),
            ports=(Port(PORT),),
        )
        self.kinds = self._kinds()

    def objects(self) -> Iterator[MeshObject]:
        """All that there is before the first change."""
        for number in range(-(-self.sidecars // self._per_namespace)):
            yield namespace(f"ns-{number}", {"istio-injection": "enabled"})
        yield from (self.workload(number) for number in range(self.sidecars))
        yield namespace("shop", {"istio.io/dataplane-mode": "ambient"})
        yield Service(Meta("shop", "shop"), ports=(ServicePort(80, PORT),), cluster_ips=(VIRTUAL_IP,))
        yield self._slice
        for each in range(ENDPOINTS):
            yield self.workload(self._workloads + 1 + each, name=f"shop-{each}", where="shop")
        yield from self._others()

    def _others(self) -> Iterator[MeshObject]:
        """Ambient workloads, a policy in each namespace that selects one in ten."""
        made: set[Namespace] = set()
        for number in range(self.sidecars, self._workloads):
            where = f"ambient-{number // PER_AMBIENT_NAMESPACE}"
            if (new := namespace(where, {"istio.io/dataplane-mode": "ambient"})) not in made:
                made.add(new)
                yield new
                yield policy(f"{where}/one", "STRICT", selector={"app": "app-0"})
            yield self.workload(number, where=where, app=f"app-{number % 10}")

    def workload(self, number: int, *, name: str = "", where: str = "", app: str = "") -> Workload:
        name = name or f"w-{number}"
        where = where or f"ns-{number // self._per_namespace}"
        labels = pairs({"app": app or name, "version": "v1"})
        return Workload(
            Meta(name, where, labels=labels),
            service_account=app or name,
            ports=(Port(PORT),),
            addresses=(address_of(number),),
        )

    def _kinds(self) -> Mapping[str, Kind]:
        everyone = tuple(range(self.sidecars))
        of_namespace = everyone[: self._per_namespace]
        some = msgspec.structs.replace(self._slice, endpoints=self._slice.endpoints[1:])

        def policies(name: str, modes: tuple[str, ...], concerned: tuple[int, ...], app: str = "") -> Kind:
            selector = {"app": app} if app else None
            said = [policy(name, mode, selector=selector) for mode in modes]
            return Kind(lambda number: Upsert(SOURCE, said[number % 2]), concerned, Delete(SOURCE, ref_of(said[0])))

        first, second = (self.workload(number).meta for number in range(2))
        return {
            OF_MESH: policies(f"{ROOT}/bench", MODES, everyone),
            OF_NAMESPACE: policies("ns-0/bench", MODES, of_namespace),
            OF_WORKLOAD: policies(f"{first.namespace}/one", MODES, (0,), first.name),
            DISABLED: policies(f"{second.namespace}/off", OFF, (1, *self._users), second.name),
            COMES: Kind(lambda _: Upsert(SOURCE, self._spare), self._users),
            GOES: Kind(lambda _: Delete(SOURCE, ref_of(self._spare)), self._users),
            ENDPOINT_CHANGES: Kind(lambda number: Upsert(SOURCE, self._slice if number % 2 else some), self._users),
        }

    def asked(self) -> Mapping[int, tuple[str, ...]]:
        """The destinations that each of the users has dialled, by the number of its sidecar."""
        addresses = [*self.workload(0).addresses, *self.workload(1).addresses, *self._spare.addresses]
        names = (*(f"dst|{address}:{PORT}" for address in addresses), f"dst|{VIRTUAL_IP}:80")
        return dict.fromkeys(self._users, names)


def resident() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def address_of(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


class Heartbeat:
    """The longest that the event loop did not turn between `begin` and `end`."""

    def begin(self) -> None:
        self.held = self.held_processor = 0.0
        self._at, self._processor = time.perf_counter() - BEAT_S, time.thread_time()
        self._next = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def end(self) -> None:
        self._look()
        self._next.cancel()

    def _beat(self) -> None:
        self._look()
        self._next = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _look(self) -> None:
        now, processor = time.perf_counter(), time.thread_time()
        self.held = max(self.held, now - self._at - BEAT_S)
        self.held_processor = max(self.held_processor, processor - self._processor)
        self._at, self._processor = now, processor


class Subject:
    """The control plane of a mesh, and a discovery server with a socket for each sidecar."""

    def __init__(self, mesh: Mesh, folder: Path) -> None:
        self._mesh = mesh
        cache = ResourceCache()
        self._discovery = DiscoveryServer(cache)
        self.control = ControlPlane(cache, acknowledgements=self._discovery)
        sidecars = [mesh.workload(number) for number in range(mesh.sidecars)]
        self._proxies = {str(folder / f"sidecar{at}"): proxy_key(each.key) for at, each in enumerate(sidecars)}
        self._silent = {*self._proxies.values()}
        self._all_heard = asyncio.Event()
        self._discovery.follow(self._heard)
        self._heartbeat = Heartbeat()
        self._begin()

    async def start(self) -> Mapping[str, object]:
        """Loads the mesh and opens the sockets; returns what there is, and what loading took."""
        sidecars = [self._mesh.workload(number) for number in range(self._mesh.sidecars)]
        placements = (
            Placement(each.key, "here", each.addresses, Capture.TRANSPARENT, Captor.SIDECAR) for each in sidecars
        )
        cost = await self._change(Reset("machine", tuple(placements)), Reset(SOURCE, tuple(self._mesh.objects())))
        for path, proxy in self._proxies.items():
            await self._discovery.serve(UdsBinding(Path(path), proxy, (Discovery.AGGREGATED,)))
        return {
            "sockets": self.sockets,
            "kinds": {name: kind.concerned for name, kind in self._mesh.kinds.items()},
            "ask": self._mesh.asked(),
            "load": msgspec.to_builtins(cost),
        }

    @property
    def sockets(self) -> list[str]:
        """One for each sidecar, in the order of the sidecars."""
        return list(self._proxies)

    async def stop(self) -> None:
        await self._discovery.stop()

    async def obey(self, order: Mapping[str, object]) -> Cost:
        match order:
            case {"change": str(kind), "number": int(number)}:
                return await self._change(self._mesh.kinds[kind].say(number))
            case {"end": str(kind)}:
                return await self._change(self._mesh.kinds[kind].end)
            case {"expect": True}:
                self._silent.update(self._proxies.values())
                self._all_heard.clear()
                self._begin()
                return Cost(0, 0, 0, 0)
            case _:
                await self._all_heard.wait()
                return msgspec.structs.replace(await self._settled(), resident=resident())

    async def _change(self, *changes: Change) -> Cost:
        self._begin()
        self.control.apply(*changes)
        return await self._settled()

    async def _settled(self) -> Cost:
        await self.control.settled()
        return self._cost()

    def _begin(self) -> None:
        self._heartbeat.begin()
        self._start = time.process_time(), time.perf_counter()

    def _cost(self) -> Cost:
        self._heartbeat.end()
        processor, elapsed = time.process_time() - self._start[0], time.perf_counter() - self._start[1]
        return Cost(processor, elapsed, self._heartbeat.held, self._heartbeat.held_processor)

    def _heard(self, proxy: ProxyKey, type_url: TypeUrl | None, _: object) -> None:
        """The listeners are the last that a sidecar speaks of when it begins a stream."""
        if type_url == LISTENER:
            self._silent.discard(proxy)
            if not self._silent:
                self._all_heard.set()


async def main(folder: str, *numbers: str) -> None:
    sidecars, workloads, per_namespace = map(int, numbers)
    subject = Subject(Mesh(sidecars=sidecars, workloads=workloads, per_namespace=per_namespace), Path(folder))
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with asyncio.TaskGroup() as group:
        roll = spawn(group, subject.control.run(), name="control plane")
        print(json.dumps(await subject.start()), flush=True)
        while line := await lines.readline():
            print(msgspec.json.encode(await subject.obey(json.loads(line))).decode(), flush=True)
        roll.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
