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
from peerauth.dataplane.envoy.parts import BLACKHOLE, PROXY_MARK
from peerauth.dataplane.type_urls import CLUSTER, ENDPOINT, LISTENER
from peerauth.model.changes import Delete, Reset, Upsert, ref_of
from peerauth.model.inventory import Service, ServicePort, Workload, WorkloadKey
from peerauth.model.mesh import MeshConfig, OutboundTraffic
from peerauth.model.world import MeshObject, World
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.decision import Dataplane
from peerauth.policy.destinations import Destination, Destinations
from peerauth.policy.mesh import Mesh
from peerauth.policy.outbound import OutboundPeer, Transport
from peerauth.policy.rollout import Orders, Rollout
from peerauth.policy.shards import Shard
from samples.meshes import meta, namespace, pairs, policy
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
    body = destination_resources(name, destination, client=Dataplane.AMBIENT)[CLUSTER]
    cluster = cluster_pb2.Cluster.FromString(body)
    host = cluster.load_assignment.endpoints[0].lb_endpoints[0]
    said = {key: dict(value) for key, value in host.metadata.filter_metadata.items()}
    assert said.pop("envoy.filters.listener.original_dst") == {"local": "[fd00::7]:8080"}
    assert said == ({} if identity is None else {"peerauth": {"san": identity.uri}})


def test_an_address_in_plaintext_is_gone_to_straight_past_the_redirection() -> None:
    name = destination_name("10.0.0.7", 80)
    destination = Destination((DestinationEndpoint("10.0.0.7", 80, Transport.PLAINTEXT),))
    cluster = cluster_pb2.Cluster.FromString(destination_resources(name, destination)[CLUSTER])
    where = cluster.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address
    assert (where.address, where.port_value) == ("10.0.0.7", 80)
    assert [option.int_value for option in cluster.upstream_bind_config.socket_options] == [PROXY_MARK]


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
    mesh = MeshConfig(outbound_traffic=OutboundTraffic.REGISTRY_ONLY if closed else OutboundTraffic.ALLOW_ANY)
    lead(listener, own=own, ranges=ranges, mesh=mesh)
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
    found = chains(
        own=("10.0.0.1", "fd00::1"), ranges=("10.0.0.0/8", "192.168.0.0/16", "203.0.0.0/16", "2001:db8::/64")
    )
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
        "mesh": {"10.0.0.0/8", "192.168.0.0/16"},
        "mesh|203.0.0.0/16": {"203.0.0.0/16"},
        "mesh|2001:db8::/64": {"2001:db8::/64"},
        "outside": set(),
    }
    assert [taken[f"loop|{port}"].destination_port.value for port in (15001, 15006)] == [15001, 15006]


def test_where_only_the_mesh_may_be_dialled_what_is_outside_leads_nowhere() -> None:
    opened, closed = (chains(own=(), ranges=("10.0.0.0/8",), closed=closed) for closed in (False, True))
    assert {name for name in opened if opened[name] != closed[name]} == {"outside"}
    assert BLACKHOLE.encode() in closed["outside"]


NAMES = [destination_name("10.0.0.7", 80), destination_name("fd00::7", 80), destination_name("10.96.0.1", 80)]
POD = Workload(meta("foo/web", {"app": "web"}), kind="Pod", addresses=("10.0.0.7", "fd00::7"))
SERVICE = Service(
    meta("foo/web"), selector=pairs({"app": "web"}), ports=(ServicePort(80, 80),), cluster_ips=("10.96.0.1",)
)


def test_what_a_step_changes_is_said_by_name_and_rendered_anew_once_for_all_who_ask() -> None:
    mesh = Mesh()
    rollout = Rollout(mesh, is_live=lambda _: False)
    destinations = DestinationResources(mesh, client=Dataplane.SIDECAR)

    def say(*said: MeshObject) -> frozenset[str]:
        step = mesh.apply(*(Upsert("test", each) for each in said))
        return destinations.update(step, rollout.decided(step))

    for name in NAMES:
        destinations.ask(name)
    assert all(destinations.get(CLUSTER, name) for name in NAMES), "as it is, where nothing is known"
    assert say(namespace("foo", {"istio-injection": "enabled"}), POD, SERVICE) == set(NAMES)
    known = [destinations.get(CLUSTER, name) for name in NAMES]
    assert destinations.get(ENDPOINT, NAMES[2]) is not None
    assert destinations.get(CLUSTER, NAMES[0]) is known[0]
    assert say(policy("foo/off", "DISABLE")) == set(NAMES)
    plain = [destinations.get(CLUSTER, name) for name in NAMES]
    assert [one != other for one, other in zip(known, plain, strict=True)] == [True, True, False]
    destinations.drop(NAMES[0])
    assert say(policy("foo/off", "STRICT")) == set(NAMES[1:]), "nobody asks for the first any more"


def test_a_nodes_proxy_speaks_hbone_to_whoever_takes_it_whatever_is_decided() -> None:
    mesh = Mesh()
    destinations = DestinationResources(mesh, client=Dataplane.AMBIENT)
    for name in NAMES:
        destinations.ask(name)
    step = mesh.apply(Reset("test", (namespace("foo", {"istio-injection": "enabled"}), POD, SERVICE)))
    assert destinations.update(step, Orders()) == set(NAMES)
    body = destinations.get(CLUSTER, NAMES[0])
    assert body is not None
    host = cluster_pb2.Cluster.FromString(body).load_assignment.endpoints[0].lb_endpoints[0]
    assert host.endpoint.address.envoy_internal_address.server_listener_name == "to-hbone"
    assert destinations.update(mesh.apply(Upsert("test", policy("foo/off", "DISABLE"))), Orders()) == set()
    assert destinations.update(mesh.apply(Delete("test", ref_of(POD))), Orders()) == set(NAMES)


def test_of_a_large_service_only_the_piece_that_differs_is_rendered_anew() -> None:
    mesh = Mesh()
    destinations = DestinationResources(mesh, client=Dataplane.SIDECAR)
    pods = [Workload(meta(f"foo/{n}", {"app": "web"}), addresses=(f"10.0.0.{n + 1}",)) for n in range(200)]
    service = Service(
        meta("foo/web"), selector=pairs({"app": "web"}), ports=(ServicePort(80, 80),), cluster_ips=("10.96.0.1",)
    )
    told = {each.key: OutboundPeer(each.addresses, FINANCE, Transport.HBONE) for each in pods}
    destinations.update(mesh.apply(Reset("test", (service, *pods[1:]))), Orders(announce=told))
    labels = [each.label for each in destinations_of(mesh.world, told)]
    names = [NAMES[2], *(destination_name("10.96.0.1", 80, label) for label in labels)]
    for name in names:
        destinations.ask(name)
    before = [destinations.get(ENDPOINT, name) for name in names]
    assert destinations.update(mesh.apply(Upsert("test", pods[0])), Orders()) == set(names)
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
    destinations = DestinationResources(Mesh(), client=Dataplane.SIDECAR)
    for name in ("dst|", "dst|web:80", "outbound|passthrough"):
        destinations.ask(name)
        assert destinations.get(CLUSTER, name) is None
        destinations.drop(name)
    assert [destinations.serves(CLUSTER, name) for name in ("dst|web:80", "outbound|passthrough")] == [True, False]
    assert not destinations.serves(LISTENER, NAMES[0])
