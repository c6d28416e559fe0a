"""Findings about policies among themselves, and the cases that look like them and are not."""

from __future__ import annotations

import pytest

from peerauth.model.diagnostic import Severity
from samples.manifests import found, found_of, namespace, pod, policy

MESH = (namespace(), pod())


def test_nothing_is_found_in_a_plain_strict_namespace() -> None:
    assert found(*MESH, policy("foo/default", "STRICT")) == []


def test_a_conflict_names_winner_loser_what_is_lost_and_who_is_concerned() -> None:
    older = policy("foo/b", "STRICT", app="finance", created="2024-01-01T00:00:00Z")
    newer = policy("foo/a", "PERMISSIVE", app="finance", ports={9000: "DISABLE"}, created="2025-01-01T00:00:00Z")
    (finding,) = found_of("PA0101", *MESH, older, newer)
    assert finding.subject == "PeerAuthentication foo/a"
    assert finding.severity is Severity.WARNING
    assert "foo/a is not heard" in finding.message
    assert "foo/b" in finding.message
    assert "mode PERMISSIVE (the winner says STRICT)" in finding.message
    assert "port 9000 DISABLE (the winner does not name it)" in finding.message
    assert "workload foo/finance" in finding.message
    assert [fact.origin.line for fact in finding.evidence] == [22, 35]


def test_a_policy_without_a_creation_time_counts_as_the_oldest() -> None:
    dated = policy("foo/a", "STRICT", created="2000-01-01T00:00:00Z")
    (finding,) = found_of("PA0101", *MESH, dated, policy("foo/b", "PERMISSIVE"))
    assert finding.subject == "PeerAuthentication foo/a"


def test_each_level_has_its_conflicts() -> None:
    policies = [
        policy(f"{where}/{name}", mode, app=app)
        for where, app in (("istio-system", ""), ("foo", ""), ("foo", "finance"))
        for name, mode in ((f"a{app}", "STRICT"), (f"b{app}", "PERMISSIVE"))
    ]
    findings = found_of("PA0101", *MESH, *policies)
    assert [finding.subject.split()[1] for finding in findings] == ["foo/b", "istio-system/b", "foo/bfinance"]


def test_a_pair_is_reported_once_however_many_workloads_it_concerns() -> None:
    pods = [pod(f"foo/p{number}", labels={"tier": "front", "app": "finance"}) for number in range(20)]
    policies = [policy(f"foo/{name}", mode, app="finance") for name, mode in (("a", "STRICT"), ("b", "DISABLE"))]
    (finding,) = found_of("PA0101", namespace(), *pods, *policies)
    assert "foo/p0, " in finding.message
    assert "and 10 more" in finding.message


def test_policies_that_say_the_same_lose_nothing() -> None:
    (finding,) = found_of("PA0101", *MESH, policy("foo/a", "STRICT"), policy("foo/b", "STRICT"))
    assert finding.severity is Severity.INFO
    assert "Nothing is lost" in finding.message


def test_a_loser_without_a_mode_loses_only_its_ports() -> None:
    loser = policy("foo/b", app="finance", ports={9000: "STRICT"})
    (finding,) = found_of("PA0101", *MESH, policy("foo/a", "STRICT", app="finance"), loser)
    assert "Lost: port 9000 STRICT (the winner does not name it)." in finding.message


def test_policies_with_one_selector_conflict_before_they_match_anything() -> None:
    findings = found_of("PA0101", policy("foo/a", "STRICT", app="x"), policy("foo/b", "DISABLE", app="x"))
    assert [finding.subject for finding in findings] == ["PeerAuthentication foo/b"]


def test_policies_of_two_namespaces_do_not_conflict() -> None:
    assert not found_of("PA0101", *MESH, policy("foo/a", "STRICT"), policy("bar/a", "DISABLE"))


def test_a_mesh_policy_and_a_namespace_policy_do_not_conflict() -> None:
    assert not found_of("PA0101", *MESH, policy("istio-system/a", "STRICT"), policy("foo/a", "STRICT"))


def test_a_selector_in_the_root_namespace_is_an_error_at_the_selector() -> None:
    (finding,) = found(*MESH, policy("istio-system/x", "STRICT", app="finance"))
    assert (finding.code, finding.severity) == ("PA0102", Severity.ERROR)
    assert finding.origin.line == 28


def test_the_root_namespace_comes_from_the_mesh_configuration() -> None:
    mesh = "rootNamespace: foo\n"
    assert [one.code for one in found(mesh, *MESH, policy("foo/x", "STRICT", app="finance"))] == ["PA0102"]


def test_a_selector_that_matches_nothing_shows_what_was_probably_meant() -> None:
    (finding,) = found(*MESH, policy("foo/x", "STRICT", app="finanse"))
    assert finding.code == "PA0103"
    assert [fact.text for fact in finding.evidence] == ["no workload has app=finanse; foo/finance has app=finance"]


def test_a_selector_does_not_match_across_namespaces() -> None:
    (finding,) = found(*MESH, policy("bar/x", "STRICT", app="finance"))
    assert finding.code == "PA0103"
    assert [fact.text for fact in finding.evidence] == ["no workload is in bar"]


def test_selectors_are_not_judged_where_no_workloads_were_given() -> None:
    assert found(namespace(), policy("foo/x", "STRICT", app="finanse")) == []


@pytest.mark.parametrize("workloads", [(), MESH])
@pytest.mark.parametrize("value", ["a b", "finance-", "-a"])
def test_a_selector_that_no_label_can_match_is_always_said(value: str, workloads: tuple[str, ...]) -> None:
    (finding,) = found(*workloads, policy("foo/x", "STRICT", app=repr(value)))
    assert (finding.code, finding.severity) == ("PA0103", Severity.WARNING)
    assert [fact.text for fact in finding.evidence] == [f"{value!r} cannot be the value of a label"]


def test_a_policy_that_selects_and_loses_still_selects() -> None:
    assert not found_of("PA0103", *MESH, policy("foo/a", "STRICT", app="finance"), policy("foo/b", app="finance"))


def test_an_exception_under_strict_is_said_with_both_sides() -> None:
    (finding,) = found(*MESH, policy("istio-system/default", "STRICT"), policy("foo/default", "PERMISSIVE"))
    assert (finding.code, finding.severity) == ("PA0104", Severity.INFO)
    assert "policy foo/default says PERMISSIVE where istio-system/default (mesh) says STRICT" in finding.message


def test_an_exception_that_is_itself_overridden_is_none() -> None:
    policies = (
        policy("istio-system/default", "STRICT"),
        policy("foo/default", "PERMISSIVE"),
        policy("foo/finance", "STRICT", app="finance"),
    )
    assert found(*MESH, *policies) == []


def test_a_port_that_is_set_stricter_is_no_exception() -> None:
    assert found(*MESH, policy("foo/finance", "PERMISSIVE", app="finance", ports={8080: "STRICT"})) == []


def test_the_workload_shown_as_an_example_does_not_depend_on_the_order_of_the_input() -> None:
    pods = [pod(f"foo/{name}", labels={"app": "finance"}) for name in ("b", "a")]
    for order in (pods, pods[::-1]):
        (finding,) = found(namespace(), *order, policy("foo/x", "STRICT", app="finanse"))
        assert [fact.text for fact in finding.evidence] == ["no workload has app=finanse; foo/a has app=finance"]


@pytest.mark.parametrize("kind", ["Policy", "MeshPolicy"])
def test_a_policy_of_the_removed_api_is_said_to_be_in_force_nowhere(kind: str) -> None:
    name = "default" if kind == "MeshPolicy" else "foo/default"
    old = f"apiVersion: authentication.istio.io/v1alpha1\nkind: {kind}\nmetadata:\n  name: default\n"
    (finding,) = found(*MESH, old + ("  namespace: foo\n" if kind == "Policy" else ""))
    assert (finding.code, finding.severity) == ("PA0106", Severity.WARNING)
    assert (finding.subject, finding.origin.line) == (f"{kind} {name}", 22)
