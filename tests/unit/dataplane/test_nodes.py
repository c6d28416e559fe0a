"""What nodes are told is what rendering everything anew would give, at the cost of what changed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from judges.projections import kept
from peerauth.dataplane.ambient.node import NodeProxy, NodeWorkload, render_node
from peerauth.dataplane.ambient.nodes import Nodes
from peerauth.dataplane.projection import Update
from peerauth.dataplane.type_urls import TypeUrl
from peerauth.model.changes import Change, Delete, Upsert, ref_of
from peerauth.model.inventory import IngressListener, Port, Service, ServicePort, Sidecar, Workload, WorkloadKey
from peerauth.model.mesh import DEFAULT_MESH
from peerauth.model.meta import Meta
from peerauth.model.placement import Captor, Capture, Placement
from peerauth.model.world import MeshObject
from peerauth.policy.decision import Dataplane
from peerauth.policy.mesh import Mesh
from peerauth.policy.outbound import identity_of
from peerauth.policy.ranges import MeshRanges
from peerauth.policy.rollout import Orders
from samples.meshes import namespace, pairs, policy

ALIASED = msgspec.structs.replace(DEFAULT_MESH, trust_domain_aliases=("old.example",))
MOVED = msgspec.structs.replace(DEFAULT_MESH, trust_domain="new.example")
NUMBERS = st.integers(1, 4)
MODES = st.sampled_from(["STRICT", "PERMISSIVE", "DISABLE"])


def workload(number: int, account: str, address: str, dataplane: str, port: int) -> Workload:
    labels = pairs({"app": f"w{number}"} | ({"istio.io/dataplane-mode": dataplane} if dataplane else {}))
    meta = Meta(f"w{number}", "foo", labels=labels)
    return Workload(meta, service_account=account, ports=(Port(port),), addresses=(address,))


def key(number: int) -> WorkloadKey:
    return WorkloadKey("foo", f"w{number}")


def placed(number: int, node: str, path: str, captor: Captor = Captor.NODE) -> Placement:
    capture = Capture.TRANSPARENT if path else Capture.EXPLICIT
    return Placement(key(number), node, (f"10.0.1.{number}",), capture, captor, "127.0.0.1", path)


class Following(RuleBasedStateMachine):
    """Two nodes of a mesh of four workloads, placed on one of them or on neither."""

    @initialize(peopled=st.booleans(), at_once=st.sampled_from([1, 100, 100]))
    def begin(self, peopled: bool, at_once: int) -> None:
        self.at_once = at_once
        self.news: deque[Iterator[tuple[str, Update | None]]] = deque()
        self.mesh = Mesh()
        self.nodes = Nodes(self.mesh)
        self.held: dict[str, dict[TypeUrl, dict[str, bytes]]] = {}
        self.say(namespace("foo", {"istio.io/dataplane-mode": "ambient"}))
        if peopled:
            for number in range(1, 4):
                self.say(workload(number, "a", f"10.0.0.{number}", "", 8080))
                self.a_workload_is_placed(number, "one", "/run/netns/one", Captor.NODE)

    def say(self, obj: MeshObject) -> None:
        self.apply(Upsert("test", obj))

    def unsay(self, obj: MeshObject) -> None:
        self.apply(Delete("test", ref_of(obj)))

    def apply(self, change: Change) -> None:
        self.news.append(self.nodes.update(self.mesh.apply(change), Orders()))
        self.draw(self.at_once)

    def draw(self, number: int) -> None:
        for _ in range(number):
            while self.news and (drawn := next(self.news[0], None)) is None:
                self.news.popleft()
            if not self.news or drawn is None:
                return
            node, news = drawn
            assert news is not None
            if news.resources:
                kept(self.held.setdefault(node, {}), news)

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

    @rule(
        number=NUMBERS,
        node=st.sampled_from(["one", "two"]),
        path=st.sampled_from(["", "/run/netns/one", "/run/netns/two"]),
        captor=st.sampled_from([Captor.NODE, Captor.NODE, Captor.SIDECAR, Captor.NOBODY]),
    )
    def a_workload_is_placed(self, number: int, node: str, path: str, captor: Captor) -> None:
        self.say(placed(number, node, path, captor))

    @rule(number=NUMBERS)
    def a_workload_loses_its_place(self, number: int) -> None:
        if key(number) in self.mesh.world.placements:
            self.unsay(self.mesh.world.placements[key(number)])

    @invariant()
    def each_node_has_what_rendering_it_anew_gives(self) -> None:
        for node in ("one", "two") if hasattr(self, "mesh") and not self.news else ():
            wanted = self.from_nothing(node)
            resources = render_node(wanted) if wanted.workloads else {}
            held = {kind: bodies for kind, bodies in self.held.get(node, {}).items() if bodies}
            assert held == resources, "and one that has no workloads is told nothing"
            assert self.nodes.identities(node) == {each.identity for each in wanted.workloads}
            assert self.nodes.workloads(node) == tuple(each.key for each in wanted.workloads)

    @rule()
    def all_is_drawn(self) -> None:
        while self.news:
            self.draw(1)

    def teardown(self) -> None:
        if hasattr(self, "mesh"):
            self.all_is_drawn()
            self.each_node_has_what_rendering_it_anew_gives()

    def from_nothing(self, node: str) -> NodeProxy:
        """What a node is, read from the world as a whole."""
        world, found = self.mesh.world, list[NodeWorkload]()
        for each_key, each in sorted(world.workloads.items()):
            decision, identity = self.mesh.decisions.decision(each_key), identity_of(each, mesh=world.mesh)
            place = world.placements.get(each_key)
            here = place is not None and place.node == node and place.captor is Captor.NODE
            if place is not None and here and decision.dataplane is Dataplane.AMBIENT:
                ports = tuple(port.number for port in world.declared_ports(each))
                at = place.network_namespace
                found.append(NodeWorkload(each_key, identity, each.addresses, decision, at, ports, place.application))
        return NodeProxy(tuple(found), MeshRanges(world).ranges, world.mesh)


TestFollowing = Following.TestCase
TestFollowing.settings = settings(max_examples=200)
