"""Pods and controllers: what is read of them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.model.inventory import Admission, Probe, ProxyRole, Workload
from peerauth.model.schema import FixedPlace, check
from samples.documents import EXPECTED_REST, POD_SPEC, checked, indented, only, shape


def test_a_proxys_ports_are_not_the_applications_as_a_container_or_as_a_native_sidecar() -> None:
    for where in ("containers", "initContainers"):
        found = only(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n"
            f"  {where}:\n  - {{name: istio-proxy, restartPolicy: Always, ports: [{{containerPort: 15090}}]}}\n"
        )
        assert isinstance(found, Workload)
        assert found.ports == (), where


def test_a_pod_is_a_workload() -> None:
    found = only(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {app: x}}\n"
        f"spec:{indented(POD_SPEC, 2)}\nstatus: {{podIP: 10.0.0.1, podIPs: [{{ip: 10.0.0.1}}, {{ip: 'fd00::1'}}]}}\n"
    )
    assert shape(found) == ("Pod", "p", *EXPECTED_REST)
    assert isinstance(found, Workload)
    assert found.addresses == ("10.0.0.1", "fd00::1")
    assert found.node == "n1"


@pytest.mark.parametrize(
    ("group", "kind"),
    [("apps", "Deployment"), ("apps", "StatefulSet"), ("apps", "DaemonSet"), ("apps", "ReplicaSet"), ("batch", "Job")],
)
def test_the_template_of_a_controller_is_the_workload(group: str, kind: str) -> None:
    template = f"template:\n  metadata: {{labels: {{app: x}}, annotations: {{a: b}}}}\n  spec:{indented(POD_SPEC, 4)}"
    text = f"apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: c, labels: {{own: z}}}}\nspec:\n  "
    found = only(text + indented(template, 2))
    assert shape(found) == (kind, "c", *EXPECTED_REST)
    assert isinstance(found, Workload)
    assert found.meta.annotations == {("a", "b")}


def test_the_template_of_a_cron_job_is_deeper() -> None:
    template = f"template:\n  metadata: {{labels: {{app: x}}}}\n  spec:{indented(POD_SPEC, 4)}"
    head = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\nspec:\n  jobTemplate:\n    spec:\n      "
    assert shape(only(head + indented(template, 6))) == ("CronJob", "c", *EXPECTED_REST)


def test_positions_are_those_of_the_values() -> None:
    found = only(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: c\nspec:\n  template:\n    spec:\n"
        "      containers:\n      - ports:\n        - containerPort: 8080\n        livenessProbe:\n"
        "          tcpSocket:\n            port: 1\n"
    )
    assert isinstance(found, Workload)
    assert [str(port.origin) for port in found.ports] == ["f:10:26"]
    assert [str(probe.origin) for probe in found.probes] == ["f:13:19"]
    assert isinstance(found.probes[0], Probe)


@pytest.mark.parametrize(
    ("uid", "status", "expected"),
    [
        ("", "", Admission.AHEAD),
        ("", "status: {}\n", Admission.AHEAD),
        (", uid: 0c9ac3f5", "", Admission.PAST),
        (", uid: 0c9ac3f5", "status: {}\n", Admission.PAST),
        ("", "status: {phase: Running, podIP: 10.0.0.1}\n", Admission.PAST),
        ("", "status: {qosClass: BestEffort}\n", Admission.PAST),
        (", uid: 0c9ac3f5", "status: {phase: Pending}\n", Admission.STARTING),
        ("", "status: {phase: Pending, podIP: 10.0.0.1}\n", Admission.PAST),
    ],
)
def test_a_pod_with_a_status_or_a_uid_is_past_admission(uid: str, status: str, expected: Admission) -> None:
    found = only(f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p{uid}}}\nspec: {{}}\n{status}")
    assert isinstance(found, Workload)
    assert found.admission is expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("containers: [{name: istio-proxy, args: [proxy, sidecar, --domain, x]}]", ProxyRole.SIDECAR),
        ("containers: [{name: istio-proxy, args: [proxy, router, --log_as_json]}]", ProxyRole.ROUTER),
        ("containers: [{name: istio-proxy, args: [proxy, waypoint]}]", ProxyRole.WAYPOINT),
        ("containers: [{name: istio-proxy, command: [pilot-agent, proxy], args: [router]}]", ProxyRole.ROUTER),
        ("containers: [{name: istio-proxy, image: auto}]", ProxyRole.UNSAID),
        ("initContainers: [{name: istio-proxy, restartPolicy: Always, args: [proxy, sidecar]}]", ProxyRole.SIDECAR),
        ("initContainers: [{name: istio-proxy, args: [proxy, sidecar]}]", ProxyRole.ABSENT),
        ("containers: [{name: app, args: [proxy, router]}]", ProxyRole.ABSENT),
    ],
)
def test_the_container_of_the_proxy_says_as_what_it_runs_and_its_ports_are_not_the_applications(
    spec: str, expected: ProxyRole
) -> None:
    ports = spec.replace("istio-proxy,", "istio-proxy, ports: [{containerPort: 15090}],")
    found = only(f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{{ports}}}\n")
    assert isinstance(found, Workload)
    assert (found.proxy, found.ports) == (expected, ())


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ("{}", True),
        ("{podIP: 10.0.0.1}", True),
        ("{phase: Pending}", False),
        ("{phase: Running, conditions: [{type: Ready, status: 'True'}]}", True),
        ("{phase: Running, conditions: [{type: Ready, status: 'False'}]}", False),
        ("{phase: Running, conditions: [{type: Ready, status: Unknown}]}", False),
        ("{phase: Running, conditions: [{type: PodScheduled, status: 'True'}]}", False),
    ],
)
def test_a_pod_is_ready_by_its_condition_and_before_it_has_a_status(status: str, ready: bool) -> None:
    found = only(f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nstatus: {status}\n")
    assert isinstance(found, Workload)
    assert (found.ready, found.terminating) == (ready, False)


def test_a_pod_that_is_being_deleted_says_so() -> None:
    found = only("apiVersion: v1\nkind: Pod\nmetadata: {name: p, deletionTimestamp: '2024-05-01T12:00:00Z'}\n")
    assert isinstance(found, Workload)
    assert found.terminating


_OCTETS = st.one_of(st.integers(0, 300).map(str), st.sampled_from(["", "00", "01", "1e1", " 1", "+1", "٣"]))


@given(st.one_of(st.ip_addresses().map(str), st.lists(_OCTETS, min_size=3, max_size=5).map(".".join), st.text()))
def test_an_address_is_what_the_library_takes_for_one(text: str) -> None:
    def taken() -> bool:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            return False
        return True

    status: dict[str, object] = {"podIP": text}
    pod: dict[str, object] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "status": status}
    found = check(pod, place=FixedPlace())
    assert bool(found.diagnostics) == bool(text and not taken())


TEMPLATE = f"template:\n  metadata: {{labels: {{app: x}}}}\n  spec:{indented(POD_SPEC, 4)}"


@pytest.mark.parametrize(
    ("api_version", "kind", "known_as"),
    [
        ("argoproj.io/v1alpha1", "Rollout", "Rollout"),
        ("apps.openshift.io/v1", "DeploymentConfig", "DeploymentConfig"),
        ("v1", "ReplicationController", "ReplicationController"),
        ("serving.knative.dev/v1", "Service", "Service.serving.knative.dev"),
        ("serving.knative.dev/v1", "Configuration", "Configuration"),
        ("apps.kruise.io/v1alpha1", "CloneSet", "CloneSet"),
        ("apps.kruise.io/v1beta1", "StatefulSet", "StatefulSet.apps.kruise.io"),
        ("example.com/v1", "WhatComes", "WhatComes"),
    ],
)
def test_whatever_has_a_pod_template_is_a_workload(api_version: str, kind: str, known_as: str) -> None:
    found = only(f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: c}}\nspec:\n  {indented(TEMPLATE, 2)}")
    assert shape(found) == (known_as, "c", *EXPECTED_REST)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_is_no_workload(phase: str) -> None:
    head = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:{indented(POD_SPEC, 2)}\nstatus: "
    ended = checked(head + f"{{phase: {phase}}}\n")
    assert (ended.objects, ended.diagnostics, ended.passed_over) == ((), (), ("Pod (ended)",))
    assert isinstance(only(head + "{phase: Running}\n"), Workload)


@pytest.mark.parametrize("container", ["{name: setup", "{name: agent, restartPolicy: Always", "{name: istio-proxy"])
def test_what_is_wrong_with_a_port_is_a_fault_in_every_container(container: str) -> None:
    for where in ("containers", "initContainers"):
        text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{{where}: [{container}, ports: [http]}}]}}\n"
        assert [fault.path for fault in checked(text).diagnostics] == [f"spec.{where}[0].ports[0]"]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ("{serviceAccountName: a, serviceAccount: b/c}", ""),
        ("{serviceAccountName: '', serviceAccount: b/c}", "spec.serviceAccount"),
        ("{serviceAccountName: b/c, serviceAccount: a}", "spec.serviceAccountName"),
    ],
)
def test_of_two_names_of_the_account_the_one_that_counts_is_held_to_the_rules(spec: str, path: str) -> None:
    found = checked(f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {spec}\n").diagnostics
    assert [fault.path for fault in found] == ([path] if path else [])
