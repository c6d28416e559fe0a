"""What the index does, step by step, and that the work it does follows the change and not the mesh."""

from __future__ import annotations

import pytest

from peerauth.model.changes import Delete, MeshObject, Reset, Upsert, ref_of
from peerauth.model.inventory import Service, Workload, WorkloadKey
from peerauth.model.mesh import MeshConfig
from peerauth.model.peerauth import PeerAuthentication
from peerauth.policy.mesh import Mesh
from samples.meshes import ROOT, namespace, policy, workload

REPLICAS = 10
NAMESPACES_OF_100 = (10, 100)


def mesh_of(namespaces: int) -> list[MeshObject]:
    """Namespaces of 100 workloads each: ten applications of ten replicas, which are ten classes."""
    objects: list[MeshObject] = []
    for n in range(namespaces):
        objects.append(namespace(f"ns-{n}", {"istio-injection": "enabled"}))
        objects += [
            workload(f"ns-{n}/app-{a}-{r}", {"app": f"app-{a}", "tier": "x"})
            for a in range(10)
            for r in range(REPLICAS)
        ]
    return objects


def loaded(*objects: MeshObject) -> Mesh:
    mesh = Mesh()
    mesh.apply(Reset("test", objects))
    return mesh


def say(mesh: Mesh, obj: MeshObject) -> list[WorkloadKey]:
    return [change.key for change in mesh.apply(Upsert("test", obj)).decisions]


@pytest.mark.parametrize(
    ("said", "changed", "visits"),
    [
        # One class, found through its rarest pair: looked up once, decided once.
        (policy("ns-1/app", "STRICT", selector={"app": "app-3"}), 10, 2),
        (policy("ns-1/app", "STRICT", selector={"tier": "x", "app": "app-3"}), 10, 2),
        (policy("ns-1/nobody", "STRICT", selector={"app": "absent"}), 0, 0),
        (policy("ns-1/default", "STRICT"), 100, 10),
        (policy("elsewhere/default", "STRICT"), 0, 0),
        (workload("ns-1/new", {"app": "app-3", "tier": "x"}), 1, 0),
        (workload("ns-1/new", {"app": "new"}), 1, 1),
        (namespace("ns-1", {"istio.io/dataplane-mode": "ambient"}), 100, 10),
        (Service(workload("ns-1/svc").meta), 0, 0),
        (MeshConfig(trust_domain="other"), 0, 0),
    ],
)
@pytest.mark.parametrize("namespaces", NAMESPACES_OF_100)
def test_the_work_follows_the_change_and_not_the_mesh(
    said: MeshObject, changed: int, visits: int, namespaces: int
) -> None:
    mesh = loaded(*mesh_of(namespaces))
    assert len(say(mesh, said)) == changed
    assert mesh.decisions.visited == visits
    taken_back = mesh.apply(Delete("test", ref_of(said))).decisions
    assert len(taken_back) == changed
    assert mesh.decisions.visited <= visits


def test_a_mesh_policy_costs_a_decision_for_each_kind_of_class_and_not_for_each_workload() -> None:
    mesh = loaded(*mesh_of(10))
    assert len(say(mesh, policy(f"{ROOT}/default", "STRICT"))) == 1000
    assert mesh.decisions.visited == 100
    assert len({id(decision) for _, decision in mesh.decisions.items()}) == 1


def test_a_load_looks_at_each_class_once_whatever_the_order_of_its_objects() -> None:
    policies = [policy(f"ns-{n}/p-{a}", "STRICT", selector={"app": f"app-{a}"}) for n in range(10) for a in range(10)]
    for objects in ([*mesh_of(10), *policies], [*policies, *mesh_of(10)]):
        mesh = Mesh()
        assert len(mesh.apply(Reset("test", tuple(objects))).decisions) == 1000
        # Once to decide about it, and at most once more for the policy that selects it.
        assert mesh.decisions.visited <= 200


def test_a_new_workload_is_reported_with_its_decision_and_a_deleted_one_with_its_last() -> None:
    mesh = loaded(policy("foo/default", "STRICT"))
    one = workload("foo/a")
    [change] = mesh.apply(Upsert("test", one)).decisions
    assert (change.key, change.old, change.new) == (one.key, None, mesh.decisions.decision(one.key))
    [gone] = mesh.apply(Delete("test", ref_of(one))).decisions
    assert (gone.key, gone.old, gone.new) == (one.key, change.new, None)
    assert one.key not in mesh.decisions
    assert len(mesh.decisions) == 0


def test_an_unknown_workload_has_no_decision() -> None:
    with pytest.raises(KeyError):
        Mesh().decisions.decision(WorkloadKey("foo", "a"))


def test_relabelling_moves_a_workload_and_reports_only_it() -> None:
    said = policy("foo/app", "STRICT", selector={"app": "b"})
    mesh = loaded(said, workload("foo/a", {"app": "a"}), workload("foo/b", {"app": "b"}))
    assert say(mesh, workload("foo/a", {"app": "b"})) == [WorkloadKey("foo", "a")]
    assert mesh.decisions.decision(WorkloadKey("foo", "a")) is mesh.decisions.decision(WorkloadKey("foo", "b"))


def test_a_workload_that_only_moved_its_address_is_no_news() -> None:
    one = workload("foo/a", {"app": "a"})
    mesh = loaded(one)
    assert say(mesh, Workload(one.meta, addresses=("10.0.0.9",))) == []
    assert mesh.decisions.visited == 0


def test_a_policy_that_narrows_its_selector_lets_go_of_those_it_left() -> None:
    mesh = loaded(
        workload("foo/a", {"app": "a", "tier": "x"}),
        workload("foo/b", {"app": "b", "tier": "x"}),
        policy("foo/p", "STRICT", selector={"tier": "x"}),
    )
    assert say(mesh, policy("foo/p", "STRICT", selector={"app": "a", "tier": "x"})) == [
        WorkloadKey("foo", "a"),  # its reason has another sentence
        WorkloadKey("foo", "b"),
    ]
    assert mesh.decisions.decision(WorkloadKey("foo", "a")).mode == "STRICT"
    assert mesh.decisions.decision(WorkloadKey("foo", "b")).mode == "PERMISSIVE"


def test_moving_the_root_namespace_turns_a_namespaces_policy_into_the_meshs() -> None:
    mesh = loaded(workload("foo/a"), workload("bar/b"), policy("foo/default", "STRICT"))
    changed = say(mesh, MeshConfig(root_namespace="foo"))
    assert sorted(changed) == [WorkloadKey("bar", "b"), WorkloadKey("foo", "a")]
    assert {decision.mode for _, decision in mesh.decisions.items()} == {"STRICT"}
    assert len(mesh.apply(Delete("test", ref_of(MeshConfig()))).decisions) == 2
    assert mesh.decisions.decision(WorkloadKey("bar", "b")).mode == "PERMISSIVE"


def test_taking_a_source_away_uncovers_what_another_said() -> None:
    mesh = loaded(workload("foo/a"), policy("foo/default", "STRICT"))
    proposed: PeerAuthentication = policy("foo/default", "DISABLE")
    mesh.apply(Upsert("proposal", proposed))
    assert mesh.decisions.decision(WorkloadKey("foo", "a")).mode == "DISABLE"
    mesh.apply(Reset("proposal"))
    assert mesh.decisions.decision(WorkloadKey("foo", "a")).mode == "STRICT"
