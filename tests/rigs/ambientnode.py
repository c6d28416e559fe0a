"""The ambient workloads of one node in their network namespaces, and one real Envoy that serves them all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import msgspec
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from peerauth.agent.netns import MeshNetwork, WorkloadNamespace, socket_in
from peerauth.dataplane.ambient.node import NodeProxy, NodeWorkload, render_node
from peerauth.dataplane.envoy.destinations import destination_of, destination_resources
from peerauth.dataplane.resources import Resources
from peerauth.dataplane.type_urls import TypeUrl
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.inventory import WorkloadKey
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.decision import Dataplane
from peerauth.policy.destinations import Destination
from peerauth.policy.outbound import Transport
from rigs.clients import Application, Connection, NewSocket, application, tunnel
from rigs.envoyrig import Authority, RunningEnvoy, running_envoy
from rigs.ondemand import Destinations
from samples.sidecars import CLIENT, FINANCE, decided

OUTSIDER = "outsider"
RANGES = ("10.0.0.0/8", "fc00::/7")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Node:
    """Namespaces by workload name (and one outside the mesh), and the values that the node's Envoy is rendered from."""

    def __init__(self, network: MeshNetwork, stack: contextlib.AsyncExitStack) -> None:
        self.network = network
        self.places: dict[str, WorkloadNamespace] = {}
        self.workloads: dict[str, NodeWorkload] = {}
        self.expected: dict[str, SpiffeId] = {}
        self.apps: dict[tuple[str, int], Application] = {}
        self._stack = stack

    async def add(
        self, name: str, identity: SpiffeId, *, ports: tuple[int, ...] = (), mode: str = "PERMISSIVE"
    ) -> None:
        """A workload with an application on each of `ports`, of which it declares the first."""
        place = await self.network.add(f"foo/{name}")
        self.places[name] = place
        self.workloads[name] = NodeWorkload(
            WorkloadKey("foo", name), identity, place.addresses, decided("PERMISSIVE"), place.path, ports=ports[:1]
        )
        self.expected[name] = identity
        for port in ports:
            self.apps[name, port] = await self.serve(name, port)

    async def serve(self, name: str, port: int, *, banner: bytes = b"") -> Application:
        """One more application of a workload."""
        return await self._stack.enter_async_context(application(banner, listener=listen(self.places[name], port)))

    @contextlib.asynccontextmanager
    async def answering(self, port: int, handler: Handler) -> AsyncIterator[None]:
        """An application of `server` that does what `handler` does with each connection."""
        async with await asyncio.start_server(handler, sock=listen(self.places["server"], port)):
            yield

    async def remove(self, name: str) -> None:
        """A workload's namespace goes, and whatever knows of it."""
        del self.workloads[name], self.expected[name]
        await self.network.remove(self.places.pop(name))

    def decide(self, name: str, mode: str, ports: Mapping[int, str] | None = None) -> None:
        self.workloads[name] = msgspec.structs.replace(self.workloads[name], decision=decided(mode, ports))

    def rendered(self) -> Resources:
        workloads = tuple(workload for _, workload in sorted(self.workloads.items()))
        return render_node(NodeProxy(workloads, RANGES))

    def destination(self, name: str) -> Mapping[TypeUrl, bytes]:
        """What the node's proxy is told of an address: HBONE to whom is expected there, plaintext to all others."""
        asked = destination_of(name)
        if asked is None:
            return {}
        address, port, _ = asked
        names = [each for each, place in self.places.items() if address in place.addresses]
        identity = next((self.expected[each] for each in names if each in self.expected), None)
        transport = Transport.PLAINTEXT if identity is None else Transport.HBONE
        there = Destination((DestinationEndpoint(address, port, transport, identity),))
        return destination_resources(name, there, client=Dataplane.AMBIENT)

    def address(self, name: str, *, v6: bool = False) -> str:
        return next(address for address in self.places[name].addresses if (":" in address) == v6)

    def sockets(self, name: str, *, v6: bool = False) -> NewSocket:
        return lambda: socket_in(self.places[name].path, socket.AF_INET6 if v6 else socket.AF_INET)

    async def dial(
        self, source: str, target: str, port: int, tls: ssl.SSLContext | None = None, *, v6: bool = False
    ) -> Connection:
        return await Connection.open(self.address(target, v6=v6), port, tls, new_socket=self.sockets(source, v6=v6))

    async def reaches(
        self, source: str, target: str, port: int, tls: ssl.SSLContext | None = None, *, v6: bool = False
    ) -> str:
        """What the application behind a port sees of a greeting."""
        with contextlib.suppress(OSError):
            connection = await self.dial(source, target, port, tls, v6=v6)
            await connection.echoes()
            await connection.close()
        return self.apps[target, port].saw()

    async def tunnels(
        self, target: str, tls: ssl.SSLContext, *, to: str, method: str = "CONNECT", v6: bool = False
    ) -> int | None:
        """The status of one HBONE request from outside the mesh's proxies; None: there is no HTTP/2 at all."""
        address = self.address(target, v6=v6)
        new_socket = self.sockets(OUTSIDER, v6=v6)
        return (await tunnel(address, tls, authority=to, method=method, new_socket=new_socket))[0]


def listen(place: WorkloadNamespace, port: int) -> socket.socket:
    """A listener of both families inside a namespace."""
    listener = socket_in(place.path, socket.AF_INET6)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", port))
    listener.listen(128)
    listener.setblocking(False)
    return listener


def node_secrets(authority: Authority, *identities: SpiffeId) -> dict[str, bytes]:
    """The secrets of a node's Envoy: one certificate for each identity, by its name, and the roots."""
    roots = secret_pb2.Secret(name="ROOTCA")
    roots.validation_context.trusted_ca.inline_bytes = authority.root_pem
    found = {"ROOTCA": roots.SerializeToString()}
    for identity in identities:
        own = secret_pb2.Secret(name=identity.uri)
        chain, key = authority.issue(identity.uri)
        own.tls_certificate.certificate_chain.inline_bytes = chain
        own.tls_certificate.private_key.inline_bytes = key
        found[identity.uri] = own.SerializeToString()
    return found


@contextlib.asynccontextmanager
async def new_node() -> AsyncIterator[Node]:
    """A node without workloads; everything goes with it."""
    async with MeshNetwork() as network, contextlib.AsyncExitStack() as stack:
        made = Node(network, stack)
        made.places[OUTSIDER] = await network.add("none/outsider", capture=False)
        yield made


@contextlib.asynccontextmanager
async def serving(node: Node, folder: Path, authority: Authority, *later: SpiffeId) -> AsyncIterator[RunningEnvoy]:
    """One Envoy for the node; `later` are identities of workloads that are still to come."""
    identities = {workload.identity for workload in node.workloads.values()} | set(later)
    secrets, destinations = node_secrets(authority, *sorted(identities)), Destinations(node.destination)
    async with running_envoy(folder, node.rendered(), secrets, destinations=destinations) as envoy:
        yield envoy


@contextlib.asynccontextmanager
async def served_pair(folder: Path, authority: Authority) -> AsyncIterator[Node]:
    """A client and a server, and one Envoy for both."""
    async with new_node() as made:
        await made.add("client", CLIENT)
        await made.add("server", FINANCE)
        async with serving(made, folder, authority):
            yield made
