"""The objects around the policies: namespaces, workloads and what names, splits or reaches their ports.

A workload is whatever runs with one set of labels: a Pod, the pod template of a controller, or a machine outside
Kubernetes (a WorkloadEntry, what a WorkloadGroup makes, an endpoint of a ServiceEntry).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from peerauth.model.meta import NO_LABELS, NOWHERE, Labels, Meta, Origin


class WorkloadKey(msgspec.Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """The name of a workload: unique in a mesh together with its kind."""

    namespace: str
    name: str
    kind: str = "Pod"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Namespace(msgspec.Struct, frozen=True, gc=False):
    """A namespace; its labels say which data plane its workloads have by default."""

    meta: Meta


class Port(msgspec.Struct, frozen=True, order=True, gc=False):
    """A port that a workload says it listens on (`containerPort`, or a WorkloadEntry's)."""

    number: int
    name: str = ""
    origin: Origin = NOWHERE


class Probe(msgspec.Struct, frozen=True, gc=False):
    """A kubelet probe of a workload: what kind it is and which port it dials (number or container port name)."""

    kind: str
    protocol: str
    port: int | str
    origin: Origin = NOWHERE


class Admission(StrEnum):
    """Whether a workload has been through admission, where sidecars are injected.

    AHEAD: it is a description of what is to be created. STARTING: it is past it, and has no address yet: its network
    is still to be set up. PAST: what it has by now is all that it gets.
    """

    AHEAD = "ahead"
    STARTING = "starting"
    PAST = "past"


class ProxyRole(StrEnum):
    """As what the container `istio-proxy` of a pod runs (`pilot-agent proxy ROLE`).

    ABSENT: there is no such container. UNSAID: its arguments do not say.
    """

    ABSENT = "absent"
    UNSAID = "unsaid"
    SIDECAR = "sidecar"
    ROUTER = "router"
    WAYPOINT = "waypoint"


MACHINE_KINDS = frozenset({"WorkloadEntry", "WorkloadGroup", "ServiceEntry"})
"""The kinds of workloads that do not run in Kubernetes; of a ServiceEntry it is the endpoints."""


class Workload(msgspec.Struct, frozen=True, gc=False):
    """One workload. `meta.labels` are the labels policies select by (the template's, for controllers).

    `addresses` are literal IPv4 or IPv6 addresses; empty until something places the workload. `account_given` is
    whether anyone said its service account, and `external` whether a ServiceEntry says that it is outside the mesh:
    both count for machines only. `ready` is whether it says that it takes traffic, which what is not created yet does;
    `terminating` whether it is being deleted: Services lead to what is the one and not the other.
    """

    meta: Meta
    kind: str = "Pod"
    service_account: str = "default"
    ports: tuple[Port, ...] = ()
    addresses: tuple[str, ...] = ()
    node: str = ""
    host_network: bool = False
    probes: tuple[Probe, ...] = ()
    admission: Admission = Admission.AHEAD
    proxy: ProxyRole = ProxyRole.ABSENT
    account_given: bool = False
    external: bool = False
    ready: bool = True
    terminating: bool = False

    @property
    def key(self) -> WorkloadKey:
        """The workload's name in the mesh."""
        return WorkloadKey(self.meta.namespace, self.meta.name, self.kind)


class ServicePort(msgspec.Struct, frozen=True, gc=False):
    """A port of a Service; `target` is a number, or the name of a container port."""

    number: int
    target: int | str
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""
    origin: Origin = NOWHERE


class Service(msgspec.Struct, frozen=True, gc=False):
    """A Service. Without a selector it names its endpoints by EndpointSlices only.

    `external_name` is the DNS name that it stands for instead of having endpoints. `publish_not_ready` is whether it
    leads to workloads that are not ready, or are being deleted, as well.
    """

    meta: Meta
    selector: Labels = NO_LABELS
    ports: tuple[ServicePort, ...] = ()
    cluster_ips: tuple[str, ...] = ()
    headless: bool = False
    external_name: str = ""
    publish_not_ready: bool = False


class ServiceAccount(msgspec.Struct, frozen=True, gc=False):
    """A service account: half of a workload's identity."""

    meta: Meta


class SliceEndpoint(msgspec.Struct, frozen=True, gc=False):
    """One endpoint of an EndpointSlice; `pod` is the Pod that it says it is (`targetRef`), None if it names none.

    `ready` is what Kubernetes makes of readiness and of ongoing deletion together.
    """

    addresses: tuple[str, ...]
    ready: bool = True
    pod: WorkloadKey | None = None


class EndpointSlice(msgspec.Struct, frozen=True, gc=False):
    """Endpoints of one Service (`service` is its name, from the `kubernetes.io/service-name` label).

    `ports` belong to all of them; a Service's port leads to the one that has its name.
    """

    meta: Meta
    service: str
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[Port, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of what is ready, each once."""
        ready = (endpoint.addresses for endpoint in self.endpoints if endpoint.ready)
        return tuple(dict.fromkeys(address for addresses in ready for address in addresses))


class Node(msgspec.Struct, frozen=True, gc=False):
    """A node of the cluster: `pod_cidrs` are the blocks that its pods' addresses are taken from."""

    meta: Meta
    pod_cidrs: tuple[str, ...] = ()


class ServiceCIDR(msgspec.Struct, frozen=True, gc=False):
    """Blocks that the virtual addresses of Services are taken from."""

    meta: Meta
    cidrs: tuple[str, ...] = ()


class CaptureMode(StrEnum):
    """How traffic gets to a Sidecar listener: redirected, or by dialling it."""

    DEFAULT = "DEFAULT"
    IPTABLES = "IPTABLES"
    NONE = "NONE"


class IngressListener(msgspec.Struct, frozen=True, gc=False):
    """`Sidecar.spec.ingress[]`: the port served, and where the application really listens.

    `default_endpoint` is `127.0.0.1:PORT`, `[::1]:PORT`, `0.0.0.0:PORT` (the workload's own address) or
    `unix:///path`; empty means the workload's own address and the same port.
    """

    port: int
    default_endpoint: str = ""
    bind: str = ""
    protocol: str = "TCP"
    name: str = ""
    origin: Origin = NOWHERE


class EgressListener(msgspec.Struct, frozen=True, gc=False):
    """`Sidecar.spec.egress[]`: with a port, a listener of its own at `bind`; `hosts` are `namespace/dnsName`."""

    hosts: tuple[str, ...]
    port: int | None = None
    bind: str = ""
    protocol: str = "TCP"
    capture_mode: CaptureMode = CaptureMode.DEFAULT
    origin: Origin = NOWHERE


class Sidecar(msgspec.Struct, frozen=True, gc=False):
    """The `Sidecar` resource: what the proxies of the selected workloads listen on."""

    meta: Meta
    selector: Labels = NO_LABELS
    ingress: tuple[IngressListener, ...] = ()
    egress: tuple[EgressListener, ...] = ()


class PortTls(msgspec.Struct, frozen=True, gc=False):
    """A DestinationRule's TLS mode for one port (`port` None: for every port) and subset ('' for none)."""

    mode: str
    port: int | None = None
    subset: str = ""
    origin: Origin = NOWHERE


class DestinationRule(msgspec.Struct, frozen=True, gc=False):
    """A DestinationRule's TLS settings: what clients are told to do, which may contradict the servers' policy."""

    meta: Meta
    host: str
    tls: tuple[PortTls, ...] = ()


class ApiServerTarget(msgspec.Struct, frozen=True, gc=False):
    """A Service that the API server itself calls: a webhook's, or an APIService's. It has no mesh certificate."""

    meta: Meta
    kind: str
    service_namespace: str
    service_name: str
    service_port: int = 443
    webhook: str = ""


class PassedOverBecause(StrEnum):
    """Why a document is passed over that should not go unnoticed.

    NOT_UNDERSTOOD: it runs containers, and where is not known here. REMOVED: it is a policy of an API that Istio has
    removed.
    """

    NOT_UNDERSTOOD = "not understood"
    REMOVED = "removed"


class PassedOver(msgspec.Struct, frozen=True, gc=False):
    """A document that decides nothing here, though its author may think that it does, or that it is decided about."""

    meta: Meta
    kind: str
    group: str
    because: PassedOverBecause

    @property
    def subject(self) -> str:
        """`Kind namespace/name`, as diagnostics have it."""
        return f"{self.kind} {self.meta.full_name}"
