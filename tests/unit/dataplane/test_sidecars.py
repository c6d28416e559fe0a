"""What sidecars are told is what rendering everything anew would give, at the cost of what a step touches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cache

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from judges.projections import kept
from peerauth.dataplane.assembly import assemble
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.envoy.sidecar_values import SidecarWorkload
from peerauth.dataplane.envoy.sidecars import Sidecars
from peerauth.dataplane.projection import Update
from peerauth.dataplane.resources import Resources
from peerauth.dataplane.type_urls import TypeUrl
from peerauth.model.changes import Change, Delete, MeshObject, Upsert, ref_of
from peerauth.model.inventory import (
    EgressListener,
    IngressListener,
    Port,
    Service,
    ServicePort,
    Sidecar,
    Workload,
    WorkloadKey,
)
from peerauth.model.mesh import DEFAULT_MESH, MeshConfig
from peerauth.model.placement import Captor, Capture, Placement
from peerauth.policy.mesh import Mesh, Step
from peerauth.policy.ranges import MeshRanges
from peerauth.policy.rollout import Orders, Rollout, Round
from samples.meshes import ROOT, meta, namespace, pairs, policy

NUMBERS = st.integers(1, 4)
NAMESPACES = st.sampled_from(["foo", "bar"])
CAPTURES = st.sampled_from(Capture)
MODES = st.sampled_from(["STRICT", "PERMISSIVE", "DISABLE"])
NO_AUTO_MTLS = msgspec.structs.replace(DEFAULT_MESH, enable_auto_mtls=False)
MOVED = msgspec.structs.replace(DEFAULT_MESH, trust_domain="new.example", root_namespace="bar")
HOSTS = st.sampled_from(["foo/s.foo.svc.cluster.local", "./s", "*/s.bar.svc.cluster.local", "bar/*"])


def key(number: int) -> WorkloadKey:
    return WorkloadKey("foo" if number % 2 else "bar", f"w{number}")


def workload(number: int, port: int = 8080, label: str = "") -> Workload:
    labels = pairs({"app": f"w{number}"} | ({"team": label} if label else {}))
    return Workload(msgspec.structs.replace(meta(f"{key(number)}"), labels=labels), ports=(Port(port, "http"),))


def placed(number: int, capture: Capture, captor: Captor = Captor.SIDECAR, address: str = "") -> Placement:
    own = (address or f"10.0.0.{number}",)
    return Placement(key(number), "here", own, capture, captor, f"127.1.0.{number}")


@cache
def rendered(assembled: SidecarWorkload) -> Resources:
    return {kind: bodies for kind, bodies in render_sidecar(assembled).items() if bodies}


class Following(RuleBasedStateMachine):
    """The sidecars of four workloads in two namespaces, of either capture, through edits and staged changes."""

    @initialize(hosts=st.none() | st.sets(HOSTS, min_size=1), at_once=st.sampled_from([1, 100, 100]))
    def begin(self, hosts: set[str] | None, at_once: int) -> None:
        self.mesh = Mesh()
        self.rollout = Rollout(self.mesh, is_live=lambda live: live in self.held)
        self.sidecars = Sidecars(self.mesh, self.rollout)
        self.held: dict[WorkloadKey, dict[TypeUrl, dict[str, bytes]]] = {}
        self.rounds: list[Round] = []
        self.at_once = at_once
        self.news: deque[Iterator[tuple[WorkloadKey, Update | None]]] = deque()
        for name in ("foo", "bar"):
            self.say(namespace(name, {"istio-injection": "enabled"}))
        for number in range(1, 5):
            self.say(workload(number))
            self.say(placed(number, Capture.TRANSPARENT if number == 4 else Capture.EXPLICIT))
        for host in hosts or ():
            self.a_service_leads_to("foo", 3, "http")
            self.a_service_leads_to("bar", 2, "http")
            self.a_sidecar_says(ROOT, None, host, 80)

    def say(self, obj: MeshObject) -> None:
        self.apply(Upsert("test", obj))

    def apply(self, change: Change) -> None:
        step = self.mesh.apply(change)
        self.take(step, self.rollout.decided(step))

    def take(self, step: Step, orders: Orders) -> None:
        if orders.begun is not None:
            self.rounds.append(orders.begun)
        self.news.append(self.sidecars.update(step, orders))
        self.draw(self.at_once)

    def draw(self, number: int) -> None:
        for _ in range(number):
            while self.news and (drawn := next(self.news[0], None)) is None:
                self.news.popleft()
            if not self.news or drawn is None:
                return
            each, news = drawn
            if news is None:
                self.held.pop(each, None)
            elif news.resources:
                kept(self.held.setdefault(each, {}), news)

    @rule()
    def all_is_drawn(self) -> None:
        while self.news:
            self.draw(1)

    @rule(number=NUMBERS, port=st.sampled_from([8080, 9090]), label=st.sampled_from(["", "a"]))
    def a_workload_is_so(self, number: int, port: int, label: str) -> None:
        self.say(workload(number, port, label))

    @rule(number=NUMBERS)
    def a_workload_goes(self, number: int) -> None:
        self.apply(Delete("test", ref_of(workload(number))))

    @rule(
        number=NUMBERS,
        capture=CAPTURES,
        captor=st.sampled_from([Captor.SIDECAR, Captor.SIDECAR, Captor.NODE, Captor.NOBODY]),
        address=st.sampled_from(["", "10.0.0.9"]),
    )
    def a_workload_is_placed(self, number: int, capture: Capture, captor: Captor, address: str) -> None:
        self.say(placed(number, capture, captor, address))

    @rule(number=NUMBERS)
    def a_workload_loses_its_place(self, number: int) -> None:
        self.apply(Delete("test", ref_of(placed(number, Capture.EXPLICIT))))

    @rule(mode=MODES, number=st.none() | NUMBERS)
    def a_policy_says(self, mode: str, number: int | None) -> None:
        if number is None:
            self.say(policy("foo/p", mode))
        else:
            self.say(policy(f"{key(number)}", mode, selector={"app": f"w{number}"}))

    @rule(
        where=NAMESPACES,
        labels=st.sampled_from([{"istio-injection": "enabled"}, {}, {"istio.io/dataplane-mode": "ambient"}]),
    )
    def a_namespace_is_labelled(self, where: str, labels: dict[str, str]) -> None:
        self.say(namespace(where, labels))

    @rule(where=NAMESPACES, number=NUMBERS, leads_to=st.sampled_from([7070, 8080, "http"]))
    def a_service_leads_to(self, where: str, number: int, leads_to: int | str) -> None:
        ports = (ServicePort(80, leads_to),)
        self.say(Service(meta(f"{where}/s"), selector=pairs({"app": f"w{number}"}), ports=ports))

    @rule(where=NAMESPACES)
    def a_service_goes(self, where: str) -> None:
        self.apply(Delete("test", ref_of(Service(meta(f"{where}/s")))))

    @rule(
        where=st.sampled_from(["foo", "bar", ROOT]),
        number=st.none() | NUMBERS,
        host=HOSTS,
        port=st.sampled_from([80, 81]),
    )
    def a_sidecar_says(self, where: str, number: int | None, host: str, port: int) -> None:
        listeners = (EgressListener((host,), port=port, bind="127.0.0.5"),)
        ingress = (IngressListener(5050, "127.0.0.1:1"),)
        selector = pairs({"app": f"w{number}"} if number else {})
        self.say(Sidecar(meta(f"{where}/x{number or ''}"), selector=selector, ingress=ingress, egress=listeners))

    @rule(where=st.sampled_from(["foo", "bar", ROOT]), number=st.none() | NUMBERS)
    def a_sidecar_goes(self, where: str, number: int | None) -> None:
        self.apply(Delete("test", ref_of(Sidecar(meta(f"{where}/x{number or ''}")))))

    @rule(mesh=st.sampled_from([DEFAULT_MESH, NO_AUTO_MTLS, MOVED]))
    def the_mesh_is_so(self, mesh: MeshConfig) -> None:
        self.say(mesh)

    @rule(elapsed=st.booleans())
    def a_round_goes_on(self, elapsed: bool) -> None:
        if self.rounds:
            first = self.rounds[0]
            self.take(Step(), self.rollout.elapsed(first) if elapsed else self.rollout.acknowledged(first))
            self.rounds = [each for each in self.rounds if self.rollout.goes_on(each)]

    @invariant()
    def each_has_what_rendering_it_anew_gives(self) -> None:
        if hasattr(self, "mesh") and not self.news:
            assert self.held == self.from_nothing()

    def teardown(self) -> None:
        if hasattr(self, "mesh"):
            self.all_is_drawn()
            self.each_has_what_rendering_it_anew_gives()

    def from_nothing(self) -> dict[WorkloadKey, Resources]:
        world, in_force, peers = self.mesh.world, self.rollout.in_force, self.rollout.announced
        found, ranges = dict[WorkloadKey, Resources](), MeshRanges(world).ranges
        for each, decision in in_force.items():
            placement = world.placements.get(each)
            if placement is not None and placement.captor is Captor.SIDECAR:
                own = world.workloads[each]
                found[each] = rendered(
                    assemble(own, placement, world=world, decision=decision, peers=peers, ranges=ranges)
                )
        return found


TestFollowing = Following.TestCase
TestFollowing.settings = settings(max_examples=250, stateful_step_count=20, deadline=None)
