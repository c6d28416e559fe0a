"""Real Envoys for the benchmarks: by hand from a file in `handwritten/`, or as peerauth configures them.

The latter get their configuration over discovery and their certificates over SDS, as in the product. Each writes its
access log to /dev/null and has one worker unless it is told otherwise, so that its processor time is its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from string import Template
from urllib.parse import quote

from bench.loader import BIG, Door
from peerauth.agent.admin import ask
from peerauth.agent.envoy import EnvoyLaunch, find_envoy, wrapped_command
from peerauth.dataplane.envoy.bootstrap import Sockets, bootstrap
from peerauth.dataplane.resources import Resources
from peerauth.dataplane.type_urls import SECRET
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import Discovery, DiscoveryServer, UdsBinding
from peerauth.xds.wire import ProxyKey

TEMPLATES = Path(__file__).parent / "handwritten"
START_TIMEOUT_S = 30.0


class Proxies:
    """Starts Envoys, each with files in `folder` by its name; what it started ends with `stop`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[asyncio.subprocess.Process] = []
        self.cache = ResourceCache()
        self.discovery = DiscoveryServer(self.cache)
        self._secrets = ResourceCache()
        self._certificates = DiscoveryServer(self._secrets)
        (folder / "big").write_text("x" * BIG)

    async def by_hand(self, template: str, *, name: str = "", netns: str = "", **values: str) -> int:
        """An Envoy with a file of `handwritten`, where `values` stand for its variables; returns its process."""
        text = Template((TEMPLATES / f"{template}.yaml").read_text()).substitute(values, folder=str(self._folder))
        return await self._start(name or f"{template}-{values['port']}", text, suffix="yaml", netns=netns)

    async def by_peerauth(
        self, name: str, resources: Resources, secrets: Mapping[str, bytes], *, netns: str = "", workers: int = 1
    ) -> int:
        """An Envoy with these resources and certificates; returns its process."""
        self.cache.replace(ProxyKey(name), resources)
        return await self.connected(name, secrets, netns=netns, workers=workers)

    async def connected(self, name: str, secrets: Mapping[str, bytes], *, netns: str = "", workers: int = 1) -> int:
        """An Envoy that gets what `cache` has for the proxy of its name, now and later; returns its process."""
        proxy, (admin, xds, sds) = ProxyKey(name), (self.socket(name, kind) for kind in ("admin", "xds", "sds"))
        xds.parent.mkdir(mode=0o700)
        self._secrets.set(proxy, SECRET, secrets)
        await self._certificates.serve(UdsBinding(sds, proxy, (Discovery.SECRETS,)))
        await self.discovery.serve(UdsBinding(xds, proxy, (Discovery.AGGREGATED,)))
        config = bootstrap(name, cluster=name, sockets=Sockets(admin=str(admin), xds=str(xds), sds=str(sds)))
        return await self._start(name, config, suffix="json", netns=netns, workers=workers)

    async def counters(self, name: str, wanted: str) -> dict[str, int]:
        """The statistics, of one that peerauth configures, whose names match the expression `wanted`."""
        answer = await ask(self.socket(name, "admin"), f"/stats?filter={quote(wanted)}", seconds=START_TIMEOUT_S)
        lines = (line.rpartition(": ") for line in answer.body.decode().splitlines())
        return {name: int(value) for name, _, value in lines if value.isdigit()}

    def socket(self, name: str, kind: str) -> Path:
        """The `admin`, `xds` or `sds` socket of one that peerauth configures."""
        return self._folder / name / kind

    async def stop(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        for process in self._processes:
            await process.wait()
        await self.discovery.stop()
        await self._certificates.stop()

    async def _start(self, name: str, config: str, *, suffix: str, netns: str = "", workers: int = 1) -> int:
        path = self._folder / f"{name}.{suffix}"
        path.write_text(config)
        envoy = EnvoyLaunch(
            name=name,
            binary=find_envoy(),
            bootstrap=path,
            admin=self.socket(name, "admin"),
            log=self._folder / f"{name}.log",
            log_level="error",
            network_namespace=netns,
            concurrency=workers,
        )
        with envoy.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *wrapped_command(envoy, parent=os.getpid()), stdout=asyncio.subprocess.DEVNULL, stderr=log
            )
        self._processes.append(process)
        return process.pid


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def answers(door: Door) -> None:
    """Returns once the application's answer has come back; proxies that are still starting refuse or reset."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                connection = await door.open()
                connection.writer.write(b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n")
                head = await connection.reader.readuntil(b"\r\n")
                connection.writer.close()
                if b" 200 " in head:
                    return
            await asyncio.sleep(0.05)
