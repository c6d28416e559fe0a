"""What is said about a faulty PeerAuthentication: each fault, its place, its path, and what to do."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from peerauth.model.meta import Origin
from peerauth.model.peerauth import Mode, PeerAuthentication, PortMode
from peerauth.model.schema import Checked, FixedPlace, check
from peerauth.model.schema.faults import (
    DUPLICATE_KEY,
    INVALID_NAME,
    INVALID_PORT,
    INVALID_VALUE,
    MISSING_FIELD,
    NOT_A_RESOURCE,
    PORTS_WITHOUT_SELECTOR,
    UNKNOWN_FIELD,
    UNKNOWN_VERSION,
    WRONG_TYPE,
    Fault,
)

HERE = Origin("f.yaml", 1, 1)
PORTS = {"9000": {}, "80": {"mode": "DISABLE"}}
SELECTOR = {"matchLabels": {"app": "finance"}}


def policy(spec: object, **changes: object) -> dict[str, object]:
    resource: dict[str, object] = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": "foo"},
        "spec": spec,
    }
    return resource | changes


def checked(resource: object) -> Checked:
    return check(resource, place=FixedPlace(HERE))


def accepted(resource: object) -> PeerAuthentication:
    result = checked(resource)
    assert not result.diagnostics, result.diagnostics
    (found,) = result.objects
    assert isinstance(found, PeerAuthentication)
    return found


def test_a_policy_is_read_as_its_author_wrote_it() -> None:
    found = accepted(
        policy(
            {
                "selector": SELECTOR,
                "mtls": {"mode": "STRICT"},
                "portLevelMtls": {"9000": {}, "80": {"mode": "DISABLE"}},
            },
            metadata={
                "name": "p",
                "namespace": "foo",
                "labels": {"a": "b"},
                "creationTimestamp": "2024-05-01T12:00:00.1234567+02:00",
            },
        )
    )
    assert found.meta.full_name == "foo/p"
    assert found.meta.created == datetime(2024, 5, 1, 10, 0, 0, 123456, tzinfo=UTC)
    assert found.meta.labels == {("a", "b")}
    assert found.selector == {("app", "finance")}
    assert found.mode is Mode.STRICT
    assert found.ports == (PortMode(80, Mode.DISABLE, HERE), PortMode(9000, Mode.UNSET, HERE))


@pytest.mark.parametrize("spec", [None, {}, {"selector": None}, {"selector": {}}, {"selector": {"matchLabels": {}}}])
def test_an_absent_and_an_empty_selector_are_the_same(spec: object) -> None:
    found = accepted(policy(spec))
    assert (found.selector, found.mode, found.ports) == (frozenset(), Mode.UNSET, ())


def test_both_versions_are_known_and_no_other() -> None:
    accepted(policy({}, apiVersion="security.istio.io/v1beta1"))
    for version in ("security.istio.io/v1alpha1", "authentication.istio.io/v1", "v1"):
        assert [found.code for found in checked(policy({}, apiVersion=version)).diagnostics] == [UNKNOWN_VERSION.code]


def test_a_document_without_a_namespace_is_in_the_default_one() -> None:
    assert accepted(policy({}, metadata={"name": "p"})).meta.namespace == "default"


@pytest.mark.parametrize(
    ("resource", "fault", "path", "words"),
    [
        (policy({"mtl": {}}), UNKNOWN_FIELD, "spec.mtl", "did you mean `mtls`?"),
        (policy({"portlevelmtls": {}}), UNKNOWN_FIELD, "spec.portlevelmtls", "`portLevelMtls`"),
        (
            policy({"selector": {"matchExpressions": []}}),
            UNKNOWN_FIELD,
            "spec.selector.matchExpressions",
            "matchLabels",
        ),
        (policy({"mtls": {"mod": 1}}), UNKNOWN_FIELD, "spec.mtls.mod", "`mode`"),
        (policy({}, metadata={"name": "p", "nmespace": "x"}), UNKNOWN_FIELD, "metadata.nmespace", "`namespace`"),
        (policy({}, specs={}), UNKNOWN_FIELD, "specs", "`spec`"),
        (policy({"mtls": {"mode": "strict"}}), INVALID_VALUE, "spec.mtls.mode", "did you mean STRICT?"),
        (policy({"mtls": {"mode": True}}), WRONG_TYPE, "spec.mtls.mode", "the boolean true"),
        (policy({"mtls": "STRICT"}), WRONG_TYPE, "spec.mtls", "a mapping, and is the string 'STRICT'"),
        (policy({"portLevelMtls": {"80": {}}}), PORTS_WITHOUT_SELECTOR, "spec.portLevelMtls", "matchLabels"),
        (policy({"selector": SELECTOR, "portLevelMtls": {}}), INVALID_VALUE, "spec.portLevelMtls", "must not be empty"),
        (
            policy({"selector": SELECTOR, "portLevelMtls": {"0": {}}}),
            INVALID_PORT,
            "spec.portLevelMtls.0",
            "1 to 65535",
        ),
        (
            policy({"selector": SELECTOR, "portLevelMtls": {"http": {}}}),
            INVALID_PORT,
            "spec.portLevelMtls.http",
            "by number",
        ),
        (policy({"selector": SELECTOR, "portLevelMtls": {"80": None}}), WRONG_TYPE, "spec.portLevelMtls.80", "`mode:`"),
        (
            policy({"selector": SELECTOR, "portLevelMtls": {"80": {}, "080": {}}}),
            DUPLICATE_KEY,
            "spec.portLevelMtls.080",
            "twice",
        ),
        (policy({"selector": {"matchLabels": {"a/b": "*"}}}), INVALID_NAME, 'spec.selector.matchLabels["a/b"]', "`*`"),
        (policy({"selector": {"matchLabels": {"v": 1}}}), WRONG_TYPE, "spec.selector.matchLabels.v", "in quotes"),
        (policy({}, metadata={"namespace": "foo"}), MISSING_FIELD, "metadata", "`metadata.name` is missing"),
        (policy({}, metadata={"name": "a/b"}), INVALID_NAME, "metadata.name", "'a/b' is not a name"),
        (policy({}, metadata={"name": "a", "namespace": "a.b"}), INVALID_NAME, "metadata.namespace", "a namespace"),
        (
            policy({}, metadata={"name": "a", "creationTimestamp": "yesterday"}),
            INVALID_VALUE,
            "metadata.creationTimestamp",
            "RFC 3339",
        ),
        (policy({}, apiVersion=None), MISSING_FIELD, "", "`apiVersion` is missing"),
        ({"a": "b"}, NOT_A_RESOURCE, "", "no `kind`"),
        (["a"], NOT_A_RESOURCE, "", "a list"),
    ],
)
def test_a_fault_is_named_with_its_path_and_what_to_do(resource: object, fault: Fault, path: str, words: str) -> None:
    result = checked(resource)
    assert result.objects == ()
    (found,) = result.diagnostics
    assert (found.code, found.path, found.origin) == (fault.code, path, HERE)
    assert words in f"{found.message} {found.hint}"


def test_everything_wrong_is_reported_at_once_with_its_subject() -> None:
    result = checked(policy({"mtls": {"mode": "x"}, "selector": {"matchLabels": {"*": 1}}, "portLevelMtls": {"a": 1}}))
    assert len(result.diagnostics) == 5
    assert {found.subject for found in result.diagnostics} == {"PeerAuthentication foo/default"}


def test_a_long_value_is_not_repeated_in_the_message() -> None:
    (found,) = checked(policy({"mtls": "x" * 100_000})).diagnostics
    assert len(found.message) < 200


def test_a_label_value_may_have_63_characters_and_no_more() -> None:
    longest = "a" * 63
    assert accepted(policy({"selector": {"matchLabels": {"app": longest}}})).selector == {("app", longest)}
    assert checked(policy({"selector": {"matchLabels": {"app": longest + "a"}}})).diagnostics
