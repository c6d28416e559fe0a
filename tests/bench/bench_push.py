"""One push against the bytes it carries: PYTHONPATH=tests python tests/bench/bench_push.py [--quick]

The server runs here, the proxies (simulated_proxies.py) in a process of their own, each on its own Unix socket as in
the product. Three servers take turns: peerauth's (cache, session, record of what was acknowledged), the same gRPC with
no session at all, and bare sockets. A push counts when it was acknowledged. Processor time is this process's, with all
its threads.

Two things are asserted, because they are no times: a proxy that a change does not touch receives not one byte (but for
gRPC's measuring of its own window, which may still trail after earlier traffic and is counted apart), and a thousand
changes in one go are at most two pushes.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

from bench.floor import FloorServer, Line, RawServer, push_all
from bench.simulated_proxies import Received, SimulatedProxies
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.type_urls import LISTENER
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import DiscoveryServer, UdsBinding
from peerauth.xds.wire import ProxyKey, Resource, encode_delta
from samples.sidecars import decided, sidecar

NAME = "inbound_8080"
BODIES = [render_sidecar(sidecar(decided("STRICT", {8080: mode})))[LISTENER][NAME] for mode in ("STRICT", "PERMISSIVE")]
ANSWERS = [
    encode_delta([Resource.of(LISTENER, name=NAME, body=body)], type_url=LISTENER, nonce="1", removed=())
    for body in BODIES
]
BLOCKS = 8
"""How many turns each server gets; the median of the turns' ratios counts."""


class Taken(NamedTuple):
    """Seconds for each push of a turn."""

    processor: float
    wall: float


class SessionLine:
    """One proxy of peerauth's server. What is pushed alternates; the bytes given are what a floor would send."""

    def __init__(self, number: int, cache: ResourceCache, server: DiscoveryServer) -> None:
        self.proxy = ProxyKey(f"sidecar~{number}")
        self._cache, self._server = cache, server

    async def push(self, data: bytes) -> None:
        self._cache.update(self.proxy, LISTENER, {NAME: BODIES[ANSWERS.index(data)]})
        assert await self._server.wait_acked(self.proxy, LISTENER) == ()


class Bed:
    """Three servers with the same number of proxies each, all connected."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder, self._number = folder, number
        self.cache = ResourceCache()
        self.server = DiscoveryServer(self.cache)
        self.sessions = [SessionLine(each, self.cache, self.server) for each in range(number)]
        self.floors = [FloorServer(self._path("floor", each)) for each in range(number)]
        self.raws: list[RawServer] = []

    def _path(self, kind: str, number: int) -> Path:
        return self._folder / f"{kind}{number}"

    def session_path(self, number: int) -> str:
        return str(self._path("xds", number))

    async def __aenter__(self) -> Bed:
        for number, line in enumerate(self.sessions):
            self.cache.update(line.proxy, LISTENER, {NAME: BODIES[0]})
            await self.server.serve(UdsBinding(self._path("xds", number), line.proxy))
            await self.floors[number].start()
            self.raws.append(await RawServer.start(self._path("raw", number)))
        kinds = ("xds", "floor", "raw")
        sockets = [str(self._path(kind, number)) for kind in kinds for number in range(self._number)]
        self._proxies = await SimulatedProxies.start(sockets)
        async with asyncio.timeout(60):
            for line in self.sessions:
                await self.server.wait_acked(line.proxy, LISTENER)
            await asyncio.gather(*(floor.connected() for floor in self.floors))
            await asyncio.gather(*(raw.connected() for raw in self.raws))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._proxies.stop()
        await self.server.stop()
        await asyncio.gather(*(floor.stop() for floor in self.floors))
        for raw in self.raws:
            raw.stop()

    async def received(self) -> dict[str, Received]:
        """What has arrived, by socket."""
        return await self._proxies.received()


async def measured(work: Callable[[bytes], Awaitable[None]], *, pushes: int, each: int) -> Taken:
    """The cost of one push, over `pushes` calls of `work` that make `each` pushes."""
    cpu, start = time.process_time(), time.perf_counter()
    for number in range(pushes):
        await work(ANSWERS[(number + 1) % 2])  # all begin with the first, so the second is a change
    total = pushes * each
    return Taken((time.process_time() - cpu) / total, (time.perf_counter() - start) / total)


async def compare(bed: Bed, *, what: str, affected: int, pushes: int) -> None:
    """Prints a line for one change of `affected` proxies, on each server in turn."""
    kinds: list[Sequence[Line]] = [bed.sessions[:affected], bed.floors[:affected], bed.raws[:affected]]
    turns: list[list[Taken]] = []
    for _ in range(BLOCKS):
        turns.append([await measured(partial(push_all, lines), pushes=pushes, each=affected) for lines in kinds])
    ours, floor, raw = ([turn[kind] for turn in turns] for kind in range(3))

    def ratio(base: list[Taken]) -> float:
        return median(one.processor / of.processor for one, of in zip(ours, base, strict=True))

    def micros(taken: list[Taken]) -> str:
        processor, wall = median(t.processor for t in taken), median(t.wall for t in taken)
        return f"{processor * 1e6:8.0f}/{wall * 1e6:<7.0f}"

    print(f"{what:28}{micros(ours)} {micros(floor)} {micros(raw)}{ratio(floor):9.2f}{ratio(raw):9.2f}")


async def check_bytes(bed: Bed, *, pushes: int) -> float:
    """Bytes on the wire for one push to one proxy; raises SystemExit if another proxy got any."""
    before = await bed.received()
    await measured(bed.sessions[0].push, pushes=pushes, each=1)
    after = await bed.received()
    others = sum(after[path].payload - before[path].payload for path in after if path != bed.session_path(0))
    if others:
        raise SystemExit(f"proxies that the change did not touch received {others} bytes")
    return (after[bed.session_path(0)].bytes - before[bed.session_path(0)].bytes) / pushes


async def check_burst(bed: Bed, *, changes: int = 1000) -> int:
    """How many messages a proxy gets for many changes in one go: at most two."""
    path, line = bed.session_path(0), bed.sessions[0]
    before = (await bed.received())[path].messages
    for number in range(changes):
        bed.cache.update(line.proxy, LISTENER, {NAME: BODIES[(number + 1) % 2]})
    bed.cache.update(line.proxy, LISTENER, {NAME: BODIES[1]})
    await bed.server.wait_acked(line.proxy, LISTENER)
    await line.push(ANSWERS[0])
    messages = (await bed.received())[path].messages - before - 1
    if messages > 2:
        raise SystemExit(f"{changes} changes in one go were {messages} pushes")
    return messages


async def run(*, sizes: Sequence[int], pushes: int) -> None:
    length = mean(len(body) for body in BODIES)
    print(f"one listener of {length:.0f} bytes; microseconds for each push: processor/elapsed")
    print(
        f"{'proxies that change':28}{'peerauth':^16} {'no session':^16} {'bare socket':^16}{'ratio':>9}{'to bare':>9}"
    )
    wire, burst = 0.0, 0
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            async with Bed(Path(folder), size) as bed:
                await compare(bed, what=f"1 of {size}", affected=1, pushes=pushes)
                if size > 1:
                    await compare(bed, what=f"all {size}", affected=size, pushes=max(2, pushes // size & ~1))
                wire, burst = await check_bytes(bed, pushes=pushes), await check_burst(bed)
    print(f"on the wire: {wire:.0f} bytes a push, {wire / length:.3f} of the resource", end="")
    print(f"; to the {sizes[-1] - 1} other proxies 0; 1000 changes in one go: {burst} pushes")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="as short as can be: whether it runs, not what it costs")
    quick = parser.parse_args().quick
    asyncio.run(run(sizes=(1, 3) if quick else (1, 50, 200), pushes=4 if quick else 200))


if __name__ == "__main__":
    main()
