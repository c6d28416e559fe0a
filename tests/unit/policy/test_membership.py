"""Who is in the mesh, and by which word."""

from __future__ import annotations

import pytest

from meshes import meta, namespace, pairs
from peerauth.model.inventory import Namespace, Workload
from peerauth.model.meta import Meta
from peerauth.policy.decision import Dataplane
from peerauth.policy.membership import dataplane_of

INJECT = "sidecar.istio.io/inject"
MODE = "istio.io/dataplane-mode"
ENABLED = namespace("foo", {"istio-injection": "enabled"})
DISABLED = namespace("foo", {"istio-injection": "disabled"})
AMBIENT = namespace("foo", {MODE: "ambient"})
REVISION = namespace("foo", {"istio.io/rev": "stable"})
BOTH = namespace("foo", {"istio-injection": "enabled", MODE: "ambient"})


@pytest.mark.parametrize(
    ("labels", "space", "expected", "by"),
    [
        ({}, None, "none", "neither"),
        ({}, namespace("foo"), "none", "neither"),
        ({}, ENABLED, "sidecar", "namespace's label istio-injection"),
        ({}, REVISION, "sidecar", "namespace's label istio.io/rev is stable"),
        ({"istio.io/rev": "canary"}, None, "sidecar", "its label istio.io/rev is canary"),
        ({INJECT: "true"}, None, "sidecar", f"its label {INJECT} is true"),
        ({INJECT: "false"}, ENABLED, "none", f"its label {INJECT} is false"),
        ({INJECT: "false"}, REVISION, "none", f"its label {INJECT} is false"),
        ({INJECT: "true"}, DISABLED, "none", "namespace's label istio-injection is disabled"),
        ({}, AMBIENT, "ambient", f"namespace's label {MODE}"),
        ({MODE: "ambient"}, None, "ambient", f"its label {MODE}"),
        ({MODE: "none"}, AMBIENT, "none", f"its label {MODE} is none"),
        ({MODE: "ambient"}, DISABLED, "ambient", f"its label {MODE}"),
        ({}, BOTH, "sidecar", "istio-injection"),
        ({INJECT: "false"}, BOTH, "ambient", f"namespace's label {MODE}"),
        ({INJECT: "true"}, AMBIENT, "sidecar", INJECT),
        ({MODE: "none"}, ENABLED, "sidecar", "istio-injection"),
        ({MODE: "none", INJECT: "false"}, ENABLED, "none", MODE),
        ({INJECT: "Yes"}, ENABLED, "sidecar", "istio-injection"),
        ({INJECT: "Yes"}, None, "none", "neither"),
        ({INJECT: ""}, ENABLED, "sidecar", "istio-injection"),
    ],
)
def test_labels_say_the_data_plane(labels: dict[str, str], space: Namespace | None, expected: str, by: str) -> None:
    member = dataplane_of(Workload(meta("foo/w", labels)), space)
    assert member.dataplane == expected
    assert by in member.why


@pytest.mark.parametrize(
    ("labels", "annotated", "space", "expected"),
    [
        ({}, "true", None, "none"),
        ({}, "true", ENABLED, "sidecar"),
        ({}, "false", ENABLED, "none"),
        ({}, "", ENABLED, "sidecar"),
        ({INJECT: "true"}, "false", None, "sidecar"),
        ({INJECT: "false"}, "true", None, "none"),
    ],
)
def test_the_annotation_can_refuse_where_the_label_is_missing_but_not_ask(
    labels: dict[str, str], annotated: str, space: Namespace | None, expected: str
) -> None:
    one = Workload(Meta("w", "foo", labels=pairs(labels), annotations=pairs({INJECT: annotated})))
    assert dataplane_of(one, space).dataplane == expected


def test_who_asks_by_annotation_alone_is_told_that_it_is_not_heard() -> None:
    one = Workload(Meta("w", "foo", annotations=pairs({INJECT: "true"})))
    assert "annotation" in dataplane_of(one, None).why


@pytest.mark.parametrize("space", [ENABLED, AMBIENT, BOTH])
def test_a_pod_of_the_hosts_network_is_never_in_the_mesh(space: Namespace) -> None:
    member = dataplane_of(Workload(meta("foo/w", {INJECT: "true", MODE: "ambient"}), host_network=True), space)
    assert member.dataplane is Dataplane.NONE
    assert "host" in member.why
