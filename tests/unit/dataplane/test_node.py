"""The configuration of a node's Envoy is a sum, and a change of it is a change of one part."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from google.protobuf import wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st

from peerauth.dataplane.ambient.node import NodeProxy, NodeWorkload, render_node
from peerauth.dataplane.envoy.parts import PROXY_PORTS
from peerauth.dataplane.resources import Resources
from peerauth.dataplane.type_urls import CLUSTER, LISTENER
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.inventory import WorkloadKey
from peerauth.policy.decision import EffectiveMode
from samples.sidecars import CLIENT, FINANCE, decided

PORTS = (8080, 9090)
MODES = [mode.value for mode in EffectiveMode]


def workload(number: int, identity: SpiffeId = FINANCE) -> NodeWorkload:
    address = f"10.0.{number // 250}.{number % 250 + 1}"
    key = WorkloadKey("foo", f"w{number}")
    return NodeWorkload(key, identity, (address,), decided("PERMISSIVE"), f"/run/netns/w{number}", PORTS)


def node(*workloads: NodeWorkload) -> NodeProxy:
    return NodeProxy(workloads, ranges=("10.0.0.0/8",))


def changed(old: Resources, new: Resources) -> set[str]:
    """The names of resources that differ, are new, or are gone."""
    return {
        name
        for kind in (CLUSTER, LISTENER)
        for name in old[kind].keys() | new[kind].keys()
        if old[kind].get(name) != new[kind].get(name)
    }


def size(resources: Resources) -> int:
    return sum(len(body) for bodies in resources.values() for body in bodies.values())


def test_the_size_grows_with_the_nodes_own_workloads_and_with_nothing_else() -> None:
    def total(number: int) -> int:
        return size(render_node(node(*(workload(100 + n) for n in range(number)))))

    one = total(2) - total(1)
    assert total(41) - total(1) == pytest.approx(40 * one, rel=0.001)


@given(st.sampled_from(MODES), st.dictionaries(st.sampled_from([8080, 9090, 7070]), st.sampled_from(MODES)))
def test_a_policy_touches_one_listener_of_its_workload(mode: str, ports: Mapping[int, str]) -> None:
    before = node(workload(1), workload(2))
    decision = decided(mode, ports)
    after = node(msgspec.structs.replace(workload(1), decision=decision), workload(2))
    assert changed(render_node(before), render_node(after)) <= {"inbound|foo/w1"}


def test_a_workload_brings_its_listeners_and_the_first_of_an_identity_its_certificate() -> None:
    one, two = render_node(node(workload(1))), render_node(node(workload(1), workload(2)))
    assert changed(one, two) == {"inbound|foo/w2", "hbone|foo/w2", "outbound|foo/w2"}
    other = render_node(node(workload(1), workload(2, CLIENT)))
    assert changed(two, other) == {f"outbound|hbone|{CLIENT.uri}", "hbone|foo/w2", "outbound|foo/w2"}


def test_only_identities_of_the_node_have_a_certificate_on_it() -> None:
    rendered = render_node(node(workload(1)))
    assert [name for name in rendered[CLUSTER] if name.startswith("outbound|hbone")] == [
        f"outbound|hbone|{FINANCE.uri}"
    ]


@given(st.permutations(range(6)))
def test_order_does_not_matter(order: list[int]) -> None:
    workloads = [workload(n) for n in range(6)]
    straight, shuffled = render_node(node(*workloads)), render_node(node(*(workloads[n] for n in order)))
    assert {kind: list(bodies.items()) for kind, bodies in straight.items()} == {
        kind: list(bodies.items()) for kind, bodies in shuffled.items()
    }


@given(
    st.sampled_from(MODES),
    st.dictionaries(st.sampled_from([8080, 7070]), st.sampled_from(MODES)),
    st.sampled_from(MODES),
    st.dictionaries(st.sampled_from([8080, 7070]), st.sampled_from(MODES)),
)
def test_the_chain_of_a_port_that_becomes_strict_never_outlives_the_change(
    mode: str, ports: Mapping[int, str], later: str, later_ports: Mapping[int, str]
) -> None:
    """Envoy keeps connections of chains that are equal to the byte: one that let a port's plaintext in must not be."""
    before = msgspec.structs.replace(workload(1), decision=decided(mode, ports))
    after = msgspec.structs.replace(workload(1), decision=decided(later, later_ports))
    for port in (8080, 9090, 7070, 6060):
        if before.mode_in_force(port) is EffectiveMode.PERMISSIVE and after.mode_in_force(port) is EffectiveMode.STRICT:
            assert chain_taking(before, port) not in chains(after)


@pytest.mark.parametrize("own_port", PROXY_PORTS)
@pytest.mark.parametrize("captured", [True, False])
@given(mode=st.sampled_from(MODES), said=st.sampled_from(MODES))
def test_what_is_said_of_the_proxys_own_ports_changes_nothing(
    own_port: int, captured: bool, mode: str, said: str
) -> None:
    """An entry for 15006 is not one for the ports that nobody declared, which arrive there too."""
    place = workload(1).namespace if captured else ""
    without = msgspec.structs.replace(workload(1), decision=decided(mode), namespace=place)
    named = msgspec.structs.replace(without, decision=decided(mode, {own_port: said}))
    declared = msgspec.structs.replace(named, ports=(*named.ports, own_port))
    rendered = render_node(node(without))
    assert changed(rendered, render_node(node(named))) == set()
    assert changed(rendered, render_node(node(declared))) == set()
    if captured:
        leads_nowhere = {filter_chain_of(found, own_port).name for found in (without, named, declared)}
        assert leads_nowhere == {"loop"}


@pytest.mark.parametrize(("application", "reached"), [("127.78.0.1", True), ("", False), ("10.0.0.2", False)])
def test_in_explicit_capture_the_application_is_never_the_proxy_itself(application: str, reached: bool) -> None:
    place = msgspec.structs.replace(workload(1), namespace="", application=application)
    rendered = render_node(node(place))[CLUSTER]
    for port in PORTS:
        cluster = cluster_pb2.Cluster.FromString(rendered[f"inbound|foo/w1|{port}"])
        assert bool(cluster.load_assignment.endpoints) is reached


def test_a_chain_that_refuses_names_the_mode_and_the_policy_of_its_port() -> None:
    place = msgspec.structs.replace(workload(1), decision=decided("PERMISSIVE", {8080: "STRICT"}))
    refused = filter_chain_of(place, 8080)
    said = {"mode": "STRICT", "level": "port", "policy": "foo/finance"}
    assert dict(refused.metadata.filter_metadata["peerauth"]) == said


def chains(found: NodeWorkload) -> set[bytes]:
    listener = listener_pb2.Listener.FromString(render_node(node(found))[LISTENER][f"inbound|{found.key}"])
    return {chain.SerializeToString(deterministic=True) for chain in listener.filter_chains}


def chain_taking(found: NodeWorkload, port: int) -> bytes:
    return filter_chain_of(found, port).SerializeToString(deterministic=True)


def filter_chain_of(found: NodeWorkload, port: int) -> listener_components_pb2.FilterChain:
    listener = listener_pb2.Listener.FromString(render_node(node(found))[LISTENER][f"inbound|{found.key}"])
    by_address = listener.filter_chain_matcher.matcher_tree.exact_match_map.map[found.addresses[0]].matcher
    by_port = by_address.matcher_tree.exact_match_map.map
    match = by_port.get(str(port), by_address.on_no_match)
    wanted = wrappers_pb2.StringValue()
    match.action.typed_config.Unpack(wanted)
    return next(chain for chain in listener.filter_chains if chain.name == wanted.value)
