"""Mesh configurations, wherever they stand: what is read of them, and what is a fault."""

from __future__ import annotations

from datetime import timedelta

import pytest

from peerauth.model.mesh import MeshConfig, Operator, OutboundTraffic, Redirection, Requirement, TlsVersion
from peerauth.model.schema.faults import INVALID_NAME
from peerauth.model.schema.meshconfig import go_duration
from samples.documents import checked, indented, only


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        ("{trustDomain: td}", OutboundTraffic.ALLOW_ANY),
        ("{outboundTrafficPolicy: {mode: ALLOW_ANY}}", OutboundTraffic.ALLOW_ANY),
        ("{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}", OutboundTraffic.REGISTRY_ONLY),
        ("{outboundTrafficPolicy: {}}", OutboundTraffic.REGISTRY_ONLY),
    ],
)
def test_the_mesh_configuration_says_what_becomes_of_connections_to_unknown_addresses(
    said: str, mode: OutboundTraffic
) -> None:
    found = only(f"{said}\n")
    assert isinstance(found, MeshConfig)
    assert found.outbound_traffic is mode


def test_an_unknown_mode_of_the_outbound_traffic_policy_is_a_fault() -> None:
    (fault,) = checked("{outboundTrafficPolicy: {mode: ALLOW_ALL}}\n").diagnostics
    assert (fault.code, fault.path, fault.hint) == ("PA0009", "outboundTrafficPolicy.mode", "did you mean ALLOW_ANY?")


MESH = """\
trustDomain: example.com
trustDomainAliases: [old.example.com]
rootNamespace: root
enableAutoMtls: no
protocolDetectionTimeout: 1m0.5s
meshMTLS: {minProtocolVersion: TLSV1_3, cipherSuites: [AES128-GCM-SHA256]}
accessLogFile: /dev/stdout
"""


@pytest.mark.parametrize(
    "text",
    [MESH, f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio}}\ndata:\n  mesh: |-\n    {indented(MESH, 4)}"],
)
def test_the_mesh_configuration_alone_and_in_its_config_map(text: str) -> None:
    found = only(text)
    assert isinstance(found, MeshConfig)
    assert found == MeshConfig(
        root_namespace="root",
        trust_domain="example.com",
        trust_domain_aliases=("old.example.com",),
        enable_auto_mtls=False,
        min_tls_version=TlsVersion.TLSV1_3,
        cipher_suites=("AES128-GCM-SHA256",),
        protocol_detection_timeout=timedelta(seconds=60.5),
        origin=found.origin,
    )


@pytest.mark.parametrize(
    ("name", "revision"), [("istio", "default"), ("istio-canary", "canary"), ("istio-1-20", "1-20")]
)
def test_the_name_of_the_config_map_says_whose_configuration_it_is(name: str, revision: str) -> None:
    found = only(
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  mesh: |\n    trustDomain: td\n"
    )
    assert isinstance(found, MeshConfig)
    assert (found.revision, found.trust_domain) == (revision, "td")


def test_discovery_selectors_are_read_with_their_expressions() -> None:
    found = only(
        "discoverySelectors:\n- matchLabels: {env: prod, team: red}\n- matchExpressions:\n"
        "  - {key: env, operator: NotIn, values: [dev]}\n  - {key: team, operator: Exists}\n- {}\n"
    )
    assert isinstance(found, MeshConfig)
    assert found.discovery_selectors == (
        (Requirement("env", Operator.IN, ("prod",)), Requirement("team", Operator.IN, ("red",))),
        (Requirement("env", Operator.NOT_IN, ("dev",)), Requirement("team", Operator.EXISTS)),
        (),
    )


@pytest.mark.parametrize(
    ("expression", "place"),
    [
        ("{key: env, operator: in, values: [a]}", ".operator"),
        ("{key: env, operator: In}", ""),
        ("{key: env, operator: Exists, values: [a]}", ".values"),
        ("{operator: Exists}", ""),
        ("{key: env}", ""),
    ],
)
def test_a_selector_that_kubernetes_refuses_is_a_fault(expression: str, place: str) -> None:
    found = checked(f"discoverySelectors:\n- matchExpressions:\n  - {expression}\n").diagnostics
    assert [fault.path for fault in found] == [f"discoverySelectors[0].matchExpressions[0]{place}"]


OPERATOR = """\
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {namespace: ignored}
spec:
  revision: canary
  meshConfig:
    trustDomain: of-spec
    meshMTLS: {minProtocolVersion: TLSV1_3}
  values:
    revision: of-values
    global: {istioNamespace: istio-canary, trustDomain: not-read}
    meshConfig:
      trustDomain: of-values
      enableAutoMtls: false
      meshMTLS: {cipherSuites: [AES128-GCM-SHA256]}
"""


def test_an_istio_operator_is_read_as_istios_installer_reads_it() -> None:
    found = only(OPERATOR)
    assert isinstance(found, MeshConfig)
    assert found == MeshConfig(
        root_namespace="istio-canary",
        trust_domain="of-spec",
        enable_auto_mtls=False,
        min_tls_version=TlsVersion.TLSV1_3,
        cipher_suites=("AES128-GCM-SHA256",),
        revision="canary",
        origin=found.origin,
    )


@pytest.mark.parametrize(
    ("spec", "revision"),
    [
        ("{}", "default"),
        ("{revision: ''}", "default"),
        ("{values: {revision: canary}}", "canary"),
        ("{profile: minimal}", "default"),
        ("{profile: empty}", ""),
        ("{profile: empty, components: {pilot: {enabled: true}}}", "default"),
        ("{components: {pilot: {enabled: false}}}", ""),
    ],
)
def test_an_istio_operator_that_installs_no_istiod_configures_no_mesh(spec: str, revision: str) -> None:
    found = checked(f"apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {spec}\n")
    assert found.diagnostics == ()
    assert [one.revision for one in found.objects if isinstance(one, MeshConfig)] == ([revision] if revision else [])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{}", Redirection()),
        ("{meshConfig: {defaultConfig: {interceptionMode: NONE}}}", Redirection(intercepts=False)),
        ("{meshConfig: {defaultConfig: {interceptionMode: TPROXY}}}", Redirection()),
        (
            "{values: {global: {proxy: {excludeInboundPorts: 9090, includeInboundPorts: ''}}}}",
            Redirection(included="", excluded="9090"),
        ),
        (
            "{values: {global: {proxy: {excludeInboundPorts: '1,2'}}, "
            "meshConfig: {defaultConfig: {interceptionMode: NONE}}}}",
            Redirection(intercepts=False, excluded="1,2"),
        ),
    ],
)
def test_an_istio_operator_says_what_sidecars_get_of_connections(spec: str, expected: Redirection) -> None:
    found = only(f"apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {spec}\n")
    assert isinstance(found, MeshConfig)
    assert found.redirection == expected


def test_a_fault_in_an_istio_operators_mesh_configuration_has_its_place() -> None:
    found = checked(OPERATOR.replace("of-values\n      enable", "A/B\n      enable")).diagnostics
    assert [fault.path for fault in found] == ["spec.values.meshConfig.trustDomain"]


def test_a_fault_inside_the_config_map_has_its_own_line() -> None:
    head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\ndata:\n  mesh: |\n"
    wrong = checked(head + "    rootNamespace: x\n    trustDomain: a/b\n")
    assert [(found.code, str(found.origin)) for found in wrong.diagnostics] == [(INVALID_NAME.code, "f:7:18")]
    broken = checked(head + "    a: [\n")
    assert [str(found.origin) for found in broken.diagnostics] == ["f:6:9"]
    assert wrong.objects == broken.objects == ()


@pytest.mark.parametrize(
    ("said", "place", "hint"),
    [
        ("trustDomainAliases: [good.example.com, 'a/ns/b']", "trustDomainAliases[1]", "lower-case"),
        ("trustDomainAliases: ['']", "trustDomainAliases[0]", "lower-case"),
        ("meshMTLS: {cipherSuites: [AES128-GCM-SHA257]}", "meshMTLS.cipherSuites[0]", "AES128-GCM-SHA256"),
    ],
)
def test_a_mesh_configuration_that_proxies_would_refuse_or_misread_is_refused(said: str, place: str, hint: str) -> None:
    found = checked(f"rootNamespace: istio-system\n{said}\n").diagnostics
    assert [fault.path for fault in found] == [place]
    assert hint in found[0].hint


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5), ("100ms", 0.1), ("1h2m3s", 3723), ("0", 0), ("1.5s", 1.5), (".5s", 0.5)]
)
def test_a_duration_is_read_as_go_writes_it(text: str, seconds: float) -> None:
    assert go_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-1s", "1d", "5s5", "9" * 30 + "h"])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert go_duration(text) is None
