"""A document of which only what is read was built says what it says when all of it is read exactly."""

from __future__ import annotations

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from peerauth.model.schema import Checked, check
from peerauth.sources.reader import DocumentReader
from peerauth.sources.text import Chunk
from peerauth.sources.yamltree import Document, read_exactly

POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: {a}
  namespace: {b}
  uid: {u}
  creationTimestamp: {c}
  deletionTimestamp: {c}
  labels:
    app: {d}
    sidecar.istio.io/inject: {f}
  annotations:
    sidecar.istio.io/inject: {f}
spec:
  serviceAccountName: {a}
  nodeName: {d}
  hostNetwork: {e}
  containers:
    - name: {b}
      image: {f}
      args:
        - proxy
        - {r}
      ports:
        - containerPort: {g}
          name: {h}
          protocol: {i}
      readinessProbe:
        httpGet:
          port: {j}
status:
  phase: {p}
  conditions:
    - type: Ready
      status: {o}
  podIP: {k}
  podIPs:
    - ip: {l}
    - ip: {k}
"""
SERVICE = """\
apiVersion: v1
kind: {s}
metadata:
  name: {a}
  namespace: {b}
spec:
  type: {t}
  externalName: {a}
  clusterIP: {k}
  publishNotReadyAddresses: {e}
  selector:
    app: {d}
  ports:
    - name: {h}
      port: {g}
      targetPort: {j}
"""
POLICY = """\
apiVersion: security.istio.io/{v}
kind: PeerAuthentication
metadata:
  name: {a}
  namespace: {b}
spec:
  selector:
    matchLabels:
      app: {d}
      version: {f}
  mtls:
    mode: {m}
  portLevelMtls:
    {g}:
      mode: {m}
"""
CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {a}
data:
  mesh: {b}
"""
ENTRY = """\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: {a}
  labels:
    app: {b}
spec:
  address: {k}
  labels:
    app: {c}
  serviceAccount: {d}
  ports:
    http: {g}
"""
GROUP = """\
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata:
  name: {a}
spec:
  metadata:
    labels:
      app: {b}
    annotations:
      note: {f}
  template:
    labels:
      app: {c}
      security.istio.io/tlsMode: {d}
    serviceAccount: {d}
    ports:
      http: {g}
"""
ENTRIES = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: {a}
spec:
  location: {w}
  ports:
    - number: {g}
      name: {h}
  endpoints:
    - address: {k}
      labels:
        app: {b}
      serviceAccount: {d}
    - address: {l}
      ports:
        {h}: 9090
"""
SLICE = """\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {a}
  labels:
    kubernetes.io/service-name: {b}
endpoints:
  - addresses:
      - {k}
    conditions:
      ready: {e}
    targetRef:
      kind: {q}
      name: {a}
ports:
  - port: {g}
    name: {h}
"""
NODE = """\
apiVersion: v1
kind: Node
metadata:
  name: {a}
spec:
  podCIDR: {n}
  podCIDRs:
    - {n}
"""
RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: {a}
spec:
  host: {b}
  trafficPolicy:
    tls:
      mode: {m}
"""
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {a}\n  labels:\n    istio-injection: {b}\n"
UNKNOWN = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {a}\ndata:\n  a: {b}\n"

COMMON = {
    "a": "pod-1",
    "b": "ns",
    "c": "2024-05-01T12:00:00Z",
    "d": "app1",
    "e": "true",
    "f": '"true"',
    "g": "8080",
    "h": "http",
    "i": "TCP",
    "j": "http",
    "k": "10.0.0.1",
    "l": "10.0.0.1",
    "m": "STRICT",
    "p": "Running",
    "r": "sidecar",
    "u": "0c9ac3f5-6a4d-4c3b-8f34-0c8e1c1d2f6b",
    "w": "MESH_INTERNAL",
    "s": "Service",
    "q": "Pod",
    "t": "ClusterIP",
    "v": "v1",
    "o": '"True"',
    "n": "10.1.0.0/24",
}
ODD = [
    *("a", "b", "v1", "app2", "istio", "istio-proxy", "default", "x.y", "-a", "a-", "A", "a/b", "a*", '"*"', "k" * 64),
    *("", '""', '" "', "~", "null", "true", "false", '"true"', "yes", "1", "8080", "0", "70000", '"8080"', "1_000"),
    *("{}", "[]", "{a: b}", "[a]", "TCP", "UDP", "STRICT", "DISABLE", "UNSET", "None", "10.0.0.2", "::1", "Service"),
    *("Pending", "Succeeded", "router", "waypoint", "MESH_EXTERNAL", "ExternalName", "Pod", "fd00::/8"),
    *(
        "2024-05-01T12:00:00Z",
        "2025-06-02T01:02:03.123456789Z",
        "2024-13-01T12:00:00Z",
        "rootNamespace",
        "  a",
        "a # b",
    ),
]
values = st.dictionaries(st.sampled_from(sorted(COMMON)), st.sampled_from(ODD), max_size=3)
templates = st.sampled_from(
    [POD, SERVICE, POLICY, CONFIG, ENTRY, GROUP, ENTRIES, SLICE, NODE, RULE, NAMESPACE, UNKNOWN]
)

warm = DocumentReader()
"""Used by every example, so that lines and layouts known from one are met in the next."""


def exactly(chunk: Chunk) -> Checked:
    document = read_exactly(chunk)
    if isinstance(document, Document):
        return check(document.value, place=document.place)
    return Checked() if document is None else Checked(diagnostics=(document,))


def filled(template: str, odd: dict[str, str]) -> str:
    return template.format_map(COMMON | odd)


def same(one: Checked, other: Checked) -> bool:
    """Equal, types included, whatever the order in which sets show their pairs."""
    shown = [
        re.sub(r"frozenset\(\{.*?\}\)", lambda found: "".join(sorted(found[0])), repr(said)) for said in (one, other)
    ]
    return one == other and shown[0] == shown[1]


@settings(max_examples=1500, deadline=None)
@given(templates, st.lists(values, min_size=1, max_size=5), st.integers(1, 10**6))
@example(SERVICE, [{}, {"a": "b"}, {"s": "Secret"}, {"k": "None"}], 1)
@example(POD, [{}, {}, {"a": "x"}, {"f": '""'}, {"c": "2024-13-01T12:00:00Z"}, {"b": "istio-proxy"}], 5)
@example(POLICY, [{}, {}, {"d": '"*"'}, {"v": "v2"}, {"m": "UNSET"}, {"d": "k" * 64}], 5)
def test_a_document_says_what_it_says_when_all_of_it_is_read(
    template: str, stream: list[dict[str, str]], line: int
) -> None:
    for reader in (DocumentReader(), warm):
        for number, odd in enumerate(stream):
            chunk = Chunk(filled(template, odd), line + number, f"f{number % 2}.yaml")
            assert same(reader.document(chunk), exactly(chunk)), chunk.text
