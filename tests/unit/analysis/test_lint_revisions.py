"""Findings where several istiods read the policies: what is not known of them, and who conflicts with whom."""

from __future__ import annotations

import pytest

from peerauth.analysis.lint.duplicates import defined_twice
from peerauth.model.diagnostic import Severity
from peerauth.sources.reader import DocumentReader
from samples.manifests import (
    IN_AMBIENT_MODE,
    IN_SIDECAR_MODE,
    found,
    found_of,
    mesh_config,
    namespace,
    pod,
    policy,
    revision_tag,
)

CANARY = {"istio.io/rev": "canary"}
DEFAULT_CONFIG = mesh_config("rootNamespace: istio-system")
CANARY_CONFIG = mesh_config("rootNamespace: istio-system", revision="canary")
OF_CANARY = (namespace(labels=CANARY), pod())


@pytest.mark.parametrize(
    ("parts", "count"),
    [
        ((*OF_CANARY,), 0),  # the name makes no difference
        ((*OF_CANARY, policy("foo/default", "STRICT")), 0),
        ((*OF_CANARY, DEFAULT_CONFIG, CANARY_CONFIG), 0),
        ((*OF_CANARY, CANARY_CONFIG), 0),
        ((*OF_CANARY, DEFAULT_CONFIG), 1),
        ((*OF_CANARY, policy("foo/default", "STRICT", revision="canary")), 0),
        ((*OF_CANARY, policy("foo/default", "STRICT", revision="v1")), 1),  # canary may be a tag of v1
        ((*OF_CANARY, policy("foo/default", "STRICT", revision="v1"), revision_tag("canary", "v1")), 0),
        ((*OF_CANARY, DEFAULT_CONFIG, revision_tag("canary", "default")), 0),
        ((*OF_CANARY, DEFAULT_CONFIG, revision_tag("canary", "v1")), 1),  # v1 is there, its configuration is not
        ((namespace(), pod(), DEFAULT_CONFIG, policy("foo/default", "STRICT", revision="canray")), 1),
        ((namespace(), pod(), policy("foo/default", "STRICT", revision="canary")), 0),
        ((namespace(labels={}), pod(labels={}), DEFAULT_CONFIG), 0),
        # The default revision is no exception: another's configuration is not its own.
        ((namespace(), pod(), CANARY_CONFIG, revision_tag("default", "v1")), 1),
        ((namespace(), pod(), CANARY_CONFIG, revision_tag("default", "canary")), 0),
        ((namespace(), pod(), policy("foo/default", "STRICT", revision="default"), DEFAULT_CONFIG), 0),
    ],
)
def test_a_revision_of_which_nothing_is_known_while_something_is_of_others_is_said(
    parts: tuple[str, ...], count: int
) -> None:
    assert len(found_of("PA0308", *parts)) == count


def test_what_is_said_of_an_unknown_revision_names_who_is_of_it_and_who_is_for_it() -> None:
    (finding,) = found_of("PA0308", *OF_CANARY, DEFAULT_CONFIG, policy("foo/default", "STRICT", revision="canary"))
    assert finding.severity is Severity.INFO
    assert finding.subject == "revision canary"
    assert finding.message == (
        "the revision canary is not known: foo/finance is of it and foo/default is for it alone, and the input shows "
        "nothing of it, nor such a tag: decided by the configuration of default"
    )
    assert "istio-canary" in finding.hint


def test_a_default_revision_without_a_configuration_is_decided_by_istios_defaults_and_that_is_said() -> None:
    (finding,) = found_of("PA0308", namespace(), pod(), CANARY_CONFIG, revision_tag("default", "v1"))
    assert finding.message == (
        "the revision v1 is not configured here: foo/finance is of it, and its mesh configuration is not in the input: "
        "decided by Istio's defaults"
    )


def test_which_revision_ambient_workloads_follow_is_not_claimed_to_be_known() -> None:
    ambient = (namespace(labels=IN_AMBIENT_MODE), pod())
    assert found_of("PA0308", *ambient, DEFAULT_CONFIG) == []
    (finding,) = found_of("PA0308", *ambient, DEFAULT_CONFIG, CANARY_CONFIG)
    assert "ztunnel" in finding.message
    assert "foo/finance is decided by default" in finding.message


def test_two_mesh_policies_of_different_revisions_do_not_conflict() -> None:
    both = (
        policy("istio-system/a", "STRICT", revision="default"),
        policy("istio-system/b", "DISABLE", revision="canary"),
    )
    assert found_of("PA0101", namespace(), pod(), *both) == []
    (finding,) = found_of("PA0101", namespace(), pod(), both[0], policy("istio-system/b", "DISABLE"))
    assert "whole mesh, in the revision default" in finding.message
    assert len(found_of("PA0101", policy("istio-system/a", "STRICT"), policy("istio-system/b", "DISABLE"))) == 1


def test_policies_with_one_selector_conflict_only_where_one_revision_reads_both() -> None:
    first = policy("foo/a", "STRICT", app="absent", revision="default")
    assert found_of("PA0101", first, policy("foo/b", "DISABLE", app="absent", revision="canary")) == []
    assert len(found_of("PA0101", first, policy("foo/b", "DISABLE", app="absent", revision="default"))) == 1
    assert len(found_of("PA0101", first, policy("foo/b", "DISABLE", app="absent"))) == 1


def test_a_pair_that_meets_in_several_revisions_is_reported_once() -> None:
    pair = (policy("istio-system/a", "STRICT"), policy("istio-system/b", "DISABLE"))
    other_root = mesh_config("rootNamespace: elsewhere", revision="canary")
    assert len(found_of("PA0101", DEFAULT_CONFIG, other_root, *OF_CANARY, *pair)) == 1


def test_a_selector_that_only_selects_for_another_revision_selects_something() -> None:
    said = policy("foo/p", "STRICT", app="finance", revision="canary")
    assert found_of("PA0103", namespace(labels=IN_SIDECAR_MODE), pod(), DEFAULT_CONFIG, CANARY_CONFIG, said) == []
    assert len(found_of("PA0103", namespace(), pod(), policy("foo/p", "STRICT", app="fiance", revision="canary"))) == 1


def test_a_selector_has_no_effect_in_the_root_namespace_of_each_revision() -> None:
    other_root = mesh_config("rootNamespace: canary-root", revision="canary")
    said = (policy("istio-system/a", "STRICT", app="finance"), policy("canary-root/b", "STRICT", app="finance"))
    findings = found_of("PA0102", DEFAULT_CONFIG, other_root, *OF_CANARY, *said)
    assert [(one.subject.split()[1], "in the revision" in one.message) for one in findings] == [
        ("canary-root/b", True),
        ("istio-system/a", True),
    ]
    assert "in the revision" not in found_of("PA0102", *OF_CANARY, said[0])[0].message
    for_canary = policy("istio-system/a", "STRICT", app="finance", revision="canary")
    assert found_of("PA0102", DEFAULT_CONFIG, other_root, *OF_CANARY, for_canary) == []


SELECTING = mesh_config("discoverySelectors: [{matchLabels: {istio-injection: enabled}}]")


def test_a_policy_that_may_not_be_read_is_a_warning() -> None:
    said = policy("istio-system/default", "STRICT")
    (finding,) = found_of("PA0304", namespace(), pod(), SELECTING, said)
    assert finding.severity is Severity.WARNING
    assert "istio-system/default" in finding.message
    assert found_of("PA0304", namespace(), pod(), SELECTING, said, namespace("istio-system", labels={})) == []
    named = mesh_config("discoverySelectors: [{matchLabels: {kubernetes.io/metadata.name: istio-system}}, {}]")
    assert found_of("PA0304", namespace(), pod(), named, said) == []


def test_a_policy_that_no_istiod_reads_is_a_warning() -> None:
    said = policy("istio-system/default", "STRICT")
    unmatched = namespace("istio-system", labels={})
    (finding,) = found_of("PA0309", namespace(), pod(), SELECTING, unmatched, said)
    assert finding.severity is Severity.WARNING
    assert finding.message == (
        "policy istio-system/default is read by nobody: no discoverySelector of default matches the Namespace "
        "istio-system"
    )
    assert found_of("PA0309", namespace(), pod(), SELECTING, unmatched, CANARY_CONFIG, said) == []  # canary reads all
    for_default = policy("istio-system/default", "STRICT", revision="default")
    assert len(found_of("PA0309", namespace(), pod(), SELECTING, unmatched, CANARY_CONFIG, for_default)) == 1
    assert found_of("PA0309", namespace(), pod(), SELECTING, said) == []  # not known: PA0304 says it
    assert found_of("PA0309", namespace(), pod(), SELECTING, policy("foo/default", "STRICT")) == []


def test_strict_is_not_met_by_a_policy_that_is_not_read() -> None:
    parts = (namespace(), pod(), policy("istio-system/default", "STRICT"))
    assert [one.code for one in found(*parts, require_strict=True)] == []
    unread = found(*parts, SELECTING, namespace("istio-system", labels={}), require_strict=True)
    assert [one.code for one in unread] == ["PA0309", "PA0501"]
    other = found(namespace(), pod(), policy("istio-system/default", "STRICT", revision="canary"), require_strict=True)
    assert [one.code for one in other] == ["PA0501"]


def test_the_operator_and_the_config_map_of_one_revision_are_one_object_described_twice() -> None:
    operator = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {meshConfig: {trustDomain: td}}\n"
    text = f"{operator}---\n{DEFAULT_CONFIG}---\n{CANARY_CONFIG}"
    objects = [obj for document in DocumentReader().stream(text.encode(), file="f") for obj in document.objects]
    assert [str(one.subject) for one in defined_twice(objects)] == ["MeshConfig default"]
