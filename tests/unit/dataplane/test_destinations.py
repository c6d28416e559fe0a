"""Destinations by name, and the listener that asks for them: what is the same for every workload and names none."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from hypothesis import given
from hypothesis import strategies as st

from peerauth.dataplane.envoy.captured import lead
from peerauth.dataplane.envoy.destinations import (
    DestinationResources,
    destination_name,
    destination_of,
    destination_resources,
)
from peerauth.dataplane.envoy.parts import BLACKHOLE
from peerauth.dataplane.type_urls import CLUSTER, ENDPOINT, LISTENER
from peerauth.model.changes import Reset, Upsert
from peerauth.model.inventory import Service, ServicePort, Workload, WorkloadKey
from peerauth.model.world import World
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.destinations import Destination, Destinations
from peerauth.policy.outbound import OutboundPeer, Transport
from peerauth.policy.shards import Shard
from samples.meshes import meta, pairs
from samples.sidecars import FINANCE

addresses = st.ip_addresses().map(lambda address: address.compressed)
ports = st.integers(1, 65535)


@given(addresses, ports)
def test_a_name_says_where_it_leads(address: str, port: int) -> None:
    assert destination_of(destination_name(address, port)) == (address, port, "")
    assert destination_of(destination_name(address, port, "01")) == (address, port, "01")


@pytest.mark.parametrize(
    "name",
    [
        "dst|",
        "dst|10.0.0.7",
        "dst|10.0.0.7:0",
        "dst|10.0.0.7:65536",
        "dst|10.0.0.7:08",
        "dst|10.0.0.999:80",
        "dst|fd00::7:80",
        "dst|[10.0.0.7]:80",
        "dst|[fd00::7]:80:80",
        "dst|web:80",
        "dst|10.0.0.7:80\n",
        "dst|10.0.0.7:80|",
        "dst|10.0.0.7:80|2",
        "dst|10.0.0.7:80|0|0",
        f"dst|10.0.0.7:80|{'0' * 65}",
        "outbound|10.0.0.7:80",
        f"dst|[{'f' * 10_000}]:80",
    ],
)
def test_what_no_connection_asks_for_is_no_destination(name: str) -> None:
    assert destination_of(name) is None


@pytest.mark.parametrize("transport", Transport)
def test_an_endpoint_says_where_it_is_and_whom_to_expect_there(transport: Transport) -> None:
    identity = None if transport is Transport.PLAINTEXT else FINANCE
    name = destination_name("10.0.0.7", 80)
    destination = Destination((DestinationEndpoint("fd00::7", 8080, transport, identity),))
    cluster = cluster_pb2.Cluster.FromString(destination_resources(name, destination)[CLUSTER])
    host = cluster.load_assignment.endpoints[0].lb_endpoints[0]
    said = {key: dict(value) for key, value in host.metadata.filter_metadata.items()}
    assert said.pop("envoy.filters.listener.original_dst") == {"local": "[fd00::7]:8080"}
    assert said == ({} if identity is None else {"peerauth": {"san": identity.uri}})


def test_a_services_endpoint_that_comes_leaves_the_cluster_as_it_is() -> None:
    name = destination_name("10.96.0.1", 80)
    ends = [DestinationEndpoint(f"10.0.0.{n}", 8080, Transport.MUTUAL_TLS, FINANCE) for n in range(1, 4)]
    fewer, all_ = (destination_resources(name, Destination(tuple(some), balanced=True)) for some in (ends[:2], ends))
    assert fewer[CLUSTER] == all_[CLUSTER]
    counted = [
        len(endpoint_pb2.ClusterLoadAssignment.FromString(each[ENDPOINT]).endpoints[0].lb_endpoints)
        for each in (fewer, all_)
    ]
    assert counted == [2, 3]


@pytest.mark.parametrize("asked", ["dst|[fd00::9]:80", "dst|[fd00::9]:80|0"])
def test_a_large_service_is_its_pieces_each_with_its_share_and_by_its_name(asked: str) -> None:
    whole = Destination((), balanced=True, shards=(Shard("00", 64), Shard("01", 7)))
    body = destination_resources(asked, whole)[ENDPOINT]
    (group,) = endpoint_pb2.ClusterLoadAssignment.FromString(body).endpoints
    assert [
        (each.endpoint.address.envoy_internal_address.server_listener_name, each.load_balancing_weight.value)
        for each in group.lb_endpoints
    ] == [("to-shard", 64), ("to-shard", 7)]
    said = [{key: dict(value) for key, value in each.metadata.filter_metadata.items()} for each in group.lb_endpoints]
    assert said == [
        {"envoy.filters.listener.original_dst": {"local": "[fd00::9]:80"}, "peerauth": {"shard": name}}
        for name in ("dst|[fd00::9]:80|00", "dst|[fd00::9]:80|01")
    ]


def chains(*, own: tuple[str, ...], ranges: tuple[str, ...], closed: bool = False) -> dict[str, bytes]:
    listener = listener_pb2.Listener()
    lead(listener, own=own, ranges=ranges, closed=closed)
    found = [*listener.filter_chains, listener.default_filter_chain]
    assert len({chain.name for chain in found}) == len(found)
    return {chain.name: chain.SerializeToString(deterministic=True) for chain in found}


@given(st.sets(addresses, max_size=3), st.sets(addresses, max_size=4), addresses)
def test_a_range_that_comes_leaves_the_chains_of_the_others_as_they_are(
    own: set[str], ranges: set[str], another: str
) -> None:
    before = chains(own=tuple(own), ranges=tuple(ranges))
    after = chains(own=tuple(own), ranges=(*ranges, another))
    assert before.items() <= after.items()


def test_what_a_chain_takes_is_its_own_ports_its_own_addresses_and_the_meshs_ranges() -> None:
    found = chains(own=("10.0.0.1", "fd00::1"), ranges=("10.0.0.0/8", "fd00::/8"))
    taken = {
        name: listener_components_pb2.FilterChain.FromString(body).filter_chain_match for name, body in found.items()
    }
    blocks = {
        name: {str(ipaddress.ip_network((each.address_prefix, each.prefix_len.value))) for each in match.prefix_ranges}
        for name, match in taken.items()
    }
    assert blocks == {
        "loop|15001": set(),
        "loop|15006": set(),
        "own": {"10.0.0.1/32", "fd00::1/128"},
        "mesh|10.0.0.0/8": {"10.0.0.0/8"},
        "mesh|fd00::/8": {"fd00::/8"},
        "outside": set(),
    }
    assert [taken[f"loop|{port}"].destination_port.value for port in (15001, 15006)] == [15001, 15006]


def test_where_only_the_mesh_may_be_dialled_what_is_outside_leads_nowhere() -> None:
    opened, closed = (chains(own=(), ranges=("10.0.0.0/8",), closed=closed) for closed in (False, True))
    assert {name for name in opened if opened[name] != closed[name]} == {"outside"}
    assert BLACKHOLE.encode() in closed["outside"]


NAMES = [destination_name("10.0.0.7", 80), destination_name("fd00::7", 80), destination_name("10.96.0.1", 80)]


def test_what_a_step_changes_is_said_by_name_and_rendered_anew_once_for_all_who_ask() -> None:
    world = World()
    destinations = DestinationResources(Destinations(world))
    pod = Workload(meta("foo/web", {"app": "web"}), kind="Pod", addresses=("10.0.0.7", "fd00::7"))
    service = Service(
        meta("foo/web"), selector=pairs({"app": "web"}), ports=(ServicePort(80, 80),), cluster_ips=("10.96.0.1",)
    )
    for name in NAMES:
        destinations.ask(name)
    unknown = [destinations.get(CLUSTER, name) for name in NAMES]
    assert all(unknown), "as it is, where nothing is known"
    edits = world.apply(Upsert("test", pod), Upsert("test", service))
    plain, secure = (OutboundPeer(pod.addresses, FINANCE, how) for how in (Transport.PLAINTEXT, Transport.MUTUAL_TLS))
    assert destinations.update(edits, {pod.key: plain}) == set(NAMES)
    known = [destinations.get(CLUSTER, name) for name in NAMES]
    assert destinations.get(ENDPOINT, NAMES[2]) is not None
    assert destinations.get(CLUSTER, NAMES[0]) is known[0]
    assert destinations.update((), {pod.key: secure}) == set(NAMES)
    secured = [destinations.get(CLUSTER, name) for name in NAMES]
    assert [one != other for one, other in zip(known, secured, strict=True)] == [True, True, False]
    destinations.drop(NAMES[0])
    assert destinations.update((), {pod.key: plain}) == set(NAMES[1:]), "nobody asks for the first any more"


def test_of_a_large_service_only_the_piece_that_differs_is_rendered_anew() -> None:
    world = World()
    destinations = DestinationResources(Destinations(world))
    pods = [Workload(meta(f"foo/{n}", {"app": "web"}), addresses=(f"10.0.0.{n + 1}",)) for n in range(200)]
    service = Service(
        meta("foo/web"), selector=pairs({"app": "web"}), ports=(ServicePort(80, 80),), cluster_ips=("10.96.0.1",)
    )
    told = {each.key: OutboundPeer(each.addresses, FINANCE, Transport.HBONE) for each in pods}
    destinations.update(world.apply(Reset("test", (service, *pods[1:]))), told)
    labels = [each.label for each in destinations_of(world, told)]
    names = [NAMES[2], *(destination_name("10.96.0.1", 80, label) for label in labels)]
    for name in names:
        destinations.ask(name)
    before = [destinations.get(ENDPOINT, name) for name in names]
    assert destinations.update(world.apply(Upsert("test", pods[0])), {}) == set(names)
    after = [destinations.get(ENDPOINT, name) for name in names]
    assert sum(one is not other for one, other in zip(before, after, strict=True)) == 2, "the weights and one piece"
    assert [destinations.get(CLUSTER, name) for name in names] == [
        destination_resources(name, Destination((), balanced=True))[CLUSTER] for name in names
    ]


def destinations_of(world: World, told: Mapping[WorkloadKey, OutboundPeer]) -> tuple[Shard, ...]:
    destinations = Destinations(world)
    destinations.update((), told)
    whole = destinations.at("10.96.0.1", 80)
    assert whole is not None
    return whole.shards


def test_what_is_no_destination_is_asked_for_in_vain() -> None:
    destinations = DestinationResources(Destinations(World()))
    for name in ("dst|", "dst|web:80", "outbound|passthrough"):
        destinations.ask(name)
        assert destinations.get(CLUSTER, name) is None
        destinations.drop(name)
    assert [destinations.serves(CLUSTER, name) for name in ("dst|web:80", "outbound|passthrough")] == [True, False]
    assert not destinations.serves(LISTENER, NAMES[0])
