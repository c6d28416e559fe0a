"""Which kinds are read, which are passed over, which are no kinds; lists, and faults at their places."""

from __future__ import annotations

import pytest

from peerauth.model.inventory import PassedOver, PassedOverBecause
from peerauth.model.schema import Checked
from peerauth.model.schema.faults import INVALID_NAME, INVALID_VALUE, NOT_A_RESOURCE, WRONG_TYPE
from peerauth.model.schema.passed_over import ISTIO_KINDS
from samples.documents import checked


def test_other_config_maps_are_passed_over() -> None:
    assert checked("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {mesh: '['}\n").passed_over == (
        "ConfigMap",
    )


def test_a_list_is_what_its_items_are() -> None:
    result = checked(
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n"
        "- {apiVersion: v1, kind: Namespace, metadata: {name: A}}\n- {apiVersion: x/v1, kind: Foo}\n- 1\n"
        "- {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n"
    )
    assert len(result.objects) == 2
    assert [(found.code, found.path, found.origin.line) for found in result.diagnostics] == [
        (INVALID_NAME.code, "items[1].metadata.name", 5),
        (NOT_A_RESOURCE.code, "items[3]", 7),
    ]
    assert result.passed_over == ("Foo",)


def test_the_items_of_a_typed_list_need_no_kind() -> None:
    assert len(checked("apiVersion: v1\nkind: NamespaceList\nitems:\n- metadata: {name: a}\n").objects) == 1


def test_another_projects_service_is_not_kubernetes() -> None:
    result = checked("apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: [1]}\n")
    assert (result.objects, result.diagnostics, result.passed_over) == ((), (), ("Service",))


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("kind: Pod\nspec:\n  containers: {}\n", WRONG_TYPE.code, "f:5:3"),
        ("kind: Pod\nspec:\n  containers:\n  - ports:\n    - containerPort: http\n", WRONG_TYPE.code, "f:7:22"),
        ("kind: Pod\nspec:\n  serviceAccountName: a/b\n", INVALID_NAME.code, "f:5:23"),
        ("kind: Pod\nstatus:\n  podIP: nowhere\n", INVALID_VALUE.code, "f:5:10"),
        ("kind: Service\nspec:\n  selector:\n    v: 1\n", WRONG_TYPE.code, "f:6:8"),
    ],
)
def test_a_wrong_type_is_a_fault_at_its_place(text: str, code: str, place: str) -> None:
    result = checked("apiVersion: v1\nmetadata: {name: a}\n" + text)
    assert [(found.code, str(found.origin)) for found in result.diagnostics] == [(code, place)]
    assert result.objects == ()


RUNS = [
    ("argoproj.io/v1alpha1", "Rollout", "spec: {workloadRef: {kind: Deployment, name: x}}"),
    ("batch.volcano.sh/v1alpha1", "Job", "spec: {tasks: [{template: {spec: {containers: [{image: a}]}}}]}"),
    ("serving.knative.dev/v1", "Revision", "spec: {containers: [{name: a, image: b}]}"),
    ("jobset.x-k8s.io/v1alpha2", "JobSet", "spec: {replicatedJobs: [{template: {x: [{containers: [{image: a}]}]}}]}"),
    ("template.openshift.io/v1", "Template", "objects: [{spec: {template: {spec: {containers: [{image: a}]}}}}]"),
]


@pytest.mark.parametrize(("api_version", "kind", "rest"), RUNS)
def test_what_runs_containers_and_is_not_understood_is_remembered(api_version: str, kind: str, rest: str) -> None:
    found = checked(f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a, namespace: ns}}\n{rest}\n")
    (noted,) = found.objects
    assert isinstance(noted, PassedOver)
    assert (noted.because, noted.subject) == (PassedOverBecause.NOT_UNDERSTOOD, f"{kind} ns/a")
    assert (noted.group, str(noted.meta.origin)) == (api_version.partition("/")[0], "f:1:1")
    assert found.passed_over == ()


@pytest.mark.parametrize(
    ("api_version", "kind", "rest"),
    [
        ("x/v1", "Foo", "spec: {containers: [a], other: {containers: {image: b}}}"),
        ("x/v1", "Foo", "status: {containers: [{image: a}]}\nmetadata: {annotations: {containers: a}}"),
        ("kyverno.io/v1", "ClusterPolicy", "spec: {rules: [{pattern: {spec: {containers: [{image: '*'}]}}}]}"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "spec: {example: {containers: [{image: a}]}}"),
        ("apps/v1", "ControllerRevision", "data: {spec: {template: {spec: {containers: [{image: a}]}}}}"),
        ("v1", "PodTemplate", "template: {spec: {containers: [{image: a}]}}"),
        ("networking.istio.io/v1", "VirtualService", "spec: {}"),
        ("rbac.istio.io/v1alpha1", "ServiceRole", "spec: {}"),
        ("config.istio.io/v1alpha2", "handler", "spec: {}"),
    ],
)
def test_what_runs_nothing_is_only_counted(api_version: str, kind: str, rest: str) -> None:
    found = checked(f"apiVersion: {api_version}\nkind: {kind}\n{rest}\n")
    assert (found.objects, found.diagnostics, found.passed_over) == ((), (), (kind,))


@pytest.mark.parametrize(
    ("api_version", "kind", "nearest"),
    [
        ("security.istio.io/v1", "PeerAuthentification", "PeerAuthentication"),
        ("security.istio.io/v1", "peerauthentication", "PeerAuthentication"),
        ("security.istio.io/v1", "AuthorisationPolicy", "AuthorizationPolicy"),
        ("networking.istio.io/v1", "DestinationRules", "DestinationRule"),
        ("telemetry.istio.io/v1", "Telemetries", "Telemetry"),
    ],
)
def test_a_kind_that_istio_does_not_have_is_a_fault_with_the_nearest(api_version: str, kind: str, nearest: str) -> None:
    found = checked(f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n")
    (fault,) = found.diagnostics
    assert (fault.code, str(fault.origin), found.objects) == (INVALID_VALUE.code, "f:2:7", ())
    assert nearest in fault.hint


def test_kinds_of_istio_that_say_nothing_about_mutual_tls_are_passed_over() -> None:
    for group, kinds in ISTIO_KINDS.items():
        for kind in kinds - {"PeerAuthentication", "DestinationRule"}:
            found = checked(f"apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: a}}\n")
            assert not found.diagnostics, kind


def test_an_empty_list_is_no_object_of_its_own() -> None:
    for kind in ("List", "PeerAuthenticationList"):
        for items in ("[]", "null"):
            found = checked(f"apiVersion: security.istio.io/v1\nkind: {kind}\nitems: {items}\n")
            assert found == Checked()
