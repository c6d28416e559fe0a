"""The ways that bench_traffic.py sends a request: a client's proxy, a server's proxy, one application behind all.

Some proxies have peerauth's configuration, over discovery and with certificates over SDS, as in the product; the others
one of the files in `handwritten/`. Each is an Envoy of its own with one worker, so that its processor time is its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from bench.loader import Door
from bench.proxies import Proxies, answers, free_port
from bench.turns import Way
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.envoy.sidecar_values import ApplicationPort, EgressPort, SidecarWorkload
from peerauth.dataplane.resources import Resources
from peerauth.model.endpoint import Endpoint
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.outbound import Transport
from rigs.clients import loopback
from rigs.envoyrig import Authority
from samples.sidecars import CLIENT, FINANCE, decided, sidecar

PLAIN = "plaintext, by hand"
BY_HAND = "mutual TLS, by hand"
STRICT = "STRICT server"
PERMISSIVE = "PERMISSIVE server"
BOTH_HBONE = "STRICT, both ends, HBONE"


class Paths:
    """The proxies and where they are."""

    def __init__(self, proxies: Proxies, folder: Path) -> None:
        self._proxies = proxies
        self._authority = Authority()
        self._identities = {"server_identity": FINANCE.uri, "trust_domain": FINANCE.trust_domain}
        (folder / "roots.pem").write_bytes(self._authority.root_pem)
        for name, identity in (("client", CLIENT), ("server", FINANCE)):
            chain, key = self._authority.issue(identity.uri)
            (folder / f"{name}.pem").write_bytes(chain)
            (folder / f"{name}.key").write_bytes(key)

    async def open(self) -> list[Way]:
        """Every way, once an answer has come through it."""
        app = Endpoint("127.0.0.1", free_port())
        await self._by_hand("application", app.port)
        plain, tls = (Endpoint("127.0.0.1", free_port()) for _ in range(2))
        servers = {
            PLAIN: await self._by_hand("plain", plain.port, to=app),
            BY_HAND: await self._by_hand("mtls-server", tls.port, to=app),
        }
        ports = {PLAIN: await self._client("plain", plain), BY_HAND: await self._client("mtls-client", tls)}
        addresses = {STRICT: loopback(1), PERMISSIVE: loopback(2)}
        for name, address in addresses.items():
            mode = name.partition(" ")[0]
            secrets = self._authority.secrets(FINANCE.uri)
            servers[name] = await self._proxies.by_peerauth(mode.lower(), _server(mode, address, app), secrets)
            ports[name] = await self._client("mtls-client", Endpoint(address, 8080))
        there = Endpoint(addresses[STRICT], 8080)
        both = {Transport.MUTUAL_TLS: "STRICT, both ends", Transport.HBONE: BOTH_HBONE}
        doors = {transport: free_port() for transport in both}
        client = _client(loopback(3), there, doors)
        await self._proxies.by_peerauth("client", client, self._authority.secrets(CLIENT.uri))
        for transport, name in both.items():
            ports[name], servers[name] = doors[transport], servers[STRICT]
        ways = [Way(name, Door(port), (servers[name],)) for name, port in ports.items()]
        for way in ways:
            await answers(way.door)
        return ways

    async def _client(self, template: str, to: Endpoint) -> int:
        port = free_port()
        await self._by_hand(template, port, to=to)
        return port

    async def _by_hand(self, template: str, port: int, *, to: Endpoint | None = None) -> int:
        values = self._identities | {"address": "127.0.0.1", "port": str(port)}
        if to is not None:
            values |= {"to_address": to.address, "to_port": str(to.port)}
        return await self._proxies.by_hand(template, **values)


@contextlib.asynccontextmanager
async def all_ways(folder: Path) -> AsyncIterator[list[Way]]:
    """Every way to the application, for as long as the context lasts."""
    proxies = Proxies(folder)
    try:
        yield await Paths(proxies, folder).open()
    finally:
        await proxies.stop()


def _server(mode: str, address: str, app: Endpoint) -> Resources:
    return render_sidecar(sidecar(decided(mode), addresses=(address,), declared=(ApplicationPort(8080, app),)))


def _client(address: str, to: Endpoint, ports: dict[Transport, int]) -> Resources:
    egress = tuple(
        EgressPort(transport.value, "127.0.0.1", port, (DestinationEndpoint(to.address, to.port, transport, FINANCE),))
        for transport, port in ports.items()
    )
    workload: SidecarWorkload = sidecar(
        decided("STRICT"), identity=CLIENT, addresses=(address,), declared=(), egress=egress
    )
    return render_sidecar(workload)
