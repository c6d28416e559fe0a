"""`--require strict` passes only what is known to be enforced as STRICT."""

from __future__ import annotations

from peerauth.model.diagnostic import Severity
from samples.manifests import IN_AMBIENT_MODE, found, found_of, namespace, pod, policy, service

STRICT = policy("foo/default", "STRICT")


def failures(*parts: str) -> list[str]:
    return [finding.message for finding in found_of("PA0501", *parts, require_strict=True)]


def test_a_strict_mesh_passes() -> None:
    assert found(namespace(), pod(), policy("istio-system/default", "STRICT"), require_strict=True) == []


def test_no_policy_at_all_is_permissive_and_fails() -> None:
    assert failures(namespace(), pod()) == ["workload foo/finance is PERMISSIVE on 8080 and every port not declared"]


def test_an_exception_for_a_port_fails_with_the_port() -> None:
    exception = policy("foo/p", "STRICT", app="finance", ports={8080: "DISABLE"})
    assert failures(namespace(), pod(), exception) == ["port 8080 of workload foo/finance is not STRICT: it is DISABLE"]


def test_what_ambient_enforces_counts() -> None:
    exception = policy("foo/p", "STRICT", app="finance", ports={8080: "DISABLE"})
    (message,) = failures(namespace(labels=IN_AMBIENT_MODE), pod(), exception)
    assert message.endswith("it is PERMISSIVE")


def test_strict_ports_do_not_redeem_a_permissive_workload() -> None:
    (message,) = failures(namespace(), pod(), policy("foo/p", "PERMISSIVE", app="finance", ports={8080: "STRICT"}))
    assert message == "workload foo/finance is PERMISSIVE on every port not declared"


def test_a_port_kept_away_from_the_proxy_fails() -> None:
    excluded = pod(annotations={"traffic.sidecar.istio.io/excludeInboundPorts": "8080"})
    (message,) = failures(namespace(), excluded, STRICT)
    assert "kept away from the proxy" in message


def test_ports_that_nobody_declares_must_reach_the_proxy_too() -> None:
    included = pod(annotations={"traffic.sidecar.istio.io/includeInboundPorts": "8080"})
    (message,) = failures(namespace(), included, STRICT)
    assert message.startswith("workload foo/finance is STRICT, but every port that is not declared is kept away")


def test_the_ports_of_the_sidecars_agent_are_not_the_workloads() -> None:
    assert failures(namespace(), pod(), service(port=15020, target=15020), STRICT) == []


def test_workloads_known_to_be_outside_are_not_judged() -> None:
    mesh = (namespace(), namespace("bar", {}), pod(), pod("bar/legacy"))
    assert found(*mesh, STRICT, require_strict=True) == []


def test_workloads_of_unknown_namespaces_are_judged_as_if_in_the_mesh() -> None:
    assert len(failures(pod())) == 1
    assert failures(pod(), STRICT) == []


def test_of_a_workload_in_an_unknown_namespace_every_port_must_reach_the_sidecar_that_it_may_have() -> None:
    (message,) = failures(pod(annotations={"traffic.sidecar.istio.io/excludeInboundPorts": "8080"}), STRICT)
    assert "kept away from the proxy" in message


def test_nothing_to_judge_is_not_a_pass() -> None:
    assert [one.code for one in found(STRICT, require_strict=True)] == ["PA0502"]
    assert [one.code for one in found(namespace("bar", {}), pod("bar/a"), require_strict=True)] == ["PA0502"]


ROLLOUT = "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata:\n  name: finance\n  namespace: foo\n"
REFERS = ROLLOUT + "spec:\n  workloadRef:\n    kind: Deployment\n    name: finance\n"
HAS_TEMPLATE = ROLLOUT + "spec:\n  template:\n    spec:\n      containers:\n        - image: a\n"


def test_a_permissive_workload_of_a_kind_that_is_not_kubernetes_own_fails() -> None:
    assert failures(namespace(), HAS_TEMPLATE, policy("foo/default", "PERMISSIVE")) == [
        "workload foo/finance is PERMISSIVE on every port"
    ]
    assert found(namespace(), HAS_TEMPLATE, STRICT, require_strict=True) == []


def test_what_runs_containers_and_is_not_understood_does_not_pass() -> None:
    (finding,) = found(namespace(), pod(), STRICT, REFERS, require_strict=True)
    assert (finding.code, finding.severity, finding.subject) == ("PA0503", Severity.ERROR, "Rollout foo/finance")
    assert found(namespace(), pod(), STRICT, REFERS) == []


def test_a_pod_that_has_ended_is_not_required_to_be_strict() -> None:
    ended = pod("foo/job") + "status:\n  phase: Succeeded\n"
    exception = policy("foo/job", "PERMISSIVE", app="job")
    assert not failures(namespace(), pod(), ended, STRICT, exception)


ROUTER = "    - name: istio-proxy\n      args: [proxy, router]\n"


def test_gateways_are_not_judged_and_it_is_said_how_many() -> None:
    gateways = (pod("foo/a", container=ROUTER), pod("foo/b", container=ROUTER))
    (finding,) = found(namespace(), pod(), *gateways, policy("foo/p", "STRICT", app="finance"), require_strict=True)
    assert finding.code == "PA0307"
    assert "2 gateways (foo/a, foo/b)" in finding.message


def test_gateways_alone_are_not_a_pass() -> None:
    codes = [one.code for one in found(namespace(), pod(container=ROUTER), require_strict=True)]
    assert codes == ["PA0307", "PA0502"]


def test_a_pod_that_runs_without_the_proxy_that_its_labels_ask_for_fails() -> None:
    (message,) = failures(namespace(), pod(live=True), STRICT)
    assert "belongs to the mesh by its labels" in message
