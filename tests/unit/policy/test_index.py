"""What the index does, step by step, and that the work it does follows the change and not the mesh."""

from __future__ import annotations

import pytest

from peerauth.model.changes import Delete, MeshObject, Reset, Upsert, ref_of
from peerauth.model.inventory import Service, Workload, WorkloadKey
from peerauth.model.mesh import MeshConfig
from peerauth.model.peerauth import PeerAuthentication
from peerauth.policy.index import PolicyIndex
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


def loaded(*objects: MeshObject) -> PolicyIndex:
    index = PolicyIndex()
    index.apply(Reset("test", objects))
    return index


def say(index: PolicyIndex, obj: MeshObject) -> list[WorkloadKey]:
    return [change.key for change in index.apply(Upsert("test", obj))]


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
    index = loaded(*mesh_of(namespaces))
    assert len(say(index, said)) == changed
    assert index.visited == visits
    taken_back = index.apply(Delete("test", ref_of(said)))
    assert len(taken_back) == changed
    assert index.visited <= visits


def test_a_mesh_policy_costs_a_decision_for_each_kind_of_class_and_not_for_each_workload() -> None:
    index = loaded(*mesh_of(10))
    assert len(say(index, policy(f"{ROOT}/default", "STRICT"))) == 1000
    assert index.visited == 100
    assert len({id(decision) for _, decision in index.items()}) == 1


def test_a_load_looks_at_each_class_once_whatever_the_order_of_its_objects() -> None:
    policies = [policy(f"ns-{n}/p-{a}", "STRICT", selector={"app": f"app-{a}"}) for n in range(10) for a in range(10)]
    for objects in ([*mesh_of(10), *policies], [*policies, *mesh_of(10)]):
        index = PolicyIndex()
        assert len(index.apply(Reset("test", tuple(objects)))) == 1000
        # Once to decide about it, and at most once more for the policy that selects it.
        assert index.visited <= 200


def test_a_new_workload_is_reported_with_its_decision_and_a_deleted_one_with_its_last() -> None:
    index = loaded(policy("foo/default", "STRICT"))
    one = workload("foo/a")
    [change] = index.apply(Upsert("test", one))
    assert (change.key, change.old, change.new) == (one.key, None, index.decision(one.key))
    [gone] = index.apply(Delete("test", ref_of(one)))
    assert (gone.key, gone.old, gone.new) == (one.key, change.new, None)
    assert one.key not in index
    assert len(index) == 0


def test_an_unknown_workload_has_no_decision() -> None:
    with pytest.raises(KeyError):
        PolicyIndex().decision(WorkloadKey("foo", "a"))


def test_relabelling_moves_a_workload_and_reports_only_it() -> None:
    said = policy("foo/app", "STRICT", selector={"app": "b"})
    index = loaded(said, workload("foo/a", {"app": "a"}), workload("foo/b", {"app": "b"}))
    assert say(index, workload("foo/a", {"app": "b"})) == [WorkloadKey("foo", "a")]
    assert index.decision(WorkloadKey("foo", "a")) is index.decision(WorkloadKey("foo", "b"))


def test_a_workload_that_only_moved_its_address_is_no_news() -> None:
    one = workload("foo/a", {"app": "a"})
    index = loaded(one)
    assert say(index, Workload(one.meta, addresses=("10.0.0.9",))) == []
    assert index.visited == 0


def test_a_policy_that_narrows_its_selector_lets_go_of_those_it_left() -> None:
    index = loaded(
        workload("foo/a", {"app": "a", "tier": "x"}),
        workload("foo/b", {"app": "b", "tier": "x"}),
        policy("foo/p", "STRICT", selector={"tier": "x"}),
    )
    assert say(index, policy("foo/p", "STRICT", selector={"app": "a", "tier": "x"})) == [
        WorkloadKey("foo", "a"),  # its reason has another sentence
        WorkloadKey("foo", "b"),
    ]
    assert index.decision(WorkloadKey("foo", "a")).mode == "STRICT"
    assert index.decision(WorkloadKey("foo", "b")).mode == "PERMISSIVE"


def test_moving_the_root_namespace_turns_a_namespaces_policy_into_the_meshs() -> None:
    index = loaded(workload("foo/a"), workload("bar/b"), policy("foo/default", "STRICT"))
    changed = say(index, MeshConfig(root_namespace="foo"))
    assert sorted(changed) == [WorkloadKey("bar", "b"), WorkloadKey("foo", "a")]
    assert {decision.mode for _, decision in index.items()} == {"STRICT"}
    assert len(index.apply(Delete("test", ref_of(MeshConfig())))) == 2
    assert index.decision(WorkloadKey("bar", "b")).mode == "PERMISSIVE"


def test_taking_a_source_away_uncovers_what_another_said() -> None:
    index = loaded(workload("foo/a"), policy("foo/default", "STRICT"))
    proposed: PeerAuthentication = policy("foo/default", "DISABLE")
    index.apply(Upsert("proposal", proposed))
    assert index.decision(WorkloadKey("foo", "a")).mode == "DISABLE"
    index.apply(Reset("proposal"))
    assert index.decision(WorkloadKey("foo", "a")).mode == "STRICT"
