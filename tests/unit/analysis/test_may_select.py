"""Labels that a pod gets when it is created: what selects by them may select, and is neither passed nor called void."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from peerauth.cli.main import cli
from peerauth.model.diagnostic import Severity
from samples.manifests import documents, found, found_of, namespace, policy

STRICT = policy("foo/default", "STRICT")


def controller(kind: str = "StatefulSet", name: str = "ledger", labels: str = "app: ledger") -> str:
    group = {"Job": "batch/v1", "Rollout": "argoproj.io/v1alpha1"}.get(kind, "apps/v1")
    return (
        f"apiVersion: {group}\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: foo\nspec:\n  template:\n"
        f"    metadata:\n      labels:\n        {labels}\n    spec:\n      containers:\n        - image: a\n"
    )


def selecting(*pairs: str, mode: str = "PERMISSIVE", name: str = "foo/some", created: str = "") -> str:
    where, short = name.split("/")
    labels = "".join(f"      {pair}\n" for pair in pairs)
    age = f"  creationTimestamp: '{created}'\n" if created else ""
    return (
        f"apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: {short}\n"
        f"  namespace: {where}\n{age}spec:\n  selector:\n    matchLabels:\n{labels}  mtls:\n    mode: {mode}\n"
    )


POD_NAME = "statefulset.kubernetes.io/pod-name: ledger-0"


@pytest.mark.parametrize(
    ("kind", "pair"),
    [
        ("StatefulSet", POD_NAME),
        ("StatefulSet", "apps.kubernetes.io/pod-index: '0'"),
        ("StatefulSet", "controller-revision-hash: ledger-6b7"),
        ("StatefulSet", "service.istio.io/canonical-name: ledger"),
        ("Deployment", "service.istio.io/canonical-revision: v1"),
        ("Deployment", "pod-template-hash: 6b7f"),
        ("DaemonSet", "controller-revision-hash: 6b7f"),
        ("Job", "batch.kubernetes.io/job-name: ledger"),
        ("Job", "job-name: ledger"),
        ("Job", "controller-uid: abc"),
        ("Rollout", "rollouts-pod-template-hash: abc"),
        ("Rollout", "pod-template-hash: abc"),
    ],
)
def test_a_label_to_come_may_match_and_is_never_called_void(kind: str, pair: str) -> None:
    mesh = (namespace(), controller(kind), STRICT)
    for policies in (selecting(pair), selecting("app: ledger", pair)):
        findings = found(*mesh, policies)
        assert [(one.code, one.severity) for one in findings] == [("PA0107", Severity.INFO)]
        assert findings[0].subject == "PeerAuthentication foo/some"
        assert "foo/ledger" in findings[0].message


@pytest.mark.parametrize(
    ("kind", "pairs"),
    [
        ("StatefulSet", ("app: other", POD_NAME)),
        ("StatefulSet", ("statefulset.kubernetes.io/pod-name: other-0",)),
        ("StatefulSet", ("statefulset.kubernetes.io/pod-name: ledger-x",)),
        ("StatefulSet", ("pod-template-hash: abc",)),
        ("Deployment", (POD_NAME,)),
        ("Deployment", ("app: ledger", "batch.kubernetes.io/job-name: x")),
    ],
)
def test_what_no_pod_of_the_workload_can_get_selects_nothing(kind: str, pairs: tuple[str, ...]) -> None:
    assert [one.code for one in found(namespace(), controller(kind), STRICT, selecting(*pairs))] == ["PA0103"]


def test_a_label_that_the_template_has_is_known() -> None:
    known = controller(labels="service.istio.io/canonical-name: other")
    assert [one.code for one in found(namespace(), known, STRICT, selecting("service.istio.io/canonical-name: x"))] == [
        "PA0103"
    ]


def test_a_pod_that_runs_has_all_its_labels() -> None:
    live = (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: ledger-0\n  namespace: foo\n  uid: abc\n  labels:\n"
        "    app: ledger\nspec:\n  containers:\n    - name: istio-proxy\n      image: a\nstatus:\n  podIP: 10.0.0.1\n"
    )
    assert found_of("PA0107", namespace(), live, selecting(POD_NAME)) == []
    assert [one.code for one in found(namespace(), live, STRICT, selecting(POD_NAME))] == ["PA0103"]


def required(*policies: str) -> list[str]:
    return [one.message for one in found_of("PA0501", namespace(), controller(), *policies, require_strict=True)]


def test_a_workload_that_such_a_policy_may_loosen_is_not_passed() -> None:
    assert required(STRICT) == required(STRICT, selecting(POD_NAME, mode="STRICT")) == []
    (message,) = required(STRICT, selecting(POD_NAME))
    assert message.startswith(
        "workload foo/ledger may not be STRICT on some pods: policy foo/some selects by statefulset."
    )


def test_one_that_loses_wherever_it_matches_loosens_nothing() -> None:
    older = selecting(POD_NAME, mode="STRICT", name="foo/older", created="2024-01-01T00:00:00Z")
    newer = selecting(POD_NAME, created="2025-01-01T00:00:00Z")
    assert required(STRICT, older, newer) == []
    everywhere = policy("foo/all", "STRICT", app="ledger", created="2024-01-01T00:00:00Z")
    assert required(everywhere, newer) == []
    assert (
        len(required(STRICT, newer, selecting(POD_NAME, mode="STRICT", created="2026-01-01T00:00:00Z", name="foo/z")))
        == 1
    )


def test_explain_says_it_of_the_workload() -> None:
    text = documents(namespace(), controller(), STRICT, selecting(POD_NAME))

    def explain(*options: str) -> str:
        return CliRunner().invoke(cli, ["explain", "-f", "-", *options], input=text).stdout

    note = (
        "foo/some may select some of its pods: it selects by statefulset.kubernetes.io/pod-name, which a pod has only"
    )
    assert f"  maybe       {note}" in explain()
    (workload,) = json.loads(explain("-o", "json"))["workloads"]
    assert (workload["mode"], workload["maySelect"]) == ("STRICT", ["foo/some"])
