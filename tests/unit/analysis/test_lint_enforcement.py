"""Findings about what is written and not enforced, and about callers that STRICT refuses."""

from __future__ import annotations

import pytest

from samples.manifests import (
    IN_AMBIENT_MODE,
    destination_rule,
    found,
    found_of,
    namespace,
    pod,
    policy,
    service,
)

STRICT = policy("foo/default", "STRICT")
EXCLUDE = "traffic.sidecar.istio.io/excludeInboundPorts"
INCLUDE = "traffic.sidecar.istio.io/includeInboundPorts"
LIVENESS = "      livenessProbe:\n        httpGet:\n          port: 8080\n"
NOT_REWRITTEN = {"sidecar.istio.io/rewriteAppHTTPProbers": "false"}
SCRAPED = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}
WEBHOOK = """apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata:
  name: hook
webhooks:
  - name: hook.example.com
    clientConfig:
      service:
        namespace: foo
        name: finance
        port: 443
"""


def test_disable_in_ambient_is_said_to_be_permissive() -> None:
    findings = found(namespace(labels=IN_AMBIENT_MODE), pod(), policy("foo/default", "DISABLE"))
    assert [finding.code for finding in findings] == ["PA0301"]
    assert "enforced as PERMISSIVE" in findings[0].message


def test_disable_for_a_port_in_ambient_is_reported_at_the_entry() -> None:
    entry = policy("foo/p", "PERMISSIVE", app="finance", ports={8080: "DISABLE"})
    (finding,) = found(namespace(labels=IN_AMBIENT_MODE), pod(), entry)
    assert (finding.code, finding.path) == ("PA0301", "spec.portLevelMtls.8080.mode")


def test_disable_in_sidecar_mode_is_honoured() -> None:
    assert found(namespace(), pod(), policy("foo/default", "DISABLE")) == []


@pytest.mark.parametrize("spec", ["", "  hostNetwork: true\n"])
def test_a_policy_on_a_workload_outside_the_mesh_is_not_enforced(spec: str) -> None:
    labels: dict[str, str] | None = None if spec else {}
    (finding,) = found(namespace(labels=labels), pod(spec=spec), policy("foo/p", "STRICT", app="finance"))
    assert finding.code == "PA0302"
    assert ("host's network" if spec else "neither it nor its namespace") in finding.evidence[0].text


def test_a_namespace_policy_does_not_speak_of_each_workload_outside() -> None:
    assert found(namespace(labels={}), pod(), STRICT) == []


def test_without_its_namespace_a_workload_is_unknown_rather_than_outside() -> None:
    assert [one.code for one in found(pod(), policy("foo/p", "STRICT", app="finance"))] == ["PA0304"]


def test_a_workload_with_a_label_of_its_own_needs_no_namespace() -> None:
    assert found(pod(labels={"sidecar.istio.io/inject": "true"}), STRICT) == []


@pytest.mark.parametrize(
    ("annotation", "ports", "reported"),
    [
        (EXCLUDE, "9090,8080", True),
        (EXCLUDE, "9090", False),
        (INCLUDE, "9090", True),
        (INCLUDE, "", True),
        (INCLUDE, "*", False),
        (INCLUDE, "8080", False),
    ],
)
def test_a_port_kept_away_from_the_sidecar_is_not_protected(annotation: str, ports: str, reported: bool) -> None:
    codes = [finding.code for finding in found(namespace(), pod(annotations={annotation: ports}), STRICT)]
    assert codes == (["PA0303"] if reported else [])


@pytest.mark.parametrize("ports", [{8080: ""}, {}], ids=["declared", "undeclared"])
@pytest.mark.parametrize("annotation", [{EXCLUDE: "8080"}, {INCLUDE: "9090"}], ids=["excluded", "not included"])
@pytest.mark.parametrize("wide", ["PERMISSIVE", "DISABLE"])
def test_a_port_that_only_its_own_entry_makes_strict_is_reported_when_it_is_kept_away(
    wide: str, annotation: dict[str, str], ports: dict[int, str]
) -> None:
    entry = policy("foo/p", wide, app="finance", ports={8080: "STRICT"})
    (finding,) = found_of("PA0303", namespace(), pod(ports=ports, annotations=annotation), entry)
    assert "port 8080 of foo/finance is STRICT by foo/p" in finding.message


def test_a_port_that_its_own_entry_opens_is_not_reported_when_it_is_kept_away() -> None:
    entry = policy("foo/p", "STRICT", app="finance", ports={8080: "PERMISSIVE"})
    assert not found_of("PA0303", namespace(), pod(annotations={EXCLUDE: "8080"}), entry)


def test_ambient_knows_no_exclusion() -> None:
    assert found(namespace(labels=IN_AMBIENT_MODE), pod(annotations={EXCLUDE: "8080"}), STRICT) == []


@pytest.mark.parametrize(
    ("labels", "annotations"),
    [
        (None, {"sidecar.istio.io/interceptionMode": "NONE"}),
        (IN_AMBIENT_MODE, {"ambient.istio.io/bypass-inbound-capture": "true"}),
    ],
)
@pytest.mark.parametrize("ports", [{8080: ""}, {}])
def test_a_workload_that_is_not_captured_at_all_is_not_protected(
    labels: dict[str, str] | None, annotations: dict[str, str], ports: dict[int, str]
) -> None:
    (finding,) = found(namespace(labels=labels), pod(ports=ports, annotations=annotations), STRICT)
    assert finding.code == "PA0303"
    assert finding.path == f"metadata.annotations[{next(iter(annotations))}]"


def test_what_the_mesh_configuration_keeps_away_is_reported_with_its_setting() -> None:
    mesh = "rootNamespace: istio-system\ndefaultConfig:\n  interceptionMode: NONE\n"
    (finding,) = found(mesh, namespace(), pod(), STRICT)
    assert (finding.code, finding.path) == ("PA0303", "")
    assert "the mesh configuration's defaultConfig.interceptionMode" in finding.message


def test_the_ports_of_the_agent_are_reported_only_where_an_entry_counts_on_them() -> None:
    scraped = (namespace(), pod(), service(port=15020, target=15020), STRICT)
    assert found(*scraped) == []
    entry = policy("foo/p", "STRICT", app="finance", ports={15020: "STRICT"})
    assert [one.code for one in found_of("PA0303", *scraped, entry)] == ["PA0303"]


def test_a_probe_that_is_not_rewritten_is_refused_by_strict() -> None:
    (finding,) = found(namespace(), pod(annotations=NOT_REWRITTEN, container=LIVENESS), STRICT)
    assert finding.code == "PA0401"


@pytest.mark.parametrize(
    ("labels", "annotations", "mode"),
    [
        (None, {}, "STRICT"),
        (None, NOT_REWRITTEN, "PERMISSIVE"),
        (IN_AMBIENT_MODE, NOT_REWRITTEN, "STRICT"),
        (None, NOT_REWRITTEN | {EXCLUDE: "8080"}, "PERMISSIVE"),
    ],
)
def test_a_probe_that_gets_through_is_not_reported(
    labels: dict[str, str] | None, annotations: dict[str, str], mode: str
) -> None:
    probed = pod(annotations=annotations, container=LIVENESS)
    assert found(namespace(labels=labels), probed, policy("foo/default", mode)) == []


def test_the_api_server_is_refused_by_a_strict_webhook_and_the_exception_is_exact() -> None:
    (finding,) = found(namespace(), pod(), service(port=443), WEBHOOK, STRICT)
    assert finding.code == "PA0402"
    assert finding.hint.endswith("portLevelMtls: {8080: {mode: PERMISSIVE}}")


def test_a_webhook_with_its_exception_is_fine() -> None:
    exception = policy("foo/p", app="finance", ports={8080: "PERMISSIVE"})
    assert not found_of("PA0402", namespace(), pod(), service(port=443), WEBHOOK, STRICT, exception)


@pytest.mark.parametrize(
    ("labels", "annotations", "reported"),
    [
        (IN_AMBIENT_MODE, SCRAPED, True),
        (IN_AMBIENT_MODE, SCRAPED | {"prometheus.io/scrape": "false"}, False),
        (None, SCRAPED, False),
        (None, SCRAPED | {"prometheus.istio.io/merge-metrics": "false"}, True),
    ],
)
def test_a_scrape_port_is_reported_where_nothing_saves_the_scraper(
    labels: dict[str, str] | None, annotations: dict[str, str], reported: bool
) -> None:
    codes = [finding.code for finding in found(namespace(labels=labels), pod(annotations=annotations), STRICT)]
    assert codes == (["PA0403"] if reported else [])


@pytest.mark.parametrize(
    ("tls", "mode", "reported"),
    [
        ("DISABLE", "STRICT", True),
        ("SIMPLE", "STRICT", True),
        ("ISTIO_MUTUAL", "DISABLE", True),
        ("ISTIO_MUTUAL", "STRICT", False),
        ("MUTUAL", "STRICT", False),
        ("DISABLE", "PERMISSIVE", False),
        ("DISABLE", "DISABLE", False),
    ],
)
def test_a_destination_rule_contradicts_only_what_refuses_it(tls: str, mode: str, reported: bool) -> None:
    rule = destination_rule("finance", tls)
    codes = [one.code for one in found(namespace(), pod(), service(), rule, policy("foo/default", mode))]
    assert codes == (["PA0404"] if reported else [])


@pytest.mark.parametrize("host", ["finance", "finance.foo", "finance.foo.svc.cluster.local", "finance.foo.svc"])
def test_a_rules_host_is_found_by_every_way_to_write_it(host: str) -> None:
    assert found_of("PA0404", namespace(), pod(), service(), destination_rule(host, "DISABLE"), STRICT)


@pytest.mark.parametrize("host", ["*.foo.svc.cluster.local", "finance.example.com", "finance.bar.svc.cluster.local"])
def test_hosts_that_name_no_known_service_are_passed_over(host: str) -> None:
    assert found(namespace(), pod(), service(), destination_rule(host, "DISABLE"), STRICT) == []


def test_a_rules_setting_for_a_port_goes_before_the_one_for_all() -> None:
    rule = destination_rule("finance", "DISABLE", port_tls={80: "ISTIO_MUTUAL"})
    assert found(namespace(), pod(), service(), rule, STRICT) == []


def test_ambient_clients_do_not_heed_destination_rules() -> None:
    mesh = (namespace(labels=IN_AMBIENT_MODE), pod(), service(), destination_rule("finance", "DISABLE"), STRICT)
    assert found(*mesh) == []


def test_pods_that_run_without_the_sidecar_that_their_labels_ask_for_are_one_finding_for_each_namespace() -> None:
    (finding,) = found(namespace(), pod("foo/a", live=True), pod("foo/b", live=True), pod("foo/c"), STRICT)
    assert finding.code == "PA0306"
    assert "foo/a, foo/b is outside the mesh" in finding.message
    assert "restart" in finding.hint


SIDECAR = "    - name: istio-proxy\n      args: [proxy, sidecar]\n"


def test_a_sidecar_that_the_labels_no_longer_ask_for_is_a_finding() -> None:
    (finding,) = found(namespace(labels={}), pod(container=SIDECAR, live=True), STRICT)
    assert finding.code == "PA0306"
    assert "would be outside the mesh" in finding.message


def test_a_pod_that_the_node_does_not_capture_is_not_told_to_restart() -> None:
    (finding,) = found(namespace(labels=IN_AMBIENT_MODE), pod(live=True), STRICT)
    assert (finding.code, "istio-cni" in finding.hint) == ("PA0306", True)


def test_a_pod_that_has_what_its_labels_ask_for_is_fine() -> None:
    assert found(namespace(), pod(container=SIDECAR, live=True), STRICT) == []
    redirected = pod(annotations={"ambient.istio.io/redirection": "enabled"}, live=True)
    assert found(namespace(labels=IN_AMBIENT_MODE), redirected, STRICT) == []


ROUTER = SIDECAR.replace("sidecar", "router")


def test_a_policy_that_selects_a_gateway_is_told_so_and_not_that_the_gateway_is_outside() -> None:
    (finding,) = found(namespace(), pod(container=ROUTER), policy("foo/p", "STRICT", app="finance"))
    assert (finding.code, finding.severity) == ("PA0307", "info")
