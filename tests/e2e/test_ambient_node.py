"""One real Envoy that serves several ambient workloads, each in its network namespace."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from envoy.config.listener.v3 import listener_pb2

from peerauth.agent.commands import run_tool
from peerauth.agent.netns import unsupported
from peerauth.dataplane.type_urls import LISTENER
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.connections import Arrival, ConnectionSeen, Event
from peerauth.telemetry.envoy import parse_connection
from rigs.ambientnode import OUTSIDER, Node, new_node, serving
from rigs.clients import Connection, client_context
from rigs.envoyrig import Authority, RunningEnvoy
from samples.sidecars import CLIENT, FINANCE

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.root,
    pytest.mark.skipif(bool(unsupported()), reason=unsupported() or "supported"),
]

DECLARED, NAMED, UNDECLARED = 8080, 9090, 7070
PORTS = (DECLARED, NAMED, UNDECLARED)
OTHER = SpiffeId("cluster.local", "bar", "other")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with new_node() as made:
        await made.add("client", CLIENT)
        await made.add("server", FINANCE, ports=PORTS)
        yield made


async def seen(envoy: RunningEnvoy, workload: str, *, arrival: Arrival, direction: str = "inbound") -> ConnectionSeen:
    """The first line of the access log about such a connection, once it ended."""

    def parsed(line: str) -> ConnectionSeen | None:
        entry = parse_connection(line)
        if entry is None or entry.event is not Event.END:
            return None
        wanted = (entry.workload, entry.arrival, entry.direction) == (f"foo/{workload}", arrival, direction)
        return entry if wanted else None

    found = parsed(await envoy.line(lambda line: parsed(line) is not None))
    assert found is not None
    return found


async def all_ports(node: Node, source: str, tls: ssl.SSLContext | None = None, *, v6: bool = False) -> dict[int, str]:
    return {port: await node.reaches(source, "server", port, tls, v6=v6) for port in PORTS}


@pytest.mark.parametrize("mode", ["STRICT", "PERMISSIVE", "DISABLE"])
async def test_a_mode_is_what_plaintext_meets_and_hbone_always_arrives(
    node: Node, authority: Authority, tmp_path: Path, mode: str
) -> None:
    node.decide("server", mode)
    mesh = client_context(tmp_path, authority=authority, uri=CLIENT.uri, alpn=("istio",))
    async with serving(node, tmp_path, authority) as envoy:
        for v6 in (False, True):
            plain, tls = await all_ports(node, OUTSIDER, v6=v6), await all_ports(node, OUTSIDER, mesh, v6=v6)
            assert set(plain.values()) == {"nothing" if mode == "STRICT" else "the greeting"}
            assert set(tls.values()) == {"nothing" if mode == "STRICT" else "a ClientHello"}
            assert set((await all_ports(node, "client", v6=v6)).values()) == {"the greeting"}
        tunnel = await seen(envoy, "server", arrival=Arrival.MUTUAL_TLS)
        assert (tunnel.peer, tunnel.source.rpartition(":")[0]) == (CLIENT, node.address("client"))
        sent = await seen(envoy, "client", arrival=Arrival.MUTUAL_TLS, direction="outbound")
        assert sent.peer == FINANCE
        if mode == "STRICT":
            refused = await seen(envoy, "server", arrival=Arrival.REFUSED)
            assert refused.why is not None
            assert (refused.port, refused.why.mode) == (DECLARED, "STRICT")


async def test_a_port_has_its_own_mode_whoever_declared_it(node: Node, authority: Authority, tmp_path: Path) -> None:
    node.decide("server", "STRICT", {NAMED: "DISABLE"})
    async with serving(node, tmp_path, authority) as envoy:
        expected = {DECLARED: "nothing", NAMED: "the greeting", UNDECLARED: "nothing"}
        assert await all_ports(node, OUTSIDER) == expected
        node.decide("server", "PERMISSIVE", {UNDECLARED: "STRICT"})
        await envoy.discovery.apply(node.rendered())
        expected = {DECLARED: "the greeting", NAMED: "the greeting", UNDECLARED: "nothing"}
        assert await all_ports(node, OUTSIDER) == expected


async def test_a_tunnel_is_for_the_workload_s_own_address_and_the_mesh_s_clients(
    node: Node, authority: Authority, tmp_path: Path
) -> None:
    def context(issuer: Authority | None, uri: str, *alpn: str) -> ssl.SSLContext:
        return client_context(tmp_path, authority=issuer, uri=uri, alpn=alpn)

    node.decide("server", "STRICT")
    own, other = node.address("server"), node.address("client")
    mesh = context(authority, CLIENT.uri, "h2")
    older = context(authority, CLIENT.uri, "h2")
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(node, tmp_path, authority):
        statuses = {to: await node.tunnels("server", mesh, to=to) for to in _authorities(own, other)}
        assert statuses == _authorities(own, other)
        six = node.address("server", v6=True)
        assert await node.tunnels("server", mesh, to=f"[{six}]:{DECLARED}", v6=True) == 200
        assert await node.tunnels("server", mesh, to=f"{own}:{DECLARED}", method="GET") == 400
        for stranger in (
            context(None, "", "h2"),
            context(Authority("another"), CLIENT.uri, "h2"),
            context(authority, "spiffe://another.domain/ns/foo/sa/client", "h2"),
            context(authority, CLIENT.uri),
            older,
        ):
            assert await node.tunnels("server", stranger, to=f"{own}:{DECLARED}") is None


def _authorities(own: str, other: str) -> dict[str, int]:
    """What CONNECT to each of these gets."""
    return {
        f"{own}:{DECLARED}": 200,
        f"{own}:{UNDECLARED}": 200,
        f"{own}:15001": 503,
        f"{own}:15006": 503,
        f"{own}:15008": 503,
        f"{own}:6": 503,  # no one listens
        f"{own}:0": 400,
        f"{own}:65536": 400,
        f"{other}:{DECLARED}": 400,
        f"127.0.0.1:{DECLARED}": 400,
        f"localhost:{DECLARED}": 400,
        own: 400,
    }


async def test_the_proxy_s_own_ports_and_other_addresses_lead_nowhere(
    node: Node, authority: Authority, tmp_path: Path
) -> None:
    async with serving(node, tmp_path, authority) as envoy:
        for source in (OUTSIDER, "client"):
            for port in (15001, 15006):
                connection = await node.dial(source, "server", port)
                assert await connection.ended()
                await connection.close()
        # Sent to the server's namespace, but for someone else: the proxy is not a router.
        via = ("via", "inet", node.address("server"), "dev", "eth0", "onlink")
        await run_tool("ip", "-n", node.places[OUTSIDER].name, "route", "add", "198.51.100.9/32", *via)
        connection = await Connection.open("198.51.100.9", DECLARED, new_socket=node.sockets(OUTSIDER))
        assert await connection.ended()
        await connection.close()
        stats = await envoy.stats("cluster.inbound|plaintext.upstream_cx_total")
        assert not any(stats.values())


async def test_a_server_of_another_identity_gets_nothing(node: Node, authority: Authority, tmp_path: Path) -> None:
    async with serving(node, tmp_path, authority) as envoy:
        node.expected["server"] = OTHER
        await envoy.discovery.apply(node.rendered())
        assert set((await all_ports(node, "client")).values()) == {"nothing"}
        refused = await seen(envoy, "client", arrival=Arrival.REFUSED, direction="outbound")
        assert "SAN" in refused.failure
        node.expected["server"] = FINANCE
        await envoy.discovery.apply(node.rendered())
        assert set((await all_ports(node, "client")).values()) == {"the greeting"}


async def test_a_source_speaks_from_its_own_namespace_with_its_own_certificate(
    node: Node, authority: Authority, tmp_path: Path
) -> None:
    """Two workloads of one identity have one cluster, but never one connection."""
    await node.add("twin", CLIENT)
    await node.add("stranger", OTHER)
    async with serving(node, tmp_path, authority) as envoy:
        for name, identity in (("client", CLIENT), ("twin", CLIENT), ("stranger", OTHER)):
            envoy.connections.clear()
            assert await node.reaches(name, "server", DECLARED) == "the greeting"
            tunnel = await seen(envoy, "server", arrival=Arrival.MUTUAL_TLS)
            assert (tunnel.peer, tunnel.source.rpartition(":")[0]) == (identity, node.address(name))


async def test_what_is_not_of_the_mesh_is_untouched(node: Node, authority: Authority, tmp_path: Path) -> None:
    node.apps[OUTSIDER, DECLARED] = await node.serve(OUTSIDER, DECLARED)
    async with serving(node, tmp_path, authority):
        assert await node.reaches("client", OUTSIDER, DECLARED) == "the greeting"
        assert await node.reaches("client", OUTSIDER, DECLARED, v6=True) == "the greeting"


async def test_a_connection_without_a_namespace_goes_nowhere(node: Node, authority: Authority, tmp_path: Path) -> None:
    """Should a connection's state ever lack the namespace, the node's own network must not take its place."""
    resources = {kind: dict(bodies) for kind, bodies in node.rendered().items()}
    name = "inbound|foo/server"
    listener = listener_pb2.Listener.FromString(resources[LISTENER][name])
    for chain in listener.filter_chains:
        if chain.filters[0].name == "envoy.filters.network.set_filter_state":
            del chain.filters[0]
    async with serving(node, tmp_path, authority) as envoy:
        assert await node.reaches(OUTSIDER, "server", DECLARED) == "the greeting"
        resources[LISTENER][name] = listener.SerializeToString()
        await envoy.discovery.apply(resources)
        assert await node.reaches(OUTSIDER, "server", DECLARED) == "nothing"


async def test_a_policy_closes_what_it_forbids_and_nothing_else(
    node: Node, authority: Authority, tmp_path: Path
) -> None:
    await node.add("neighbour", OTHER, ports=(DECLARED,))
    async with serving(node, tmp_path, authority) as envoy:
        plain = {port: await node.dial(OUTSIDER, "server", port) for port in PORTS}
        tunnelled = await node.dial("client", "server", DECLARED)
        neighbour = await node.dial(OUTSIDER, "neighbour", DECLARED)
        for connection in (*plain.values(), tunnelled, neighbour):
            assert await connection.echoes()
        node.decide("server", "PERMISSIVE", {DECLARED: "STRICT"})
        await envoy.discovery.apply(node.rendered())
        assert await plain[DECLARED].ended()
        for connection in (plain[NAMED], plain[UNDECLARED], tunnelled, neighbour):
            assert await connection.echoes()
        node.decide("server", "PERMISSIVE", {DECLARED: "STRICT", UNDECLARED: "STRICT"})
        await envoy.discovery.apply(node.rendered())
        assert await plain[UNDECLARED].ended(), "no one declared this port, and a policy names it now"
        node.decide("server", "STRICT")
        await envoy.discovery.apply(node.rendered())
        assert await plain[NAMED].ended()
        assert await tunnelled.echoes()
        assert await neighbour.echoes()
        for connection in (*plain.values(), tunnelled, neighbour):
            await connection.close()


async def test_workloads_come_and_go_while_others_connections_live_on(
    node: Node, authority: Authority, tmp_path: Path
) -> None:
    async with serving(node, tmp_path, authority, OTHER) as envoy:
        held = [await node.dial(source, "server", DECLARED) for source in (OUTSIDER, "client")]
        await node.add("newcomer", OTHER, ports=(DECLARED,))
        await envoy.discovery.apply(node.rendered())
        assert await node.reaches("client", "newcomer", DECLARED) == "the greeting"
        assert await node.reaches("newcomer", "server", DECLARED) == "the greeting"
        stats = await envoy.stats("listener_manager.total_")
        assert not stats["listener_manager.total_filter_chains_draining"]
        assert not stats["listener_manager.total_listeners_draining"]
        await node.remove("newcomer")
        await envoy.discovery.apply(node.rendered())
        for connection in held:
            assert await connection.echoes()
            await connection.close()


async def test_a_namespace_that_vanishes_takes_nothing_else_down(
    node: Node, authority: Authority, tmp_path: Path
) -> None:
    await node.add("gone", OTHER, ports=(DECLARED,))
    async with serving(node, tmp_path, authority) as envoy:
        held = [await node.dial(source, "server", DECLARED) for source in (OUTSIDER, "client")]
        lost = await node.dial("gone", "server", DECLARED)
        assert await node.reaches("client", "gone", DECLARED) == "the greeting"
        await node.network.remove(node.places["gone"])
        node.decide("server", "PERMISSIVE", {NAMED: "STRICT"})
        await envoy.discovery.apply(node.rendered())  # the control plane does not know of it yet
        assert await node.reaches(OUTSIDER, "server", NAMED) == "nothing"
        assert await node.reaches("client", "server", UNDECLARED) == "the greeting"
        for connection in held:
            assert await connection.echoes()
            await connection.close()
        lost.writer.transport.abort()
        del node.workloads["gone"], node.expected["gone"]
        await envoy.discovery.apply(node.rendered())
        await node.add("gone", OTHER, ports=(DECLARED,))
        await envoy.discovery.apply(node.rendered())
        assert await node.reaches("client", "gone", DECLARED) == "the greeting", "made anew under the same name"


async def test_a_workload_whose_namespace_is_not_there_is_refused_alone(
    node: Node, authority: Authority, tmp_path: Path
) -> None:
    async with serving(node, tmp_path, authority, OTHER) as envoy:
        await node.add("early", OTHER)
        await node.network.remove(node.places["early"])
        node.decide("server", "STRICT")
        with pytest.raises(AssertionError, match="foo/early: failed to open netns file"):
            await envoy.discovery.apply(node.rendered())
        assert await node.reaches(OUTSIDER, "server", DECLARED) == "nothing", "what came with it is in force"
        assert await node.reaches("client", "server", DECLARED) == "the greeting"
