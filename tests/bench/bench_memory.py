"""Memory for each workload, proxy and destination: PYTHONPATH=tests python tests/bench/bench_memory.py [--quick]

Slopes of the control plane's resident memory between two sizes, each size in a process of its own, so that what
everything costs once drops out. Every row has what the one above it has, and something more.

- a workload: the same workloads as mere values in a list, then in a world, then in a world with decisions;
- a proxy: a connection of the same gRPC with one listener and no session (floor.py), with a session (the discovery
  server), and as the control plane has it (scale_mesh.py), in a mesh of 2,000 workloads;
- a destination: a name that a proxy has asked for, of 20 that ask for the same ones.

    --before CHECKOUT          another version of the product, with a .venv, which takes turns too
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.bench_index import mesh_of
from bench.bench_push import BODIES, NAME
from bench.floor import FloorServer
from bench.scale_mesh import PORT, Subject, resident
from bench.scale_mesh import Mesh as ScaleMesh
from bench.simulated_proxies import SimulatedProxies
from bench.versions import Version, versions
from peerauth.aio import spawn
from peerauth.dataplane.type_urls import LISTENER
from peerauth.model.changes import Reset
from peerauth.model.world import World
from peerauth.policy.mesh import Mesh
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import DiscoveryServer, UdsBinding
from peerauth.xds.wire import ProxyKey

ASKING = 20
"""Proxies that ask for destinations."""


def values_alone(number: int) -> int:
    kept = mesh_of(number)
    return resident() * bool(kept)


def in_a_world(number: int) -> int:
    kept, world = mesh_of(number), World()
    world.apply(Reset("bench", kept))
    return resident() * bool(kept)


def in_a_mesh(number: int) -> int:
    kept, mesh = mesh_of(number), Mesh()
    mesh.apply(Reset("bench", kept))
    return resident() * bool(kept)


def without_sessions(number: int) -> int:
    return asyncio.run(_connected(number, sessions=False))


def with_sessions(number: int) -> int:
    return asyncio.run(_connected(number, sessions=True))


def in_the_control_plane(number: int) -> int:
    return asyncio.run(_controlled(number, names=0))


def destinations(number: int) -> int:
    return asyncio.run(_controlled(ASKING, names=number // ASKING))


async def _controlled(sidecars: int, *, names: int) -> int:
    """Resident bytes once the sidecars are connected to a control plane and each has asked for so many names."""
    with tempfile.TemporaryDirectory() as folder:
        mesh = ScaleMesh(sidecars=sidecars, workloads=2_000, per_namespace=10)
        subject = Subject(mesh, Path(folder))
        async with asyncio.TaskGroup() as group:
            roll = spawn(group, subject.control.run(), name="control plane")
            await subject.start()
            proxies = await SimulatedProxies.start(subject.sockets)
            await subject.obey({"settle": True})
            asked = [f"dst|{address}:{PORT}" for at in range(names) for address in mesh.workload(at).addresses]
            if asked:
                await proxies.ask(dict.fromkeys(subject.sockets, asked))
                await proxies.quiet()
            used = resident()
            await proxies.stop()
            roll.cancel()
        await subject.stop()
        return used


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


class Row(NamedTuple):
    """What grows, and between which two sizes. `beyond` is the row that the goal does not count."""

    name: str
    grows: Callable[[int], int]
    sizes: tuple[int, int]
    beyond: str = ""
    goal: int = 0


ROWS = (
    Row("a workload: its value", values_alone, (10_000, 100_000)),
    Row("... in the world", in_a_world, (10_000, 100_000)),
    Row("... and its decision", in_a_mesh, (10_000, 100_000), "... in the world", 400),
    Row("a proxy: gRPC alone", without_sessions, (50, 250)),
    Row("... with a session", with_sessions, (50, 250)),
    Row("... in the control plane", in_the_control_plane, (50, 250), "a proxy: gRPC alone", 40 << 10),
    Row("a destination asked for", destinations, (0, 400 * ASKING)),
)


def slope(row: Row, version: Version, *, quick: bool) -> float:
    """Bytes for each of what there is more of at the second size; `quick`: whether it runs at all, at a small one."""
    if quick:
        return _one(row, version, ASKING) / ASKING
    less, more = row.sizes
    return (_one(row, version, more) - _one(row, version, less)) / (more - less)


def _one(row: Row, version: Version, number: int) -> int:
    script = version.checkout / "tests" / "bench" / Path(__file__).name
    said = subprocess.run(
        [version.python, str(script), "--one", row.name, str(number)],
        capture_output=True,
        check=False,
        env=version.environment(),
        text=True,
    )
    if said.returncode:
        raise SystemExit(f"{row.name} failed with {number}: {said.stderr}")
    return int(said.stdout)


def report(by_version: dict[Version, dict[str, float]]) -> None:
    own, *others = by_version.values()
    print(f"{'bytes for each':28}{'all':>10}{'beyond':>10}{'goal':>8}", end="")
    print(f"{'before: all':>14}{'beyond':>10}{'ratio':>8}" if others else "   (of ratio)")
    for row in ROWS:
        print(f"{row.name:28}{own[row.name]:10.0f}", end="")
        beyond = own[row.name] - own.get(row.beyond, 0)
        print(f"{beyond:10.0f}{row.goal:8}" if row.beyond else " " * 18, end="")
        for other in others:
            theirs = other[row.name] - other.get(row.beyond, 0)
            print(f"{other[row.name]:14.0f}{theirs:10.0f}{beyond / (theirs or 1):8.2f}", end="")
        print()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="as short as can be: whether it runs, not what it costs")
    parser.add_argument("--before", default="", metavar="CHECKOUT", help="another version of the product")
    parser.add_argument("--one", nargs=2, metavar=("ROW", "SIZE"), help="only the bytes of one row at one size")
    options = parser.parse_args()
    if options.one:
        print(next(row for row in ROWS if row.name == options.one[0]).grows(int(options.one[1])))
        return
    report(
        {
            version: {row.name: slope(row, version, quick=options.quick) for row in ROWS}
            for version in versions(options.before)
        }
    )


if __name__ == "__main__":
    main()
