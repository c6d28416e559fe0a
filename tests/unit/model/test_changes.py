"""Several sources that speak about the same objects: whose word stands, and what is news."""

from __future__ import annotations

from peerauth.model.changes import MESH_REF, Delete, Edit, Ledger, ObjectRef, Reset, Upsert, ref_of
from peerauth.model.inventory import ApiServerTarget, Workload
from peerauth.model.mesh import MeshConfig
from samples.meshes import meta, namespace, policy, workload

STRICT, DISABLE, PERMISSIVE = (policy("foo/default", mode) for mode in ("STRICT", "DISABLE", "PERMISSIVE"))
REF = ref_of(STRICT)


def test_objects_are_named_by_kind_namespace_and_name() -> None:
    assert ref_of(STRICT) == ObjectRef("PeerAuthentication", "foo", "default")
    assert ref_of(namespace("foo")) == ObjectRef("Namespace", "", "foo")
    assert ref_of(Workload(meta("foo/a"), kind="Deployment")) == ObjectRef("Deployment", "foo", "a")
    assert ref_of(MeshConfig()) == MESH_REF
    assert [str(ref_of(one)) for one in (STRICT, namespace("foo"))] == [
        "PeerAuthentication foo/default",
        "Namespace foo",
    ]


def test_the_webhooks_of_one_configuration_are_objects_of_their_own() -> None:
    kind = "ValidatingWebhookConfiguration"
    first, second = (ApiServerTarget(meta("hooks"), kind, "foo", "svc", webhook=name) for name in ("a", "b"))
    assert (ref_of(first), ref_of(second)) == (ObjectRef(kind, "", "hooks/a"), ObjectRef(kind, "", "hooks/b"))
    assert ref_of(ApiServerTarget(meta("v1.metrics"), "APIService", "foo", "svc")).name == "v1.metrics"


def test_new_changed_and_deleted_objects_are_edits_and_repetition_is_none() -> None:
    ledger = Ledger()
    assert ledger.apply(Upsert("a", STRICT)) == (Edit(REF, None, STRICT),)
    assert ledger.apply(Upsert("a", STRICT)) == ()
    assert ledger.apply(Upsert("a", DISABLE)) == (Edit(REF, STRICT, DISABLE),)
    assert ledger.apply(Delete("a", REF)) == (Edit(REF, DISABLE, None),)
    assert ledger.apply(Delete("a", REF)) == ()


def test_the_latest_news_stands_and_taking_it_back_uncovers_the_one_before() -> None:
    ledger = Ledger()
    ledger.apply(Upsert("a", STRICT))
    assert ledger.apply(Upsert("b", DISABLE)) == (Edit(REF, STRICT, DISABLE),)
    assert ledger.apply(Upsert("c", PERMISSIVE)) == (Edit(REF, DISABLE, PERMISSIVE),)
    assert ledger.apply(Delete("b", REF)) == ()
    assert ledger.apply(Delete("c", REF)) == (Edit(REF, PERMISSIVE, STRICT),)


def test_who_repeats_himself_does_not_push_another_aside() -> None:
    ledger = Ledger()
    ledger.apply(Upsert("a", STRICT))
    ledger.apply(Upsert("b", DISABLE))
    assert ledger.apply(Reset("a", (STRICT,))) == ()
    assert ledger.apply(Upsert("a", PERMISSIVE)) == (Edit(REF, DISABLE, PERMISSIVE),)


def test_two_sources_that_agree_are_one_object_until_both_take_it_back() -> None:
    ledger = Ledger()
    ledger.apply(Upsert("a", STRICT))
    assert ledger.apply(Upsert("b", STRICT)) == ()
    assert ledger.apply(Delete("a", REF)) == ()
    assert ledger.apply(Delete("b", REF)) == (Edit(REF, STRICT, None),)


def test_a_source_cannot_take_back_what_another_said() -> None:
    ledger = Ledger()
    ledger.apply(Upsert("a", STRICT))
    assert ledger.apply(Delete("b", REF)) == ()
    assert ledger.apply(Reset("b")) == ()


def test_a_reset_takes_back_what_it_does_not_name_and_only_of_its_source() -> None:
    ledger = Ledger()
    ledger.apply(Upsert("other", namespace("kept")))
    first, second, third = (workload(f"foo/{name}") for name in "abc")
    ledger.apply(Reset("a", (first, second)))
    assert ledger.apply(Reset("a", (second, third))) == (
        Edit(ref_of(first), first, None),
        Edit(ref_of(third), None, third),
    )
    assert ledger.apply(Reset("a", (second, third))) == ()
    assert [edit.ref.name for edit in ledger.apply(Reset("a"))] == ["b", "c"]


def test_of_two_objects_with_one_name_in_a_reset_the_last_stands() -> None:
    assert Ledger().apply(Reset("a", (STRICT, DISABLE))) == (Edit(REF, None, DISABLE),)


def test_changes_that_are_taken_together_are_one_edit_of_each_object_and_none_of_what_stays() -> None:
    ledger = Ledger()
    moved, renewed, gone = (workload(f"foo/{name}") for name in ("moved", "renewed", "gone"))
    ledger.apply(Reset("a", (moved, STRICT, gone)), Reset("b", (renewed,)))
    assert ledger.apply(Reset("a", (DISABLE, gone)), Reset("b", (renewed, moved)), Reset("a", (PERMISSIVE,))) == (
        Edit(REF, STRICT, PERMISSIVE),
        Edit(ref_of(gone), gone, None),
    )
    assert ledger.apply() == ()
