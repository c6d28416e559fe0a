"""Memory for each workload and each connected proxy: PYTHONPATH=tests python tests/bench/bench_memory.py [--quick]

Slopes of resident memory between two sizes, each size in a process of its own, so that what everything costs once drops
out. A workload in the world and the index is compared with the same workload as a mere value in a list; a connected
proxy of peerauth's discovery server with one of a server without sessions (floor.py).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.bench_index import mesh_of
from bench.bench_push import BODIES, NAME
from bench.floor import FloorServer
from bench.simulated_proxies import SimulatedProxies
from peerauth.dataplane.resources import LISTENER
from peerauth.model.changes import Reset
from peerauth.policy.mesh import Mesh
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import DiscoveryServer, UdsBinding
from peerauth.xds.wire import ProxyKey

Grows = Callable[[int], object]


def resident() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def values_alone(number: int) -> object:
    kept = mesh_of(number)
    return resident(), kept


def world_and_index(number: int) -> object:
    kept = mesh_of(number)
    mesh = Mesh()
    mesh.apply(Reset("bench", kept))
    return resident(), kept, mesh


def with_sessions(number: int) -> object:
    return asyncio.run(_connected(number, sessions=True)), None


def without_sessions(number: int) -> object:
    return asyncio.run(_connected(number, sessions=False)), None


async def _connected(number: int, *, sessions: bool) -> int:
    """Resident bytes once `number` proxies are connected, each on a socket of its own, and acknowledged a listener."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"p{each}" for each in range(number)]
        cache = ResourceCache()
        discovery, floors = DiscoveryServer(cache), [FloorServer(path) for path in paths]
        proxies = [ProxyKey(path.name) for path in paths]
        for proxy, path, floor in zip(proxies, paths, floors, strict=True):
            cache.update(proxy, LISTENER, {NAME: BODIES[0]})
            await (discovery.serve(UdsBinding(path, proxy)) if sessions else floor.start())
        connected = await SimulatedProxies.start([str(path) for path in paths])
        if sessions:
            await asyncio.gather(*(discovery.wait_acked(proxy, LISTENER) for proxy in proxies))
        else:
            await asyncio.gather(*(floor.connected() for floor in floors))
        used = resident()
        await connected.stop()
        await discovery.stop()
        await asyncio.gather(*(floor.stop() for floor in floors))
        return used


def _measure(grows: Grows, number: int, said: multiprocessing.SimpleQueue[int]) -> None:
    kept = grows(number)
    assert isinstance(kept, tuple)
    said.put(kept[0])


def slope(grows: Grows, sizes: tuple[int, int]) -> float:
    """Bytes for each of what there is more of at the second size."""
    context = multiprocessing.get_context("spawn")
    used: list[int] = []
    for size in sizes:
        said: multiprocessing.SimpleQueue[int] = context.SimpleQueue()
        process = context.Process(target=_measure, args=(grows, size, said))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{grows} failed with {size}")
        used.append(said.get())
    return (used[1] - used[0]) / (sizes[1] - sizes[0])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="as short as can be: whether it runs, not what it costs")
    quick = parser.parse_args().quick
    workloads, proxies = ((1_000, 2_000), (1, 2)) if quick else ((10_000, 100_000), (50, 250))
    values, world = slope(values_alone, workloads), slope(world_and_index, workloads)
    print(f"bytes for each workload:  {world:8.0f} in world and index, {values:8.0f} as a value alone", end="")
    print(f", ratio {world / max(values, 1):.2f}; goal 100 bytes in all")
    bare, session = slope(without_sessions, proxies), slope(with_sessions, proxies)
    print(f"bytes for each proxy:     {session:8.0f} with a session,     {bare:8.0f} without", end="")
    print(f", ratio {session / max(bare, 1):.2f}; goal {40 << 10} bytes")


if __name__ == "__main__":
    main()
