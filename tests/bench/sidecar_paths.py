"""The ways that bench_traffic.py sends a request: a client's proxy, a server's proxy, one application behind all.

Some proxies have peerauth's configuration, over discovery and with certificates over SDS, as in the product; the others
one of the files in `handwritten/`. Each is an Envoy of its own with one worker, so that its processor time is its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from string import Template
from typing import NamedTuple

from clients import loopback
from envoyrig import Authority
from peerauth.agent.envoy import EnvoyLaunch, command, find_envoy
from peerauth.dataplane.envoy.bootstrap import Sockets, bootstrap
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.resources import (
    SECRET,
    DeclaredPort,
    EgressEndpoint,
    EgressPort,
    Endpoint,
    Resources,
    SidecarWorkload,
)
from peerauth.policy.outbound import Transport
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import DiscoveryServer, UdsBinding
from peerauth.xds.wire import ProxyKey
from sidecars import CLIENT, FINANCE, decided, sidecar

TEMPLATES = Path(__file__).parent / "handwritten"
BIG = 1 << 20
START_TIMEOUT_S = 30.0


class Way(NamedTuple):
    """`port` on 127.0.0.1 is where the client's application connects; `server` is the process of the server's proxy."""

    name: str
    port: int
    server: int


class Ways:
    """Starts proxies and knows where they are; what it started ends with `stop`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = Authority()
        self._cache = ResourceCache()
        self._discovery = DiscoveryServer(self._cache)
        self._processes: list[asyncio.subprocess.Process] = []
        self._written = {"folder": str(folder), "server_identity": FINANCE.uri, "trust_domain": FINANCE.trust_domain}
        (folder / "big").write_text("x" * BIG)
        (folder / "roots.pem").write_bytes(self._authority.root_pem)
        for name, identity in (("client", CLIENT), ("server", FINANCE)):
            chain, key = self._authority.issue(identity.uri)
            (folder / f"{name}.pem").write_bytes(chain)
            (folder / f"{name}.key").write_bytes(key)

    async def open(self) -> list[Way]:
        """Every way, once an answer has come through it: plaintext first, then the hand-written mutual TLS."""
        app = Endpoint("127.0.0.1", free_port())
        await self._by_hand("application", app.port)
        plain, tls = (Endpoint("127.0.0.1", free_port()) for _ in range(2))
        servers = {
            "plain": await self._by_hand("plain", plain.port, to=app),
            "hand": await self._by_hand("mtls-server", tls.port, to=app),
        }
        ways = [
            Way("plaintext, by hand", await self._client("plain", plain), servers["plain"]),
            Way("mutual TLS, by hand", await self._client("mtls-client", tls), servers["hand"]),
        ]
        addresses = {"STRICT": loopback(1), "PERMISSIVE": loopback(2)}
        for mode, address in addresses.items():
            servers[mode] = await self._by_peerauth(mode.lower(), _server(mode, address, app))
            at = Endpoint(address, 8080)
            ways.append(Way(f"{mode} server", await self._client("mtls-client", at), servers[mode]))
        there = Endpoint(addresses["STRICT"], 8080)
        ports = {transport: free_port() for transport in (Transport.MUTUAL_TLS, Transport.HBONE)}
        await self._by_peerauth("client", _client(loopback(3), there, ports))
        ways.append(Way("STRICT, both ends", ports[Transport.MUTUAL_TLS], servers["STRICT"]))
        ways.append(Way("STRICT, both ends, HBONE", ports[Transport.HBONE], servers["STRICT"]))
        for way in ways:
            await _answers(way.port)
        return ways

    async def stop(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            await process.wait()
        await self._discovery.stop()

    async def _client(self, template: str, to: Endpoint) -> int:
        port = free_port()
        await self._by_hand(template, port, to=to)
        return port

    async def _by_hand(self, template: str, port: int, *, to: Endpoint | None = None) -> int:
        values = self._written | {"port": str(port)}
        if to is not None:
            values |= {"to_address": to.address, "to_port": str(to.port)}
        text = Template((TEMPLATES / f"{template}.yaml").read_text()).substitute(values)
        return await self._start(f"{template}-{port}", text, suffix="yaml")

    async def _by_peerauth(self, name: str, resources: Resources) -> int:
        proxy, path, folder = ProxyKey(name), self._folder / name / "xds", self._folder
        identity = CLIENT if name == "client" else FINANCE
        self._cache.replace(proxy, {**resources, SECRET: self._authority.secrets(identity.uri)})
        await self._discovery.serve(UdsBinding(path, proxy))
        sockets = Sockets(admin=str(folder / f"{name}.admin"), xds=str(path), sds=str(path))
        return await self._start(name, bootstrap(name, cluster=name, sockets=sockets), suffix="json")

    async def _start(self, name: str, config: str, *, suffix: str) -> int:
        path = self._folder / f"{name}.{suffix}"
        path.write_text(config)
        envoy = EnvoyLaunch(
            name=name,
            binary=find_envoy(),
            bootstrap=path,
            admin=self._folder / f"{name}.admin",
            log=self._folder / f"{name}.log",
            log_level="error",
        )
        with envoy.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command(envoy), stdout=asyncio.subprocess.DEVNULL, stderr=log
            )
        self._processes.append(process)
        return process.pid


@contextlib.asynccontextmanager
async def all_ways(folder: Path) -> AsyncIterator[list[Way]]:
    """Every way to the application, for as long as the context lasts."""
    ways = Ways(folder)
    try:
        yield await ways.open()
    finally:
        await ways.stop()


def _server(mode: str, address: str, app: Endpoint) -> Resources:
    return render_sidecar(sidecar(decided(mode), addresses=(address,), declared=(DeclaredPort(8080, app),)))


def _client(address: str, to: Endpoint, ports: dict[Transport, int]) -> Resources:
    egress = tuple(
        EgressPort(transport.value, "127.0.0.1", port, (EgressEndpoint(to, transport, FINANCE),))
        for transport, port in ports.items()
    )
    workload: SidecarWorkload = sidecar(
        decided("STRICT"), identity=CLIENT, addresses=(address,), declared=(), egress=egress
    )
    return render_sidecar(workload)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _answers(port: int) -> None:
    """Returns once the application's answer has come back; proxies that are still starting refuse or reset."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n")
                head = await reader.readuntil(b"\r\n")
                writer.close()
                if b" 200 " in head:
                    return
            await asyncio.sleep(0.05)
