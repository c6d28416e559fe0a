"""The world answers about namespaces, Services, Sidecars and ports as what is said of it changes."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from peerauth.model.changes import Change, Delete, MeshObject, Reset, Upsert, ref_of
from peerauth.model.inventory import (
    ApiServerTarget,
    DestinationRule,
    EndpointSlice,
    IngressListener,
    Node,
    Port,
    Service,
    ServiceAccount,
    ServiceCIDR,
    ServicePort,
    Sidecar,
    Workload,
    WorkloadKey,
)
from peerauth.model.mesh import DEFAULT_MESH, Injector, MeshConfig
from peerauth.model.meta import Origin, age_of
from peerauth.model.placement import Captor, Capture, Placement
from peerauth.model.tables import Name
from peerauth.model.world import DeclaredPort, World, target_number
from samples.meshes import ROOT, changes, meta, namespace, objects, pairs, policy, workload

FINANCE = workload("foo/finance", {"app": "finance"}, ports=(Port(8080, "http"),))


def world_of(*said: MeshObject) -> World:
    world = World()
    world.apply(Reset("test", said))
    return world


def service(name: str, *ports: ServicePort, app: str = "finance") -> Service:
    return Service(meta(name), selector=pairs({"app": app}), ports=ports)


def test_every_kind_has_its_table_and_leaves_it_again() -> None:
    said: list[MeshObject] = [
        namespace("foo"),
        FINANCE,
        policy("foo/p"),
        service("foo/s"),
        ServiceAccount(meta("foo/sa")),
        EndpointSlice(meta("foo/e"), "s"),
        Sidecar(meta("foo/side")),
        DestinationRule(meta("foo/dr"), "s.foo"),
        ApiServerTarget(meta("hook"), "APIService", "foo", "s"),
        Node(meta("worker")),
        ServiceCIDR(meta("kubernetes")),
        MeshConfig(root_namespace="root"),
    ]
    world = world_of(*said)
    assert world.namespaces == {"foo": said[0]}
    assert world.workloads[WorkloadKey("foo", "finance")] is FINANCE
    tables = (
        world.policies,
        world.services,
        world.service_accounts,
        world.endpoint_slices,
        world.sidecars,
        world.destination_rules,
        world.api_targets,
        world.nodes,
        world.service_cidrs,
    )
    assert [next(iter(table.values())) for table in tables] == said[2:11]
    assert world.mesh.root_namespace == "root"
    world.apply(Reset("test"))
    assert [len(table) for table in (*tables, world.workloads, world.namespaces)] == [0] * 11
    assert world.mesh == DEFAULT_MESH


def test_the_mesh_is_that_of_the_default_revision_whatever_other_configurations_there_are() -> None:
    root, canary = MeshConfig(root_namespace="root"), MeshConfig(root_namespace="other", revision="canary")
    for said in ((root, canary), (canary, root)):
        world = world_of(*said)
        assert (world.mesh, world.meshes.of("canary")) == (root, canary)
    world.apply(Upsert("test", Injector("canary", "default")))
    assert world.mesh is canary
    world.apply(Reset("test", (root,)))
    assert (world.mesh, world.meshes.of("canary")) == (root, root)


def test_a_table_answers_for_one_namespace_and_for_all() -> None:
    world = world_of(workload("foo/a"), workload("foo/b"), workload("bar/c"))
    assert [key.name for key in world.workloads.in_namespace("foo")] == ["a", "b"]
    assert world.workloads.in_namespace("nowhere") == {}
    assert (len(world.workloads), sorted(key.name for key in world.workloads)) == (3, ["a", "b", "c"])
    assert WorkloadKey("nowhere", "a") not in world.workloads
    world.apply(Upsert("test", policy("foo/p")))
    assert world.policies[Name("foo", "p")].meta.name == "p"


def test_workloads_of_one_name_and_two_kinds_are_two() -> None:
    world = world_of(Workload(meta("foo/a")), Workload(meta("foo/a"), kind="Deployment"))
    assert len(world.workloads) == 2


def test_services_select_workloads_of_their_own_namespace_and_come_by_name() -> None:
    world = world_of(service("foo/b"), service("foo/a"), service("bar/c"), service("foo/d", app="web"))
    world.apply(Upsert("test", Service(meta("foo/headless"))))
    assert [found.meta.name for found in world.services_selecting(FINANCE)] == ["a", "b"]
    world.apply(Upsert("test", service("foo/a", app="web")))
    world.apply(Delete("test", ref_of(service("foo/b"))))
    assert world.services_selecting(FINANCE) == ()


def test_a_machines_port_of_a_services_port_name_goes_before_the_number_that_the_service_targets() -> None:
    """As in Istio: the ports of a WorkloadEntry are named after Services' ports."""
    leads = ServicePort(80, 8080, "http")
    machine, other, pod = (
        Workload(meta("foo/vm", {"app": "vm"}), kind=kind, ports=(Port(9090, name),))
        for kind, name in (("WorkloadEntry", "http"), ("WorkloadEntry", "tcp"), ("Pod", "http"))
    )
    assert [target_number(leads, each) for each in (machine, other, pod)] == [9090, 8080, 8080]
    named = ServicePort(80, "http", "web")
    assert [target_number(named, each) for each in (machine, other, pod)] == [9090, None, 9090]
    world = world_of(service("foo/s", leads, app="vm"))
    assert [port.number for port in world.declared_ports(machine)] == [9090]
    assert [port.number for port in world.declared_ports(other)] == [8080, 9090]


def test_a_service_selects_workloads_of_its_own_namespace_and_none_without_a_selector() -> None:
    web = workload("foo/web", {"app": "web"})
    both = workload("foo/both", {"app": "finance", "tier": "x"})
    world = world_of(FINANCE, web, both, workload("bar/finance", {"app": "finance"}))
    finance = service("foo/s")
    assert list(world.workloads_selected_by(finance)) == [FINANCE, both]
    assert list(world.workloads_selected_by(Service(meta("foo/s")))) == []
    assert list(world.workloads_selected_by(service("foo/s", app="absent"))) == []
    world.apply(Upsert("test", workload("foo/web", {"app": "finance"})), Delete("test", ref_of(FINANCE)))
    assert {found.meta.name for found in world.workloads_selected_by(finance)} == {"both", "web"}


def test_who_has_an_address_is_known_however_it_is_written() -> None:
    one, two = (Workload(meta(f"foo/{n}"), addresses=("10.0.0.1", f"FD00:0::{n}")) for n in (1, 2))
    world = world_of(one)
    assert world.workloads_at("10.0.0.1") == world.workloads_at("fd00::1") == (one,)
    world.apply(Upsert("test", two))
    assert world.workloads_at("10.0.0.1") == (one, two)
    world.apply(Upsert("test", Workload(meta("foo/1"), addresses=("vm.example",))))
    assert (world.workloads_at("10.0.0.1"), world.workloads_at("fd00::1")) == ((two,), ())


def test_a_virtual_address_is_the_oldest_services_that_has_it() -> None:
    young, old = (Service(meta(f"foo/{age}", age=age), cluster_ips=("10.96.0.1", "FD00::1")) for age in (2, 1))
    world = world_of(young)
    assert world.service_at("10.96.0.1") == world.service_at("fd00::1") == young
    world.apply(Upsert("test", old))
    assert world.service_at("10.96.0.1") == old
    world.apply(Reset("test"))
    assert world.service_at("10.96.0.1") is None


def test_the_slices_of_a_service_come_by_name() -> None:
    slices = [EndpointSlice(meta(name), "s") for name in ("foo/b", "foo/a", "bar/c")]
    world = world_of(*slices)
    assert world.slices_of(Name("foo", "s")) == (slices[1], slices[0])
    world.apply(Upsert("test", EndpointSlice(meta("foo/a"), "other")), Delete("test", ref_of(slices[0])))
    assert world.slices_of(Name("foo", "s")) == ()


def test_a_sidecar_that_selects_goes_before_its_namespaces_before_the_roots() -> None:
    root = Sidecar(meta(f"{ROOT}/default", age=0))
    selecting_in_root = Sidecar(meta(f"{ROOT}/selecting"), selector=pairs({"app": "finance"}))
    own = Sidecar(meta("foo/default", age=5))
    selecting = [Sidecar(meta(f"foo/{n}", age=n), selector=pairs({"app": "finance"})) for n in (8, 7)]
    world = world_of(selecting_in_root)
    assert world.sidecar_of(FINANCE) is None
    for said, expected in ((root, root), (own, own), (selecting[0], selecting[0]), (selecting[1], selecting[1])):
        world.apply(Upsert("test", said))
        assert world.sidecar_of(FINANCE) is expected
    assert world.sidecar_of(workload("foo/web", {"app": "web"})) is own
    assert world.sidecar_of(workload("bar/web")) is root
    world.apply(Upsert("test", MeshConfig(root_namespace="other")))
    assert world.sidecar_of(workload("bar/web")) is None


def test_declared_ports_are_the_workloads_its_services_targets_and_its_sidecars() -> None:
    own, first, second, ingress = (Origin(file) for file in ("pod", "svc", "svc2", "sidecar"))
    finance = workload("foo/finance", {"app": "finance"}, ports=(Port(8080, "http", own), Port(9000, "grpc")))
    world = world_of(
        service("foo/a", ServicePort(80, "http", origin=first), ServicePort(443, 8443, origin=first)),
        service(
            "foo/b", ServicePort(81, 8080, origin=second), ServicePort(82, "absent"), ServicePort(53, 53, "", "UDP")
        ),
        Sidecar(
            meta("foo/finance"),
            selector=pairs({"app": "finance"}),
            ingress=(IngressListener(8080, "127.0.0.1:18080", origin=ingress), IngressListener(7000, origin=ingress)),
        ),
    )
    assert world.declared_ports(finance) == (
        DeclaredPort(7000, "", (ingress,)),
        DeclaredPort(8080, "127.0.0.1:18080", (own, first, second, ingress)),
        DeclaredPort(8443, "", (first,)),
        DeclaredPort(9000, "", (Origin(),)),
    )


def test_a_workload_that_nobody_describes_declares_nothing() -> None:
    assert World().declared_ports(workload("foo/a")) == ()


@given(st.lists(changes(objects()), max_size=8))
def test_lookups_agree_with_looking_at_everything(history: list[Change]) -> None:
    world = World()
    for change in history:
        world.apply(change)
    for found in world.workloads.values():
        labels, where = found.meta.labels, found.meta.namespace
        matching = [
            s for s in world.services.values() if s.selector and s.selector <= labels and s.meta.namespace == where
        ]
        assert world.services_selecting(found) == tuple(sorted(matching, key=lambda one: one.meta.name))
        sidecars = list(world.sidecars.values())
        selecting = [s for s in sidecars if s.selector and s.selector <= labels and s.meta.namespace == where]
        broad = [s for s in sidecars if not s.selector and s.meta.namespace == where]
        root = [s for s in sidecars if not s.selector and s.meta.namespace == world.mesh.root_namespace]
        expected = min(selecting or broad or root, key=lambda one: age_of(one.meta), default=None)
        assert world.sidecar_of(found) == expected


FINANCE_KEY = WorkloadKey("foo", "finance")
BY_DOCUMENT = Workload(FINANCE.meta, addresses=("10.0.0.1",), node="by document")


def at(address: str) -> Placement:
    return Placement(FINANCE_KEY, "here", (address,), Capture.EXPLICIT)


def placed_at(address: str) -> Workload:
    return Workload(FINANCE.meta, addresses=(address,), node="here")


def test_a_workload_is_where_its_placement_says_whichever_came_first() -> None:
    for order in ((BY_DOCUMENT, at("127.0.0.1")), (at("127.0.0.1"), BY_DOCUMENT)):
        world = World()
        edits = [edit for said in order for edit in world.apply(Upsert("test", said))]
        assert world.workloads[FINANCE_KEY] == placed_at("127.0.0.1")
        assert world.placements == {FINANCE_KEY: at("127.0.0.1")}
        assert [edit.after for edit in edits if edit.ref.kind == "Pod"][-1] == placed_at("127.0.0.1")


def test_a_placement_that_moves_a_workload_is_an_edit_of_the_workload_too() -> None:
    world = world_of(BY_DOCUMENT, at("127.0.0.1"))
    edits = world.apply(Upsert("test", at("127.0.0.2")))
    assert {edit.ref: (edit.before, edit.after) for edit in edits} == {
        ref_of(at("")): (at("127.0.0.1"), at("127.0.0.2")),
        ref_of(FINANCE): (placed_at("127.0.0.1"), placed_at("127.0.0.2")),
    }


def test_a_placement_that_moves_nothing_edits_itself_alone() -> None:
    world = world_of(BY_DOCUMENT, at("127.0.0.1"))
    edits = world.apply(Upsert("test", msgspec.structs.replace(at("127.0.0.1"), captor=Captor.SIDECAR)))
    assert [edit.ref for edit in edits] == [ref_of(at(""))]


def test_without_its_placement_a_workload_is_where_its_document_says() -> None:
    world = world_of(at("127.0.0.1"))
    world.apply(Upsert("documents", BY_DOCUMENT))
    world.apply(Reset("test"))
    assert world.workloads[FINANCE_KEY] == BY_DOCUMENT
    assert world.placements == {}


def test_a_document_that_says_another_address_of_a_placed_workload_changes_nothing() -> None:
    world = world_of(BY_DOCUMENT, at("127.0.0.1"))
    assert world.apply(Upsert("test", Workload(FINANCE.meta, addresses=("10.0.0.9",)))) == ()
    world.apply(Delete("test", ref_of(at(""))))
    assert world.workloads[FINANCE_KEY].addresses == ("10.0.0.9",)


def test_a_placement_outlives_its_workload_and_is_not_one() -> None:
    world = world_of(BY_DOCUMENT, at("127.0.0.1"))
    [gone] = world.apply(Delete("test", ref_of(FINANCE)))
    assert (gone.before, gone.after) == (placed_at("127.0.0.1"), None)
    assert not world.workloads
    world.apply(Upsert("test", BY_DOCUMENT))
    assert world.workloads[FINANCE_KEY] == placed_at("127.0.0.1")
