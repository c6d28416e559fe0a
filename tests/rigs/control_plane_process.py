"""A control plane as a process of its own, so that a test can kill it: `python -m rigs.control_plane_process PLAN`.

PLAN is JSON: the folder of documents, and for each sidecar workload its place and its proxy's discovery socket. Every
line on standard input reads the documents again; `settled` is said once every proxy has what follows from them.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from peerauth.aio import spawn
from peerauth.control.plane import ControlPlane, proxy_key
from peerauth.model.placement import Placement
from peerauth.model.world import Reset
from peerauth.sources.files import load
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import Discovery, DiscoveryServer, UdsBinding


class Proxy(msgspec.Struct, frozen=True):
    """One workload; `socket` is empty where it has no proxy."""

    placement: Placement
    socket: str = ""


class Plan(msgspec.Struct, frozen=True):
    """What this process has to know."""

    documents: str
    proxies: tuple[Proxy, ...]


async def serve(plan: Plan) -> None:
    """Until standard input ends."""
    cache = ResourceCache()
    discovery = DiscoveryServer(cache)
    plane = ControlPlane(cache, acknowledgements=discovery)
    with_proxy = {proxy_key(proxy.placement.workload): proxy.socket for proxy in plan.proxies if proxy.socket}
    placements = Reset("machine", tuple(proxy.placement for proxy in plan.proxies))

    def apply() -> None:
        plane.apply(placements, Reset("files", load([plan.documents]).objects))

    apply()
    for key, socket in with_proxy.items():
        await discovery.serve(UdsBinding(Path(socket), key, (Discovery.AGGREGATED,)))
    async with asyncio.TaskGroup() as group:
        roll = spawn(group, plane.run(), name="control plane")
        while True:
            for key in with_proxy:
                await discovery.wait_connected(key)
            await plane.settled()
            print("settled", flush=True)
            if not await asyncio.to_thread(sys.stdin.readline):
                break
            apply()
        roll.cancel()
    await discovery.stop()


if __name__ == "__main__":
    asyncio.run(serve(msgspec.json.decode(sys.argv[1], type=Plan)))
