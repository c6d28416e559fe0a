"""The node's configuration in the cache is what rendering everything anew would give, at the cost of what changed."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from peerauth.dataplane.ambient.node import HbonePeer, NodeProxy, NodeWorkload, render_node
from peerauth.dataplane.ambient.node_mesh import MeshListener
from peerauth.dataplane.resources import CLUSTER, LISTENER
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.changes import Change, Delete, Upsert, ref_of
from peerauth.model.inventory import IngressListener, Port, Service, ServicePort, Sidecar, Workload, WorkloadKey
from peerauth.model.mesh import DEFAULT_MESH
from peerauth.model.meta import Meta
from peerauth.model.world import MeshObject
from peerauth.policy.decision import Dataplane
from peerauth.policy.mesh import Mesh
from peerauth.policy.outbound import identity_of
from peerauth.runtime.networks import Placed
from peerauth.runtime.node_configuration import NodeConfiguration
from peerauth.xds.cache import ResourceCache
from peerauth.xds.wire import ProxyKey
from samples.meshes import namespace, pairs, policy

PROXY = ProxyKey("node~test")
ALIASED = msgspec.structs.replace(DEFAULT_MESH, trust_domain_aliases=("old.example",))
MOVED = msgspec.structs.replace(DEFAULT_MESH, trust_domain="new.example")
NUMBERS = st.integers(1, 4)
MODES = st.sampled_from(["STRICT", "PERMISSIVE", "DISABLE"])


def workload(number: int, account: str, address: str, dataplane: str, port: int) -> Workload:
    labels = pairs({"app": f"w{number}"} | ({"istio.io/dataplane-mode": dataplane} if dataplane else {}))
    meta = Meta(f"w{number}", "foo", labels=labels)
    return Workload(meta, service_account=account, ports=(Port(port),), addresses=(address,))


def held(cache: ResourceCache) -> dict[str, dict[str, bytes]]:
    return {
        kind: {name: resource.body for name, resource in sorted(cache.view(PROXY).by_type.get(kind, {}).items())}
        for kind in (CLUSTER, LISTENER)
    }


class Following(RuleBasedStateMachine):
    """A node that follows a world of four workloads, some of them its own."""

    @initialize(peopled=st.booleans())
    def begin(self, peopled: bool) -> None:
        self.mesh = Mesh()
        self.cache = ResourceCache()
        self.node = NodeConfiguration(self.cache, proxy=PROXY, mesh=self.mesh)
        self.places: dict[WorkloadKey, Placed] = {}
        self.started = False
        self.say(namespace("foo", {"istio.io/dataplane-mode": "ambient"}))
        if peopled:
            for number in range(1, 4):
                self.say(workload(number, "a", f"10.0.0.{number}", "", 8080))
                self.a_workload_gets_a_place(number, "/run/netns/one")
            self.the_node_serves()

    def say(self, obj: MeshObject) -> None:
        self.apply(Upsert("test", obj))

    def unsay(self, obj: MeshObject) -> None:
        self.apply(Delete("test", ref_of(obj)))

    def apply(self, change: Change) -> None:
        self.node.take(self.mesh.apply(change))

    @rule(
        number=NUMBERS,
        account=st.sampled_from("ab"),
        address=st.sampled_from(["10.0.0.1", "10.0.0.2", "2001:db8::1"]),
        dataplane=st.sampled_from(["ambient", "none", "", ""]),
        port=st.sampled_from([8080, 9090]),
    )
    def a_workload_is_so(self, number: int, account: str, address: str, dataplane: str, port: int) -> None:
        self.say(workload(number, account, address, dataplane, port))

    @rule(number=NUMBERS)
    def a_workload_goes(self, number: int) -> None:
        if WorkloadKey("foo", f"w{number}") in self.mesh.world.workloads:
            self.unsay(self.mesh.world.workloads[WorkloadKey("foo", f"w{number}")])

    @rule(mode=MODES, number=st.none() | NUMBERS)
    def a_policy_says(self, mode: str, number: int | None) -> None:
        selector = {"app": f"w{number}"} if number else None
        self.say(policy(f"foo/p{number or ''}", mode, selector=selector))

    @rule(mode=st.sampled_from(["ambient", ""]))
    def the_namespace_is_labelled(self, mode: str) -> None:
        self.say(namespace("foo", {"istio.io/dataplane-mode": mode} if mode else {}))

    @rule(number=NUMBERS, port=st.sampled_from([7070, 6060]))
    def a_service_names_a_port(self, number: int, port: int) -> None:
        selector = pairs({"app": f"w{number}"})
        self.say(Service(Meta("s", "foo"), selector=selector, ports=(ServicePort(80, port),)))

    @rule(port=st.sampled_from([5050, 4040]), where=st.sampled_from(["foo", "istio-system"]))
    def a_sidecar_names_a_port(self, port: int, where: str) -> None:
        self.say(Sidecar(Meta("default", where), ingress=(IngressListener(port, "127.0.0.1:1"),)))

    @rule(mesh=st.sampled_from([DEFAULT_MESH, ALIASED, MOVED]))
    def the_mesh_is_so(self, mesh: object) -> None:
        assert isinstance(mesh, type(DEFAULT_MESH))
        self.say(mesh)

    @rule(number=NUMBERS, namespace=st.sampled_from(["", "/run/netns/one", "/run/netns/two"]))
    def a_workload_gets_a_place(self, number: int, namespace: str) -> None:
        self.places[WorkloadKey("foo", f"w{number}")] = Placed((), "127.0.0.1", namespace)

    @rule(number=NUMBERS)
    def a_workload_loses_its_place(self, number: int) -> None:
        self.places.pop(WorkloadKey("foo", f"w{number}"), None)

    @rule()
    def the_node_serves(self) -> None:
        before = held(self.cache)
        said = self.node.serve(self.places)
        after = held(self.cache)
        wanted = self.from_nothing()
        self.started |= bool(wanted.workloads)
        if wanted.workloads:
            assert after == {kind: dict(bodies) for kind, bodies in render_node(wanted).items()}
        assert said == {
            name
            for kind in after
            for name in before[kind].keys() | after[kind].keys()
            if before[kind].get(name) != after[kind].get(name)
        }
        assert self.node.identities() == {each.identity for each in wanted.workloads}
        assert self.node.serve(self.places) == frozenset(), "what is the same is not pushed"

    @invariant()
    def nothing_is_said_of_workloads_to_a_node_that_has_none(self) -> None:
        if hasattr(self, "node") and not self.started:
            assert held(self.cache) == {CLUSTER: {}, LISTENER: {}}

    def from_nothing(self) -> NodeProxy:
        """What the node is, read from the world as a whole."""
        world, found, peers = self.mesh.world, list[NodeWorkload](), list[HbonePeer]()
        for key, each in sorted(world.workloads.items()):
            decision, identity = self.mesh.decisions.decision(key), identity_of(each, mesh=world.mesh)
            if decision.dataplane is not Dataplane.NONE:
                peers.append(HbonePeer(identity, each.addresses))
            place = self.places.get(key)
            if place is not None and decision.dataplane is Dataplane.AMBIENT:
                ports = tuple(port.number for port in world.declared_ports(each))
                found.append(
                    NodeWorkload(key, identity, each.addresses, decision, place.namespace, ports, place.application)
                )
        return NodeProxy(tuple(found), tuple(peers), world.mesh)


TestFollowing = Following.TestCase
TestFollowing.settings = settings(max_examples=200)

identities = st.sampled_from([SpiffeId("cluster.local", "foo", name) for name in "abc"])
addresses = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "2001:db8::1"]), max_size=2).map(tuple)
peers = st.none() | st.builds(HbonePeer, identities, addresses)


@given(st.lists(st.tuples(NUMBERS, peers)))
def test_the_mesh_listener_does_not_show_how_it_came_about(steps: list[tuple[int, HbonePeer | None]]) -> None:
    """In whatever order peers come, share addresses and go."""
    lived, last = MeshListener(), dict[int, HbonePeer | None]()
    for number, peer in steps:
        assert lived.put(number, peer) is (last.get(number) != peer)
        lived.encoded()
        last[number] = peer
    fresh: Mapping[int, HbonePeer] = {number: peer for number, peer in last.items() if peer is not None}
    anew = MeshListener()
    for number, peer in fresh.items():
        anew.put(number, peer)
    assert lived.encoded() == anew.encoded()
