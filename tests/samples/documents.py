"""Documents of one kind, read; and a pod with everything that is read of pods."""

from __future__ import annotations

from peerauth.model.changes import MeshObject
from peerauth.model.inventory import Workload
from peerauth.model.schema import Checked
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
