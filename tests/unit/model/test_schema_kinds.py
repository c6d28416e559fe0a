"""The other kinds: what is read of them, what is passed over, and what is a fault."""

from __future__ import annotations

import ipaddress
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.model.changes import MeshObject, ObjectRef, ref_of
from peerauth.model.inventory import (
    Admission,
    ApiServerTarget,
    CaptureMode,
    DestinationRule,
    EgressListener,
    EndpointSlice,
    IngressListener,
    Node,
    PassedOver,
    PassedOverBecause,
    PortTls,
    Probe,
    ProxyRole,
    Service,
    ServiceCIDR,
    ServicePort,
    Sidecar,
    Workload,
    WorkloadKey,
)
from peerauth.model.mesh import Injector, MeshConfig, Operator, OutboundTraffic, Redirection, Requirement, TlsVersion
from peerauth.model.schema import Checked, FixedPlace, check
from peerauth.model.schema.faults import INVALID_NAME, INVALID_VALUE, NOT_A_RESOURCE, WRONG_TYPE
from peerauth.model.schema.meshconfig import go_duration
from peerauth.model.schema.passed_over import ISTIO_KINDS
from peerauth.sources.reader import DocumentReader
from peerauth.sources.text import Chunk


def checked(text: str) -> Checked:
    return DocumentReader().document(Chunk(text, 1, "f"))


def only(text: str) -> MeshObject:
    result = checked(text)
    assert not result.diagnostics, result.diagnostics
    (found,) = result.objects
    return found


POD_SPEC = """
serviceAccountName: acct
hostNetwork: true
nodeName: n1
initContainers:
- {name: setup, ports: [{containerPort: 1}]}
- {name: agent, restartPolicy: Always, ports: [{containerPort: 7000}]}
- name: istio-proxy
  restartPolicy: Always
  ports: [{containerPort: 15090}]
  readinessProbe: {httpGet: {port: 15021}}
containers:
- name: app
  unknownField: [1]
  ports:
  - {containerPort: 8080, name: http}
  - {containerPort: 53, protocol: UDP}
  - {containerPort: 8080, name: again}
  readinessProbe: {httpGet: {port: http, path: /}}
  livenessProbe: {tcpSocket: {port: 8080}}
  startupProbe: {grpc: {port: 9000}}
- name: side
  livenessProbe: {exec: {command: [x]}}
- name: istio-proxy
  ports: [{containerPort: 15090}]
  readinessProbe: {httpGet: {port: 15021}}
"""


def indented(text: str, by: int) -> str:
    return text.replace("\n", "\n" + " " * by)


def shape(found: MeshObject) -> tuple[object, ...]:
    assert isinstance(found, Workload)
    ports = [(port.number, port.name) for port in found.ports]
    probes = [(probe.kind, probe.protocol, probe.port) for probe in found.probes]
    return (found.kind, found.meta.name, found.meta.labels, found.service_account, ports, probes, found.host_network)


EXPECTED_REST = (
    frozenset({("app", "x")}),
    "acct",
    [(8080, "http"), (7000, "")],
    [("readiness", "http", "http"), ("liveness", "tcp", 8080), ("startup", "grpc", 9000)],
    True,
)


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


def test_a_service() -> None:
    found = only(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: ns}\nspec: {selector: {app: x}, "
        "clusterIP: None, ports: [{port: 80}, {port: 81, targetPort: http, name: a, "
        "appProtocol: http2}, {port: 53, protocol: UDP}]}\n"
    )
    assert isinstance(found, Service)
    assert (found.headless, found.cluster_ips) == (True, ())
    assert found.selector == {("app", "x")}
    origins = [port.origin for port in found.ports]
    assert found.ports == (
        ServicePort(80, 80, origin=origins[0]),
        ServicePort(81, "http", "a", "TCP", "http2", origins[1]),
        ServicePort(53, 53, protocol="UDP", origin=origins[2]),
    )


def test_a_service_that_stands_for_a_name_has_no_address() -> None:
    found = only(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"
        "spec: {type: ExternalName, externalName: db.example, clusterIP: 10.96.0.1}\n"
    )
    assert isinstance(found, Service)
    assert (found.external_name, found.cluster_ips, found.headless) == ("db.example", (), False)


def test_a_service_has_addresses_of_both_families_and_may_publish_what_is_not_ready() -> None:
    found = only(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"
        "spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd00::1'], publishNotReadyAddresses: true}\n"
    )
    assert isinstance(found, Service)
    assert (found.cluster_ips, found.publish_not_ready, found.external_name) == (("10.96.0.1", "fd00::1"), True, "")


def test_an_endpoint_slice() -> None:
    found = only(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
        "metadata: {name: e, namespace: ns, labels: {kubernetes.io/service-name: s}}\n"
        "ports: [{port: 8080, name: http}, {port: 53, protocol: UDP}, {name: any}, {port: 9090}]\n"
        "endpoints:\n- {addresses: [10.0.0.1], conditions: {ready: true}}\n- {addresses: [10.0.0.2]}\n"
        "- {addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: true}}\n"
        "- {addresses: [10.0.0.4], conditions: {ready: null}, targetRef: {kind: Pod, name: p}}\n"
        "- {addresses: [10.0.0.5], targetRef: {kind: Pod, name: p, namespace: other}}\n"
        "- {addresses: [10.0.0.6], targetRef: {kind: Node, name: worker}}\n"
    )
    assert isinstance(found, EndpointSlice)
    assert found.service == "s"
    assert found.addresses == ("10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6")
    assert [(each.addresses[0], each.ready) for each in found.endpoints][2] == ("10.0.0.3", False)
    pods = [WorkloadKey("ns", "p"), WorkloadKey("other", "p")]
    assert [each.pod for each in found.endpoints] == [None, None, None, *pods, None]
    assert [(port.number, port.name) for port in found.ports] == [(8080, "http"), (9090, "")]


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


def test_nodes_and_service_cidrs_say_where_addresses_are_taken_from() -> None:
    node = only(
        "apiVersion: v1\nkind: Node\nmetadata: {name: worker}\n"
        "spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, 'fd00:1::/64']}\n"
    )
    assert isinstance(node, Node)
    assert (node.meta.namespace, node.pod_cidrs) == ("", ("10.1.0.0/24", "fd00:1::/64"))
    assert only("apiVersion: v1\nkind: Node\nmetadata: {name: worker}\nspec: {podCIDR: 10.1.0.0/24}\n") == (
        msgspec.structs.replace(node, pod_cidrs=("10.1.0.0/24",))
    )
    cidr = only(
        "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: kubernetes}\n"
        "spec: {cidrs: [10.96.0.0/12]}\n"
    )
    assert isinstance(cidr, ServiceCIDR)
    assert cidr.cidrs == ("10.96.0.0/12",)
    assert ref_of(cidr) == ObjectRef("ServiceCIDR", "", "kubernetes")


@pytest.mark.parametrize("block", ["10.0.0.0", "10.0.0.0/33", "x/8", "''"])
def test_what_is_no_block_of_addresses_is_a_fault(block: str) -> None:
    (fault,) = checked(
        f"apiVersion: v1\nkind: Node\nmetadata: {{name: worker}}\nspec: {{podCIDRs: [{block}]}}\n"
    ).diagnostics
    assert (fault.code, fault.path) == ("PA0009", "spec.podCIDRs[0]")


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


def test_a_workload_entry() -> None:
    found = only(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w, labels: {v: meta}}\n"
        "spec: {address: 10.0.0.9, labels: {app: vm, v: spec}, serviceAccount: acct, ports: {http: 8080}}\n"
    )
    assert isinstance(found, Workload)
    assert (found.kind, found.addresses, found.service_account) == ("WorkloadEntry", ("10.0.0.9",), "acct")
    assert found.meta.labels == {("app", "vm"), ("v", "meta")}
    assert [(port.number, port.name) for port in found.ports] == [(8080, "http")]


def test_a_workload_entry_says_whether_it_has_a_service_account() -> None:
    entry = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w}\nspec: {address: 10.0.0.9"
    for more, said in (("}\n", False), (", serviceAccount: ''}\n", False), (", serviceAccount: default}\n", True)):
        found = only(entry + more)
        assert isinstance(found, Workload)
        assert (found.service_account, found.account_given) == ("default", said)


def test_a_workload_group_is_what_its_entries_will_be() -> None:
    found = only(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadGroup\n"
        "metadata: {name: g, namespace: vms, labels: {a: own}}\n"
        "spec: {metadata: {labels: {app: vm, v: metadata}, annotations: {note: it}}, "
        "template: {labels: {v: template, w: template}, serviceAccount: acct, ports: {http: 8080}}}\n"
    )
    assert isinstance(found, Workload)
    assert (str(found.key), found.kind, found.service_account, found.account_given) == (
        "vms/g",
        "WorkloadGroup",
        "acct",
        True,
    )
    assert found.meta.labels == {("app", "vm"), ("v", "metadata"), ("w", "template")}
    assert found.meta.annotations == {("note", "it")}
    assert [(port.number, port.name) for port in found.ports] == [(8080, "http")]


def entries(location: str) -> list[Workload]:
    result = checked(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: db, namespace: data}\n"
        f"spec:\n  hosts: [db.example]\n{location}"
        "  ports: [{number: 5432, name: pg}, {number: 80, name: http, targetPort: 8080}]\n"
        "  endpoints:\n  - {address: 10.0.0.1, serviceAccount: db, labels: {app: db}}\n"
        "  - {address: db.example, ports: {pg: 6432}}\n"
    )
    assert not result.diagnostics, result.diagnostics
    return [found for found in result.objects if isinstance(found, Workload)]


def test_the_endpoints_of_a_service_entry_are_workloads_of_its_namespace() -> None:
    first, second = entries("  location: MESH_INTERNAL\n")
    assert [str(first.key), str(second.key)] == ["data/db-0", "data/db-1"]
    assert (first.kind, first.addresses, first.service_account, first.account_given) == (
        "ServiceEntry",
        ("10.0.0.1",),
        "db",
        True,
    )
    assert first.meta.labels == {("app", "db")}
    assert [port.number for port in first.ports] == [5432, 8080]
    assert (second.addresses, second.account_given, [port.number for port in second.ports]) == ((), False, [6432, 8080])
    assert not first.external


@pytest.mark.parametrize("location", ["", "  location: MESH_EXTERNAL\n"])
def test_a_service_entry_is_of_something_outside_the_mesh_unless_it_says_otherwise(location: str) -> None:
    assert all(found.external for found in entries(location))


def test_a_service_entry_without_endpoints_says_nothing_about_workloads() -> None:
    result = checked(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [b]}\n"
    )
    assert (result.objects, result.diagnostics) == ((), ())


def test_a_sidecar() -> None:
    found = only(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\nspec:\n"
        "  workloadSelector: {labels: {app: x}}\n  ingress:\n"
        "  - {port: {number: 8080, protocol: HTTP, name: h}, defaultEndpoint: '127.0.0.1:9', bind: 127.0.0.2}\n"
        "  egress:\n  - {hosts: ['*/*']}\n  - {port: {number: 1}, bind: 127.0.0.3, captureMode: NONE, hosts: [./x]}\n"
    )
    assert isinstance(found, Sidecar)
    assert found.selector == {("app", "x")}
    origin = found.ingress[0].origin
    assert found.ingress == (IngressListener(8080, "127.0.0.1:9", "127.0.0.2", "HTTP", "h", origin),)
    origins = [listener.origin for listener in found.egress]
    assert found.egress == (
        EgressListener(("*/*",), origin=origins[0]),
        EgressListener(("./x",), 1, "127.0.0.3", capture_mode=CaptureMode.NONE, origin=origins[1]),
    )


def test_a_destination_rule() -> None:
    found = only(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\nspec:\n  host: h\n"
        "  trafficPolicy:\n    tls: {mode: ISTIO_MUTUAL}\n    portLevelSettings:\n"
        "    - {port: {number: 80}, tls: {mode: DISABLE}}\n    - {port: {number: 81}}\n"
        "  subsets:\n  - {name: v1, trafficPolicy: {tls: {mode: SIMPLE}}}\n  - {name: v2}\n"
    )
    assert isinstance(found, DestinationRule)
    assert found.host == "h"
    origins = [tls.origin for tls in found.tls]
    assert found.tls == (
        PortTls("ISTIO_MUTUAL", origin=origins[0]),
        PortTls("DISABLE", 80, origin=origins[1]),
        PortTls("SIMPLE", subset="v1", origin=origins[2]),
    )


def test_webhooks_and_api_services_name_their_services() -> None:
    hooks = checked(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: w}\n"
        "webhooks:\n- {name: a.b, clientConfig: {service: {namespace: ns, name: s, port: 8443}}}\n"
        "- {name: c.d, clientConfig: {url: 'https://x'}}\n"
    ).objects
    (api,) = checked(
        "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {name: v1.x}\n"
        "spec: {service: {namespace: ns, name: t}}\n"
    ).objects
    found = [
        (one.kind, one.service_namespace, one.service_name, one.service_port, one.webhook)
        for one in (*hooks, api)
        if isinstance(one, ApiServerTarget)
    ]
    assert found == [("ValidatingWebhookConfiguration", "ns", "s", 8443, "a.b"), ("APIService", "ns", "t", 443, "")]


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


@pytest.mark.parametrize(
    ("kind", "labels", "expected"),
    [
        ("MutatingWebhookConfiguration", "{istio.io/rev: canary, app: sidecar-injector}", [("canary", "")]),
        ("MutatingWebhookConfiguration", "{istio.io/rev: canary, istio.io/tag: next}", [("canary", "next")]),
        ("MutatingWebhookConfiguration", "{istio.io/rev: canary}", []),
        ("MutatingWebhookConfiguration", "{app: sidecar-injector}", []),
        ("ValidatingWebhookConfiguration", "{istio.io/rev: canary, app: sidecar-injector}", []),
    ],
)
def test_istios_webhooks_say_which_revisions_there_are_and_which_tags_lead_to_them(
    kind: str, labels: str, expected: list[tuple[str, str]]
) -> None:
    found = checked(
        f"apiVersion: admissionregistration.k8s.io/v1\nkind: {kind}\nmetadata: {{name: hook, labels: {labels}}}\n"
    )
    assert found.diagnostics == ()
    assert [(one.revision, one.tag) for one in found.objects if isinstance(one, Injector)] == expected


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


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5), ("100ms", 0.1), ("1h2m3s", 3723), ("0", 0), ("1.5s", 1.5), (".5s", 0.5)]
)
def test_a_duration_is_read_as_go_writes_it(text: str, seconds: float) -> None:
    assert go_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-1s", "1d", "5s5", "9" * 30 + "h"])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert go_duration(text) is None


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
