"""The ways that bench_ambient.py sends a request: from one network namespace to another, over veth and a bridge.

Three pairs of a client's and a server's namespace, made alike (`agent.netns`) and each with the same application, an
Envoy of one worker, on all addresses of the server's:

- bare: nothing captured, no proxy;
- sidecars: captured, an Envoy of one worker in each, as peerauth configures it for transparent capture;
- ambient: captured, one Envoy for both as the product runs it, with a worker for each processor.

The captured servers have two addresses each, of which the client's proxy knows the second as something else: as a
workload that speaks HBONE where the first speaks mutual TLS, and as no workload at all. So two ways differ in what is
spoken and in nothing besides.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from bench.loader import Door
from bench.proxies import Proxies, answers
from bench.turns import Way
from peerauth.agent.commands import run_tool
from peerauth.agent.netns import MeshNetwork, WorkloadNamespace
from peerauth.dataplane.ambient.node import NodeProxy, NodeWorkload, render_node
from peerauth.dataplane.envoy.destinations import destination_name, destination_resources
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.envoy.sidecar_values import ApplicationPort
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.inventory import WorkloadKey
from peerauth.model.placement import Capture
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.decision import Dataplane
from peerauth.policy.destinations import Destination
from peerauth.policy.outbound import Transport
from peerauth.xds.wire import ProxyKey
from rigs.ambientnode import node_secrets
from rigs.destinations import Source
from rigs.envoyrig import Authority
from samples.sidecars import CLIENT, FINANCE, decided, sidecar

PORT = 8080
RANGES = ("10.0.0.0/8",)
BARE = "plaintext, no proxy"
ONE_END = "plaintext, node's, server only"
BOTH_ENDS = "plaintext, node's, both ends"
MUTUAL_TLS = "mutual TLS, sidecars"
SIDECAR_HBONE = "HBONE, sidecars"
HBONE = "HBONE, node's"
LEAVES: Mapping[str, Mapping[tuple[str, str], int]] = {
    BARE: {},
    MUTUAL_TLS: {("client", "outbound|mtls"): 1},
    SIDECAR_HBONE: {("client", "outbound|hbone"): 1},
    ONE_END: {("node", "inbound|plaintext"): 1},
    BOTH_ENDS: {("node", "outbound|passthrough"): 1, ("node", "inbound|plaintext"): 1},
    HBONE: {("node", "outbound|hbone"): 1, ("node", "inbound|hbone"): 1},
}
"""Which clusters of which proxy one connection on each way is to be counted by: that a way is what its name says."""


class Paths:
    """The namespaces of all ways, and the proxies in and beside them."""

    def __init__(self, network: MeshNetwork, proxies: Proxies) -> None:
        self._network = network
        self._proxies = proxies
        self._authority = Authority()
        self._blocks = iter(range(1, 255))

    async def open(self) -> list[Way]:
        """Every way, once an answer has come through it."""
        ways = [*await self._bare(), *await self._sidecars(), *await self._ambient()]
        for way in ways:
            await answers(way.door)
        for way in ways:
            before = await self._left()
            await answers(way.door)
            if (left := await self._left() - before) != Counter(LEAVES[way.name]):
                raise SystemExit(f"{way.name} went by {dict(left)}")
        return ways

    async def _left(self) -> Counter[tuple[str, str]]:
        """The connections and tunnels that each cluster of each proxy was asked for."""
        counted = Counter[tuple[str, str]]()
        for proxy in ("client", "node"):
            named = await self._proxies.counters(proxy, r"^cluster\.(in|out)bound\|.*\.upstream_rq_total$")
            for name, count in named.items():
                direction, _, rest = name.removeprefix("cluster.").partition("|")
                counted[proxy, f"{direction}|{rest.partition('|')[0].partition('.')[0]}"] += count
        return counted

    async def _bare(self) -> list[Way]:
        client, server = await self._pair("bare", capture=False)
        return [Way(BARE, _door(client, server.addresses[0]), ())]

    async def _sidecars(self) -> list[Way]:
        client, server = await self._pair("sidecars")
        first, second = server.addresses
        self._know("client", {first: Transport.MUTUAL_TLS, second: Transport.HBONE})
        processes = (
            await self._sidecar("client", client, CLIENT),
            await self._sidecar("server", server, FINANCE, declared=(ApplicationPort(PORT),)),
        )
        ways = {MUTUAL_TLS: first, SIDECAR_HBONE: second}
        return [Way(name, _door(client, address), processes) for name, address in ways.items()]

    async def _ambient(self) -> list[Way]:
        client, server = await self._pair("ambient")
        first, second = server.addresses
        places = {CLIENT: client, FINANCE: server}
        workloads = tuple(
            NodeWorkload(
                WorkloadKey(identity.namespace, identity.service_account),
                identity,
                place.addresses,
                decided("PERMISSIVE"),
                place.path,
                ports=(PORT,),
            )
            for identity, place in places.items()
        )
        node = NodeProxy(workloads, RANGES)
        self._know("node", {first: Transport.HBONE, second: Transport.PLAINTEXT})
        workers = len(os.sched_getaffinity(0))
        process = await self._proxies.by_peerauth(
            "node", render_node(node), node_secrets(self._authority, *places), workers=workers
        )
        outsider = await self._namespace("none/outsider", f"10.251.{next(self._blocks)}.1", capture=False)
        return [
            Way(ONE_END, _door(outsider, first), (process,)),
            Way(BOTH_ENDS, _door(client, second), (process,)),
            Way(HBONE, _door(client, first), (process,)),
        ]

    def _know(self, proxy: str, spoken: Mapping[str, Transport]) -> None:
        """What a proxy is told of the application's port at each address, when it asks."""
        source = Source()
        for address, transport in spoken.items():
            name = destination_name(address, PORT)
            expected = None if transport is Transport.PLAINTEXT else FINANCE
            endpoint = DestinationEndpoint(address, PORT, transport, expected)
            client = Dataplane.AMBIENT if proxy == "node" else Dataplane.SIDECAR
            for type_url, body in destination_resources(name, Destination((endpoint,)), client=client).items():
                source.put({(type_url, name): body})
        self._proxies.cache.on_demand(ProxyKey(proxy), source)

    async def _namespace(self, name: str, *addresses: str, capture: bool) -> WorkloadNamespace:
        """One whose ports do not run out: off loopback a used one rests for a minute, unless told not to."""
        place = await self._network.add(name, addresses=addresses, capture=capture)
        for setting, value in (("tcp_tw_reuse", "1"), ("ip_local_port_range", "1024 65535")):
            written = f"echo {value} > /proc/sys/net/ipv4/{setting}"
            await run_tool("ip", "netns", "exec", place.name, "/bin/sh", "-c", written)
        return place

    async def _pair(self, name: str, *, capture: bool = True) -> tuple[WorkloadNamespace, WorkloadNamespace]:
        """A client's namespace and a server's, with the application in it."""
        block = f"10.251.{next(self._blocks)}"
        client = await self._namespace(f"{name}/client", f"{block}.1", capture=capture)
        server = await self._namespace(f"{name}/server", f"{block}.2", f"{block}.3", capture=capture)
        everywhere = {"address": "0.0.0.0", "port": str(PORT)}  # noqa: S104  of its own namespace
        await self._proxies.by_hand("application", name=f"application-{name}", netns=server.path, **everywhere)
        return client, server

    async def _sidecar(
        self,
        name: str,
        place: WorkloadNamespace,
        identity: SpiffeId,
        *,
        declared: tuple[ApplicationPort, ...] = (),
    ) -> int:
        workload = sidecar(
            decided("STRICT"),
            key=WorkloadKey(identity.namespace, identity.service_account),
            identity=identity,
            addresses=place.addresses,
            declared=declared,
            capture=Capture.TRANSPARENT,
            ranges=RANGES,
        )
        secrets = self._authority.secrets(identity.uri)
        return await self._proxies.by_peerauth(name, render_sidecar(workload), secrets, netns=place.path)


@contextlib.asynccontextmanager
async def all_ways(folder: Path) -> AsyncIterator[list[Way]]:
    """Every way between namespaces, for as long as the context lasts. Raises PlatformError where that cannot be."""
    async with MeshNetwork() as network:
        proxies = Proxies(folder)
        try:
            yield await Paths(network, proxies).open()
        finally:
            await proxies.stop()


def _door(client: WorkloadNamespace, address: str) -> Door:
    return Door(PORT, address, client.path)
