"""Who is in the mesh, and by which word."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.model.inventory import Admission, Namespace, ProxyRole, Workload
from peerauth.model.meta import Meta
from peerauth.policy.decision import Dataplane
from peerauth.policy.membership import Membership, hangs_on_namespace, membership_of, traits_of
from samples.meshes import meta, namespace, namespaces, pairs, workloads

INJECT = "sidecar.istio.io/inject"
MODE = "istio.io/dataplane-mode"
ENABLED = namespace("foo", {"istio-injection": "enabled"})
DISABLED = namespace("foo", {"istio-injection": "disabled"})
AMBIENT = namespace("foo", {MODE: "ambient"})
REVISION = namespace("foo", {"istio.io/rev": "stable"})
ODD = namespace("foo", {"istio-injection": "enable", "istio.io/rev": "stable"})
BOTH = namespace("foo", {"istio-injection": "enabled", MODE: "ambient"})


def dataplane_of(workload: Workload, namespace: Namespace | None) -> Membership:
    labels = namespace.meta.labels if namespace else None
    traits = traits_of(workload)
    return membership_of(workload.meta.labels, traits, namespace=workload.meta.namespace, namespace_labels=labels)


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
        ({}, ODD, "none", "istio-injection is enable"),
        ({INJECT: "true"}, ODD, "none", "istio-injection is enable"),
        ({"istio.io/rev": "canary"}, ODD, "none", "istio-injection is enable"),
        ({MODE: "ambient"}, ODD, "ambient", f"its label {MODE}"),
        ({INJECT: "true"}, namespace("foo", {"istio-injection": ""}), "none", "istio-injection is empty"),
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


@pytest.mark.parametrize("name", ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"])
@pytest.mark.parametrize("labels", [{}, {INJECT: "true"}, {"istio.io/rev": "stable"}])
def test_system_namespaces_are_never_injected(name: str, labels: dict[str, str]) -> None:
    member = dataplane_of(Workload(meta(f"{name}/w", labels)), namespace(name, {"istio-injection": "enabled"}))
    assert member.dataplane is Dataplane.NONE
    assert name in member.why


@pytest.mark.parametrize(("name", "expected"), [("kube-system", "none"), ("kube-public", "ambient")])
def test_kube_system_is_not_ambient(name: str, expected: str) -> None:
    for labels in ({}, {MODE: "ambient"}):
        one = Workload(meta(f"{name}/w", labels))
        assert dataplane_of(one, namespace(name, {MODE: "ambient"})).dataplane == expected


def live(
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    *,
    proxy: ProxyRole = ProxyRole.ABSENT,
    admission: Admission = Admission.PAST,
    host_network: bool = False,
) -> Workload:
    said = Meta("w", "foo", labels=pairs(labels), annotations=pairs(annotations))
    return Workload(said, admission=admission, proxy=proxy, host_network=host_network)


CARRIED = ProxyRole.SIDECAR
REDIRECTED = {"ambient.istio.io/redirection": "enabled"}
INJECTED = {"sidecar.istio.io/status": "{}"}


@pytest.mark.parametrize(
    ("pod", "space", "expected", "by_labels"),
    [
        (live(), ENABLED, "none", "sidecar"),
        (live({INJECT: "true"}), None, "none", "sidecar"),
        (live(proxy=CARRIED), ENABLED, "sidecar", None),
        (live(proxy=ProxyRole.UNSAID), ENABLED, "sidecar", None),
        (live({}, INJECTED), ENABLED, "sidecar", None),
        (live(proxy=CARRIED), namespace("foo"), "sidecar", "none"),
        (live({INJECT: "false"}, INJECTED), ENABLED, "sidecar", "none"),
        (live(), AMBIENT, "none", "ambient"),
        (live({}, REDIRECTED), AMBIENT, "ambient", None),
        (live({}, REDIRECTED), namespace("foo"), "ambient", "none"),
        (live({}, REDIRECTED, proxy=CARRIED), AMBIENT, "sidecar", "ambient"),
        (live({}, {"ambient.istio.io/redirection": "pending"}), AMBIENT, "none", "ambient"),
        (live(), namespace("foo"), "none", None),
        (live(host_network=True), ENABLED, "none", None),
    ],
)
def test_a_live_pod_has_what_it_carries_and_its_labels_only_say_what_would_be(
    pod: Workload, space: Namespace | None, expected: str, by_labels: str | None
) -> None:
    member = dataplane_of(pod, space)
    assert (member.dataplane, member.by_labels) == (expected, by_labels)
    assert bool(member.why_by_labels) == (by_labels is not None)


@pytest.mark.parametrize(
    ("pod", "space", "why"),
    [
        (live(proxy=CARRIED), ENABLED, "it carries the container istio-proxy, and its namespace's label"),
        (live({}, INJECTED), None, "it carries the annotation sidecar.istio.io/status"),
        (live({}, REDIRECTED), AMBIENT, "its annotation ambient.istio.io/redirection is enabled, and its namespace's"),
        (live(), ENABLED, "it carries no istio-proxy"),
        (live(), AMBIENT, "its annotation ambient.istio.io/redirection is not enabled"),
        (live({MODE: "none"}), AMBIENT, f"its label {MODE} is none"),
    ],
)
def test_the_proof_is_said_first_and_the_label_with_it_where_both_agree(
    pod: Workload, space: Namespace | None, why: str
) -> None:
    said = dataplane_of(pod, space).why
    assert said.startswith(why)


def test_labels_of_a_namespace_that_nobody_described_are_not_held_against_a_live_pod() -> None:
    for pod in (live(), live(proxy=CARRIED), live({}, REDIRECTED)):
        assert dataplane_of(pod, None).by_labels is None
        assert not hangs_on_namespace(pod)


def test_a_pod_whose_network_is_not_set_up_yet_will_be_captured_but_is_not_injected_any_more() -> None:
    starting = live(admission=Admission.STARTING)
    assert dataplane_of(starting, AMBIENT).dataplane is Dataplane.AMBIENT
    assert dataplane_of(starting, ENABLED) == Membership(
        Dataplane.NONE,
        dataplane_of(live(), ENABLED).why,
        Dataplane.SIDECAR,
        "its namespace's label istio-injection is enabled",
    )


TEMPLATE = {"inject.istio.io/templates": "spire, gateway"}
NAMED = {"gateway.networking.k8s.io/gateway-name": "public"}


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (live(proxy=ProxyRole.ROUTER), "gateway"),
        (live(proxy=ProxyRole.WAYPOINT), "gateway"),
        (live(proxy=ProxyRole.ROUTER, host_network=True), "gateway"),
        (live({INJECT: "false"}, proxy=ProxyRole.ROUTER, admission=Admission.AHEAD), "gateway"),
        (live({INJECT: "true"}, TEMPLATE, admission=Admission.AHEAD), "gateway"),
        (live({INJECT: "true"}, TEMPLATE, proxy=ProxyRole.UNSAID, admission=Admission.AHEAD), "gateway"),
        (live({INJECT: "false"}, TEMPLATE, admission=Admission.AHEAD), "none"),
        (live({}, TEMPLATE | INJECTED), "gateway"),
        (live({}, TEMPLATE), "none"),
        (live(NAMED, admission=Admission.AHEAD), "gateway"),
        (live({}, NAMED, admission=Admission.AHEAD), "gateway"),
        (live({"gateway.istio.io/managed": "istio.io-mesh-controller"}, admission=Admission.AHEAD), "gateway"),
        (live({"istio": "ingressgateway"}, proxy=CARRIED), "sidecar"),
        (live({"istio": "ingressgateway", INJECT: "true"}, admission=Admission.AHEAD), "sidecar"),
    ],
)
def test_a_gateway_is_told_by_how_its_proxy_runs_or_by_what_will_make_it_run_so(one: Workload, expected: str) -> None:
    assert dataplane_of(one, namespace("foo")).dataplane == expected


def test_the_gateway_of_another_project_is_a_workload_like_others() -> None:
    """Its label is the same, but a live pod shows that Istio's proxy is not in it, or only as a sidecar."""
    assert dataplane_of(live(NAMED), namespace("foo")).dataplane is Dataplane.NONE
    assert dataplane_of(live(NAMED, REDIRECTED), AMBIENT).dataplane is Dataplane.AMBIENT
    assert dataplane_of(live(NAMED, proxy=CARRIED), ENABLED).dataplane is Dataplane.SIDECAR


TLS = "security.istio.io/tlsMode"


@pytest.mark.parametrize("kind", ["WorkloadEntry", "WorkloadGroup", "ServiceEntry"])
@pytest.mark.parametrize(
    ("labels", "account", "expected", "by"),
    [
        ({}, False, "none", "neither a service account"),
        ({}, True, "sidecar", "a machine with a service account"),
        ({TLS: "istio"}, False, "sidecar", f"its label {TLS} is istio"),
        ({TLS: "disabled"}, True, "none", f"its label {TLS} is disabled"),
        ({TLS: ""}, True, "none", f"its label {TLS} is "),
        ({INJECT: "true"}, False, "none", "neither a service account"),
        ({INJECT: "false"}, True, "sidecar", "a machine with a service account"),
        ({MODE: "ambient"}, False, "none", "neither a service account"),
    ],
)
def test_a_machine_has_a_proxy_if_it_says_so_or_has_a_service_account_and_is_never_ambient(
    kind: str, labels: dict[str, str], account: bool, expected: str, by: str
) -> None:
    machine = Workload(meta("foo/w", labels), kind=kind, account_given=account)
    for space in (None, ENABLED, DISABLED, AMBIENT):
        member = dataplane_of(machine, space)
        assert (member.dataplane, by in member.why) == (expected, True)
    assert not hangs_on_namespace(machine)


def test_what_a_service_entry_calls_external_is_outside_the_mesh() -> None:
    machine = Workload(meta("foo/w", {TLS: "istio"}), kind="ServiceEntry", account_given=True, external=True)
    assert dataplane_of(machine, None).dataplane is Dataplane.NONE


@given(workloads(), st.one_of(st.none(), namespaces()))
def test_of_a_pod_that_runs_nothing_but_what_it_carries_decides(pod: Workload, space: Namespace | None) -> None:
    pod = msgspec.structs.replace(pod, admission=Admission.PAST, kind="Pod", host_network=False)
    annotations = dict(pod.meta.annotations)
    carries = pod.proxy is not ProxyRole.ABSENT or "sidecar.istio.io/status" in annotations
    captured = annotations.get("ambient.istio.io/redirection") == "enabled"
    found = dataplane_of(pod, space).dataplane
    assert (found in {Dataplane.SIDECAR, Dataplane.GATEWAY}) == carries
    assert (found is Dataplane.AMBIENT) == (captured and not carries)


@given(workloads(), st.one_of(st.none(), namespaces()))
def test_both_are_said_exactly_where_proof_and_labels_are_known_and_differ(
    pod: Workload, space: Namespace | None
) -> None:
    found = dataplane_of(pod, space)
    described = dataplane_of(msgspec.structs.replace(pod, admission=Admission.AHEAD), space)
    if pod.admission is Admission.AHEAD or found.by_labels is None:
        assert found.why_by_labels == ""
    else:
        assert found.by_labels is not found.dataplane
        # A label that names a gateway counts for a description, and in a live pod only with Istio's proxy.
        assert described.dataplane in {found.by_labels, Dataplane.GATEWAY}
