"""Transparent capture with a real Envoy: what is dialled is asked for, and without an answer nothing goes out.

The discovery server is the test's own: what is shown is what Envoy does with each answer, and with none.
"""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from peerauth.agent.netns import MeshNetwork, WorkloadNamespace, socket_in, unsupported
from peerauth.dataplane.envoy.destinations import destination_name, destination_resources
from peerauth.dataplane.envoy.hops import TO_SHARD
from peerauth.dataplane.envoy.outbound import VIRTUAL_OUTBOUND
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.envoy.sidecar_values import ApplicationPort, SidecarWorkload
from peerauth.dataplane.resources import Resources
from peerauth.dataplane.type_urls import CLUSTER, ENDPOINT, LISTENER
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.connections import Arrival, ConnectionSeen
from peerauth.model.mesh import DEFAULT_MESH, MeshConfig, OutboundTraffic
from peerauth.model.placement import Capture
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.destinations import Destination
from peerauth.policy.outbound import Transport
from peerauth.policy.shards import Shard
from peerauth.telemetry.envoy import parse_connection
from rigs.clients import Application, Connection, application
from rigs.envoyrig import Authority, RunningEnvoy, running_envoy
from samples.sidecars import CLIENT, FINANCE, decided, sidecar

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.root,
    pytest.mark.skipif(bool(unsupported()), reason=unsupported() or "supported"),
]

STRICT, OPEN = 8080, 9090
RANGES = ("10.0.0.0/8", "fc00::/7")
VIP, VIP6 = "10.96.0.1", "fd96::1"
OUTSIDE = "192.0.2.1"
"""An address of the server that is in none of the mesh's ranges."""


class Side(NamedTuple):
    """A workload with its sidecar, which asks for what it dials."""

    place: WorkloadNamespace
    envoy: RunningEnvoy
    connections: list[Connection]

    async def dials(self, address: str, port: int) -> Connection:
        """A connection of its application, closed at the end of the test at the latest."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = await Connection.open(address, port, new_socket=lambda: socket_in(self.place.path, family))
        self.connections.append(made)
        return made

    async def hears(self, address: str, port: int) -> bool:
        """Whether a greeting comes back."""
        connection = await self.dials(address, port)
        heard = await connection.echoes()
        await connection.close()
        return heard

    async def knows(self, address: str, port: int, *ends: DestinationEndpoint, balanced: bool = False) -> None:
        """Its control plane says what is at an address and port from now on."""
        name = destination_name(address, port)
        await self.envoy.discovery.tell(name, destination_resources(name, Destination(ends, balanced)))

    async def is_asked(self, address: str, port: int, *, times: int = 1) -> None:
        await self.envoy.discovery.destinations.question(CLUSTER, destination_name(address, port), times=times)

    async def close(self) -> None:
        for each in self.connections:
            await each.close()

    def questions(self) -> Counter[str]:
        """How often each cluster has been asked for."""
        return Counter(name for kind, name in self.envoy.discovery.destinations.asked if kind == CLUSTER)

    async def told(self, source: Connection) -> ConnectionSeen:
        """What the log says of the end of a connection."""
        line = await self.envoy.line(lambda line: f'"{source.source}"' in line)
        seen = parse_connection(line)
        assert seen is not None
        return seen


class Scene(NamedTuple):
    """A server that is STRICT but for one port, and a client."""

    server: Side
    client: Side
    apps: dict[int, Application]

    @property
    def address(self) -> str:
        return self.server.place.addresses[0]

    def at(
        self, port: int, transport: Transport = Transport.MUTUAL_TLS, identity: SpiffeId = FINANCE, *, address: str = ""
    ) -> DestinationEndpoint:
        """The server's port as an endpoint."""
        named = None if transport is Transport.PLAINTEXT else identity
        return DestinationEndpoint(address or self.address, port, transport, named)


def resources_of(workload: SidecarWorkload) -> Resources:
    """A sidecar's configuration, but that a connection waits no longer than a second for an answer."""
    resources = render_sidecar(workload)
    listeners = dict(resources[LISTENER])
    for name in (VIRTUAL_OUTBOUND, TO_SHARD):
        listener = listener_pb2.Listener.FromString(listeners[name])
        for chain in listener.filter_chains:
            _be_impatient(chain)
        listeners[name] = listener.SerializeToString()
    return {**resources, LISTENER: listeners}


def _be_impatient(chain: listener_components_pb2.FilterChain) -> None:
    for each in chain.filters:
        proxy = tcp_proxy_pb2.TcpProxy()
        if each.typed_config.Unpack(proxy) and proxy.HasField("on_demand"):
            proxy.on_demand.timeout.FromSeconds(1)
            each.typed_config.Pack(proxy)


def serving(place: WorkloadNamespace) -> SidecarWorkload:
    return sidecar(
        decided("STRICT", {OPEN: "DISABLE"}),
        addresses=place.addresses,
        declared=(ApplicationPort(STRICT),),
        capture=Capture.TRANSPARENT,
        ranges=RANGES,
    )


def calling(place: WorkloadNamespace, mesh: MeshConfig = DEFAULT_MESH) -> SidecarWorkload:
    return sidecar(
        decided("PERMISSIVE"),
        identity=CLIENT,
        addresses=place.addresses,
        declared=(),
        capture=Capture.TRANSPARENT,
        ranges=RANGES,
        mesh=mesh,
    )


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    authority = Authority()
    async with MeshNetwork() as network, contextlib.AsyncExitStack() as stack:

        async def side(place: WorkloadNamespace, workload: SidecarWorkload) -> Side:
            folder = tmp_path / workload.identity.service_account
            folder.mkdir()
            secrets = authority.secrets(workload.identity.uri)
            envoy = running_envoy(folder, resources_of(workload), secrets, network_namespace=place.path)
            made = Side(place, await stack.enter_async_context(envoy), [])
            stack.push_async_callback(made.close)
            return made

        addresses = ("10.250.9.1", "fd70:6565:7261::9:1", OUTSIDE)
        places = await network.add("foo/finance", addresses=addresses), await network.add("foo/client")
        apps = {}
        for port in (STRICT, OPEN):
            listener = socket_in(places[0].path, socket.AF_INET6)
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(("::", port))
            listener.listen()
            listener.setblocking(False)
            apps[port] = await stack.enter_async_context(application(listener=listener))
        yield Scene(await side(places[0], serving(places[0])), await side(places[1], calling(places[1])), apps)


async def test_an_address_is_spoken_to_as_the_answer_says_and_to_nobody_else(scene: Scene) -> None:
    client = scene.client
    for address in scene.server.place.addresses[:2]:
        for transport in (Transport.MUTUAL_TLS, Transport.HBONE):
            await client.knows(address, STRICT, scene.at(STRICT, transport, address=address))
            assert await client.hears(address, STRICT)
            await client.knows(address, STRICT, scene.at(STRICT, transport, CLIENT, address=address))
            assert not await client.hears(address, STRICT), "it is someone else than is expected there"
    await client.knows(scene.address, OPEN, scene.at(OPEN, Transport.PLAINTEXT))
    assert await client.hears(scene.address, OPEN)
    assert set(client.questions().values()) == {1}, "asked once, however often dialled"


async def test_a_connection_waits_for_its_answer_and_those_to_one_destination_share_one_question(scene: Scene) -> None:
    client, known = scene.client, scene.client.envoy.discovery.destinations
    known.silent = True
    several = [await client.dials(scene.address, STRICT) for _ in range(5)]
    await client.is_asked(scene.address, STRICT)
    known.silent = False
    await client.knows(scene.address, STRICT, scene.at(STRICT))
    assert [await each.echoes() for each in several] == [True] * 5
    assert client.questions() == {destination_name(scene.address, STRICT): 1}


async def test_without_an_answer_nothing_goes_out_though_plaintext_would_be_taken(scene: Scene) -> None:
    client, known = scene.client, scene.client.envoy.discovery.destinations
    known.silent = True
    held = await client.dials(scene.address, OPEN)
    assert not await held.echoes()
    assert scene.apps[OPEN].saw() == "nothing"
    seen = await client.told(held)
    assert (seen.arrival, seen.flags, seen.port) == (Arrival.REFUSED, "NC", OPEN)
    assert "not said" in seen.failure
    known.silent = False
    await client.knows(scene.address, OPEN, scene.at(OPEN, Transport.PLAINTEXT))
    assert await client.hears(scene.address, OPEN), "the question stands until it is answered"
    await client.envoy.discovery.tell(destination_name(scene.address, OPEN), None)
    assert not await client.hears(scene.address, OPEN), "and what is removed is as unknown"
    await client.knows(scene.address, OPEN, scene.at(OPEN, Transport.PLAINTEXT))
    assert await client.hears(scene.address, OPEN)
    assert client.questions() == {destination_name(scene.address, OPEN): 1}, "never asked again, nor given up"


async def test_that_there_is_nothing_closes_at_once(scene: Scene) -> None:
    connection = await scene.client.dials("10.1.2.3", STRICT)
    assert await connection.ended()
    seen = await scene.client.told(connection)
    assert (seen.arrival, seen.flags) == (Arrival.REFUSED, "NC")
    assert seen.duration_ms < 1000, "it waited although there was an answer"


def wrong(scene: Scene, kind: str) -> bytes:
    """A cluster for the server's open port that is wrong in one way."""
    name = destination_name(scene.address, OPEN)
    secure = kind not in {"refused", "misnamed"}
    end = scene.at(STRICT) if secure else scene.at(OPEN, Transport.PLAINTEXT)
    cluster = cluster_pb2.Cluster.FromString(destination_resources(name, Destination((end,)))[CLUSTER])
    host = cluster.load_assignment.endpoints[0].lb_endpoints[0]
    match kind:
        case "refused":
            host.endpoint.address.socket_address.address = "no address"
            host.endpoint.address.socket_address.port_value = OPEN
        case "misnamed":
            cluster.name = cluster.load_assignment.cluster_name = destination_name("10.1.2.3", OPEN)
        case "without a name":
            del host.metadata.filter_metadata["peerauth"]
        case "without an address":
            del host.metadata.filter_metadata["envoy.filters.listener.original_dst"]
    return cluster.SerializeToString()


@pytest.mark.parametrize("kind", ["refused", "misnamed", "without a name", "without an address"])
async def test_an_answer_that_is_wrong_is_none(scene: Scene, kind: str) -> None:
    """A server's name that is missing is one that no certificate has; an address that is missing is nowhere."""
    client = scene.client
    client.envoy.discovery.destinations.known[destination_name(scene.address, OPEN)] = {CLUSTER: wrong(scene, kind)}
    assert not await client.hears(scene.address, OPEN)
    assert {port: app.saw() for port, app in scene.apps.items()} == {STRICT: "nothing", OPEN: "nothing"}
    if kind == "without a name":
        await client.envoy.line(lambda line: "expected_SANs:_[-]" in line)
    client.envoy.discovery.refused.clear()
    await client.knows(scene.address, OPEN, scene.at(OPEN, Transport.PLAINTEXT))
    assert await client.hears(scene.address, OPEN)
    with contextlib.suppress(AssertionError):
        resources = {CLUSTER: wrong(scene, "refused")}
        await client.envoy.discovery.tell(destination_name(scene.address, OPEN), resources)
    assert await client.hears(scene.address, OPEN), "a change that is refused leaves what was there"


async def test_without_a_control_plane_what_is_known_works_and_the_rest_is_closed_until_it_is_back(
    scene: Scene,
) -> None:
    client, vip_ends = scene.client, (scene.at(STRICT), scene.at(STRICT, Transport.HBONE))
    await client.knows(scene.address, STRICT, scene.at(STRICT))
    await client.knows(VIP, STRICT, *vip_ends, balanced=True)
    assert await client.hears(scene.address, STRICT)
    assert await client.hears(VIP, STRICT)
    async with client.envoy.without_control_plane():
        assert await client.hears(scene.address, STRICT)
        assert await client.hears(VIP, STRICT)
        unknown = await client.dials(scene.address, OPEN)
        assert not await unknown.echoes()
        assert scene.apps[OPEN].saw() == "nothing"
        assert (await client.told(unknown)).flags == "NC"
    client.envoy.discovery.destinations.known[destination_name(scene.address, OPEN)] = destination_resources(
        destination_name(scene.address, OPEN), Destination((scene.at(OPEN, Transport.PLAINTEXT),))
    )
    await client.is_asked(scene.address, OPEN, times=1)
    held = client.envoy.discovery.destinations.held[CLUSTER]
    names = {destination_name(scene.address, STRICT), destination_name(VIP, STRICT)}
    assert names <= held.keys(), "it says what it has, so that nothing of it need be sent again"
    assert await client.hears(scene.address, OPEN)


async def test_a_service_leads_to_its_endpoints_each_in_its_own_way(scene: Scene) -> None:
    client = scene.client
    v4, v6, _ = scene.server.place.addresses
    for vip, address in ((VIP, v4), (VIP6, v6)):
        ends = [scene.at(STRICT, transport, address=address) for transport in (Transport.MUTUAL_TLS, Transport.HBONE)]
        await client.knows(vip, STRICT, *ends, scene.at(OPEN, Transport.PLAINTEXT, address=address), balanced=True)
        assert [await client.hears(vip, STRICT) for _ in range(6)] == [True] * 6
        assert scene.apps[OPEN].seen.qsize() == 2, "load is spread evenly"
        while not scene.apps[OPEN].seen.empty():
            scene.apps[OPEN].saw()
    live = await client.dials(VIP, STRICT)
    assert await live.echoes()
    scene.apps[OPEN].saw()
    for transport in (Transport.HBONE, Transport.MUTUAL_TLS):
        await client.knows(VIP, STRICT, scene.at(STRICT, transport), balanced=True)
        assert [await client.hears(VIP, STRICT) for _ in range(3)] == [True] * 3
        assert scene.apps[OPEN].saw() == "nothing", "what has left gets nothing"
        assert await live.echoes(), "who comes or goes touches no connection to others"
    await client.knows(VIP, STRICT, scene.at(STRICT, identity=CLIENT), balanced=True)
    assert not await client.hears(VIP, STRICT), "a name alone that is another counts for the next connection"
    await client.knows(VIP, STRICT, balanced=True)
    assert not await client.hears(VIP, STRICT)
    assert await live.echoes()
    await live.close()
    assert client.questions()[destination_name(VIP, STRICT)] == 1
    assert (ENDPOINT, destination_name(VIP, STRICT)) in client.envoy.discovery.destinations.asked


async def test_an_endpoint_that_is_someone_else_is_not_passed_over(scene: Scene) -> None:
    """Nothing tries again behind a handshake that failed: who must get nothing has to leave the endpoints."""
    client = scene.client
    await client.knows(VIP, STRICT, scene.at(STRICT), scene.at(STRICT, Transport.HBONE, CLIENT), balanced=True)
    heard = [await client.hears(VIP, STRICT) for _ in range(6)]
    assert Counter(heard) == {True: 3, False: 3}


async def test_a_workload_that_dials_its_own_service_is_served_as_any_other(scene: Scene) -> None:
    """Mutual TLS to itself comes in by its sidecar, which alone understands it."""
    server = scene.server
    for transport in (Transport.MUTUAL_TLS, Transport.HBONE):
        await server.knows(VIP, STRICT, scene.at(STRICT, transport), balanced=True)
        assert await server.hears(VIP, STRICT)
    await server.knows(VIP, OPEN, scene.at(OPEN, Transport.PLAINTEXT), balanced=True)
    assert await server.hears(VIP, OPEN)
    assert await server.hears(scene.address, STRICT), "its own address is its own"
    assert destination_name(scene.address, STRICT) not in server.questions()


async def test_outside_the_mesh_nothing_is_asked_and_the_proxys_own_ports_lead_nowhere(scene: Scene) -> None:
    client = scene.client
    for port in (15001, 15006):
        connection = await client.dials(scene.address, port)
        assert await connection.ended()
        assert (await client.told(connection)).arrival is Arrival.REFUSED
    connection = await client.dials(OUTSIDE, OPEN)
    assert await connection.echoes()
    await connection.close()
    seen = await client.told(connection)
    assert (seen.chain, seen.arrival) == ("outside", Arrival.UNTOUCHED)
    closed = calling(client.place, MeshConfig(outbound_traffic=OutboundTraffic.REGISTRY_ONLY))
    await client.envoy.discovery.apply(resources_of(closed))
    connection = await client.dials(OUTSIDE, OPEN)
    assert await connection.ended()
    seen = await client.told(connection)
    assert (seen.chain, seen.arrival) == ("outside", Arrival.REFUSED)
    assert not client.questions()


async def test_each_connection_is_told_once_by_who_made_it(scene: Scene) -> None:
    client = scene.client
    await client.knows(scene.address, STRICT, scene.at(STRICT))
    connection = await client.dials(scene.address, STRICT)
    assert await connection.echoes()
    await connection.close()
    seen = await client.told(connection)
    assert (seen.arrival, seen.peer, seen.port) == (Arrival.MUTUAL_TLS, FINANCE, STRICT)
    assert seen.source == connection.source
    await client.knows(scene.address, STRICT, scene.at(STRICT, identity=CLIENT))
    refused = await client.dials(scene.address, STRICT)
    assert await refused.ended()
    seen = await client.told(refused)
    assert (seen.arrival, seen.peer) == (Arrival.REFUSED, None)
    assert FINANCE.uri in seen.failure
    for each in (connection, refused):
        assert sum(f'"{each.source}"' in line for line in client.envoy.connections) == 1


async def test_a_large_service_is_reached_through_its_pieces_each_as_often_as_its_share_says(scene: Scene) -> None:
    """What is a piece is asked for like any destination: without an answer what was balanced to it goes nowhere."""
    client, tell = scene.client, scene.client.envoy.discovery.tell
    names = {label: destination_name(VIP, STRICT, label) for label in ("", "0", "1")}
    whole = Destination((), balanced=True, shards=(Shard("0", 3), Shard("1", 1)))
    secure = Destination((scene.at(STRICT), scene.at(STRICT, Transport.HBONE)), balanced=True)
    plain = Destination((scene.at(OPEN, Transport.PLAINTEXT),), balanced=True)
    for label, destination in (("0", secure), ("1", plain), ("", whole)):
        await tell(names[label], destination_resources(names[label], destination))
    connections = [await client.dials(VIP, STRICT) for _ in range(16)]
    assert [await each.echoes() for each in connections] == [True] * 16
    assert {port: app.seen.qsize() for port, app in scene.apps.items()} == {STRICT: 12, OPEN: 4}
    assert client.questions() == dict.fromkeys(names.values(), 1)
    await connections[0].close()
    seen = await client.told(connections[0])
    assert (seen.source, seen.port in {STRICT, OPEN}) == (connections[0].source, True)
    await tell(names["1"], None)
    heard = [await client.hears(VIP, STRICT) for _ in range(4)]
    assert sorted(heard) == [False, True, True, True]
    moved = Destination((), balanced=True, shards=(Shard("0", 3),))
    await tell(names[""], destination_resources(names[""], moved))
    assert [await client.hears(VIP, STRICT) for _ in range(4)] == [True] * 4
    assert all([await each.echoes() for each in connections[1:]]), "what is open goes on"
