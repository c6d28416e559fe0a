"""A changed policy on a real Envoy: PYTHONPATH=tests python tests/bench/bench_change.py [--quick]

From the change to Envoy's acknowledgement of the new listener. Three Envoys with the same configuration take turns:
behind the least server that can be written (prepared bytes, no session: floor.py), behind peerauth's discovery server
given the same bytes, and behind the whole control plane given a PeerAuthentication (world, decisions, rendering,
discovery). The port goes between STRICT and PERMISSIVE, which is one change in place and never staged.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median, quantiles

from bench.floor import FloorServer
from peerauth.agent.envoy import EnvoyLaunch, command, find_envoy
from peerauth.control.plane import ControlPlane, proxy_key
from peerauth.dataplane.envoy.bootstrap import Sockets, bootstrap
from peerauth.dataplane.resources import Resources
from peerauth.dataplane.type_urls import CLUSTER, LISTENER, SECRET, TypeUrl
from peerauth.model.changes import Reset, Upsert
from peerauth.model.inventory import Port
from peerauth.model.placement import Captor, Capture, Placement
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import Discovery, DiscoveryServer, UdsBinding
from peerauth.xds.wire import ProxyKey, Resource, encode_delta
from rigs.clients import loopback
from rigs.envoyrig import Authority
from samples.meshes import namespace, policy, workload
from samples.sidecars import FINANCE

MODES = ("STRICT", "PERMISSIVE")
NAME = "inbound_8080"
Flip = Callable[[int], Awaitable[None]]


class Plane:
    """A control plane of one workload at `address`, and the discovery server that its proxy listens to."""

    def __init__(self, address: str) -> None:
        self.cache = ResourceCache()
        self.discovery = DiscoveryServer(self.cache)
        self.control = ControlPlane(self.cache, acknowledgements=self.discovery)
        injected = namespace("foo", {"istio-injection": "enabled"})
        finance = workload("foo/finance", {"app": "finance"}, ports=(Port(8080),))
        self.proxy = proxy_key(finance.key)
        placement = Placement(finance.key, "here", (address,), Capture.EXPLICIT, Captor.SIDECAR, "127.0.0.1")
        self.control.apply(Reset("bench", (injected, finance, placement)))

    def say(self, mode: str) -> None:
        self.control.apply(Upsert("bench", policy("foo/default", mode)))

    async def acknowledged(self) -> None:
        if await self.discovery.wait_acked(self.proxy, LISTENER):
            raise RuntimeError("Envoy refused the listener")

    def resources(self, mode: str) -> Resources:
        """What the proxy has in a mode."""
        self.say(mode)
        view = self.cache.view(self.proxy)
        kinds = (CLUSTER, LISTENER)
        return {kind: {name: view.by_type[kind][name].body for name in view.names(kind)} for kind in kinds}


class Bed:
    """Three Envoys and what serves them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._secrets = Authority().secrets(FINANCE.uri)
        self._processes: list[asyncio.subprocess.Process] = []
        self._servers: list[DiscoveryServer | FloorServer] = []

    async def floor(self) -> Flip:
        states = [Plane(loopback(1)).resources(mode) for mode in MODES]
        first = {b"config.cluster": _answer(CLUSTER, states[0]), b"config.listener": _answer(LISTENER, states[0])}
        changes = [_answer(LISTENER, state, only=NAME) for state in states]
        server = FloorServer(self._folder / "floor-xds", first=first)
        self._servers.append(server)
        await server.start()
        await self._envoy("floor")
        await asyncio.wait_for(server.connected(), 30)

        async def flip(number: int) -> None:
            await server.push(changes[number % 2])

        return flip

    async def bytes_given(self) -> Flip:
        plane = Plane(loopback(2))
        bodies = [plane.resources(mode)[LISTENER][NAME] for mode in MODES]
        plane.say(MODES[0])
        await self._served("bytes", plane)

        async def flip(number: int) -> None:
            plane.cache.update(plane.proxy, LISTENER, {NAME: bodies[number % 2]})
            await plane.acknowledged()

        return flip

    async def policy_given(self) -> Flip:
        plane = Plane(loopback(3))
        plane.say(MODES[0])
        await self._served("policy", plane)

        async def flip(number: int) -> None:
            plane.say(MODES[number % 2])
            await plane.acknowledged()

        return flip

    async def stop(self) -> None:
        for process in self._processes:
            process.kill()
            await process.wait()
        for server in self._servers:
            await server.stop()

    async def _served(self, name: str, plane: Plane) -> None:
        self._servers.append(plane.discovery)
        await plane.discovery.serve(UdsBinding(self._folder / f"{name}-xds", plane.proxy))
        await self._envoy(name, node=plane.proxy)
        await asyncio.wait_for(plane.acknowledged(), 30)

    async def _envoy(self, name: str, *, node: str = "bench") -> None:
        secrets = ResourceCache()
        secrets.set(ProxyKey(node), SECRET, self._secrets)
        sockets = Sockets(*(str(self._folder / f"{name}-{kind}") for kind in ("admin", "xds", "sds")))
        server = DiscoveryServer(secrets)
        self._servers.append(server)
        await server.serve(UdsBinding(Path(sockets.sds), ProxyKey(node), (Discovery.SECRETS,)))
        config = self._folder / f"{name}.json"
        config.write_text(bootstrap(node, cluster="bench", sockets=sockets))
        log = self._folder / f"{name}.log"
        launch = EnvoyLaunch(name=name, binary=find_envoy(), bootstrap=config, admin=Path(sockets.admin), log=log)
        with log.open("wb") as said:
            process = await asyncio.create_subprocess_exec(*command(launch), stdout=said, stderr=said)
        self._processes.append(process)


def _answer(kind: TypeUrl, resources: Resources, *, only: str = "") -> bytes:
    made = [Resource.of(kind, name=name, body=body) for name, body in resources[kind].items() if only in ("", name)]
    return encode_delta(made, type_url=kind, nonce="1", removed=())


async def run(*, flips: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bed = Bed(Path(folder))
        try:
            ways = {
                "prepared bytes, no session": await bed.floor(),
                "peerauth, given the bytes": await bed.bytes_given(),
                "peerauth, given the policy": await bed.policy_given(),
            }
            taken: dict[str, list[float]] = {name: [] for name in ways}
            for number in range(1, flips + 1):
                for name, flip in ways.items():
                    start = time.perf_counter()
                    await flip(number)
                    taken[name].append(time.perf_counter() - start)
        finally:
            await bed.stop()
    floor = next(iter(taken.values()))
    print(f"{flips} changes each, from the change to Envoy's acknowledgement")
    print(f"{'':28}{'median ms':>10}{'p90 ms':>9}{'ratio':>7}{'p90 ratio':>10}")
    for name, seconds in taken.items():
        middle, high = median(seconds), quantiles(seconds, n=10)[-1]
        ratio, high_ratio = middle / median(floor), high / quantiles(floor, n=10)[-1]
        print(f"{name:28}{middle * 1e3:10.2f}{high * 1e3:9.2f}{ratio:7.2f}{high_ratio:10.2f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="as short as can be: whether it runs, not what it costs")
    asyncio.run(run(flips=4 if parser.parse_args().quick else 200))


if __name__ == "__main__":
    main()
