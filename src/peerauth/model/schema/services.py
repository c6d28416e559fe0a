"""Namespace, ServiceAccount, Service, EndpointSlice, Node and ServiceCIDR: who is where, and what leads there.

Only what decides about connections is read; other fields are passed over. Source: Kubernetes' API reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import field

from peerauth.model import inventory
from peerauth.model.inventory import ServicePort, SliceEndpoint, WorkloadKey
from peerauth.model.meta import Meta, label_value
from peerauth.model.schema import fields
from peerauth.model.schema.description import Document
from peerauth.model.schema.fields import Labels, Network, NetworkOrEmpty, PortOrName
from peerauth.model.schema.metadata import (
    AS_EMPTY,
    ClusterResource,
    NamespaceMeta,
    Resource,
    ServiceMeta,
    cluster_meta,
    label_set,
    object_meta,
)
from peerauth.model.schema.place import Place
from peerauth.model.schema.report import Report

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
HEADLESS = "None"
EXTERNAL_NAME = "ExternalName"


class Namespace(Document):
    """A namespace."""

    metadata: Annotated[NamespaceMeta, AS_EMPTY]


class Port(Document):
    """A port of a Service."""

    port: fields.Port
    target_port: PortOrName | None = None
    name: str | None = None
    protocol: str | None = None
    app_protocol: str | None = None


class ServiceSpec(Document):
    """What a Service is."""

    cluster_ips: list[str] | None = field(default=None, name="clusterIPs")
    cluster_ip: str | None = field(default=None, name="clusterIP")
    type: str | None = None
    external_name: str | None = None
    selector: Labels | None = None
    ports: list[Port] | None = None
    publish_not_ready_addresses: bool | None = None


class Service(Document):
    """A Service."""

    metadata: Annotated[ServiceMeta, AS_EMPTY]
    spec: ServiceSpec | None = None


class Conditions(Document):
    """What is known of an endpoint."""

    ready: bool | None = None


class Target(Document):
    """What an endpoint is."""

    kind: str | None = None
    name: str | None = None
    namespace: str | None = None


class Endpoint(Document):
    """One endpoint."""

    target_ref: Target | None = None
    conditions: Conditions | None = None
    addresses: list[str] | None = None


class EndpointPort(Document):
    """A port of all endpoints of a slice."""

    port: fields.Port | None = None
    name: str | None = None
    protocol: str | None = None


class EndpointSlice(Resource):
    """Endpoints of one Service."""

    endpoints: list[Endpoint] | None = None
    ports: list[EndpointPort] | None = None


class NodeSpec(Document):
    """What is known of a node's pods."""

    pod_cidr: NetworkOrEmpty | None = field(default=None, name="podCIDR")
    pod_cidrs: list[Network] | None = field(default=None, name="podCIDRs")


class Node(ClusterResource):
    """A node of the cluster."""

    spec: NodeSpec | None = None


class CidrSpec(Document):
    """Blocks of addresses."""

    cidrs: list[Network] | None = None


class ServiceCIDR(ClusterResource):
    """Where virtual addresses are taken from."""

    spec: CidrSpec | None = None


_NO_SPEC = ServiceSpec()


def namespace(document: Namespace, report: Report) -> inventory.Namespace:
    """A namespace with its labels."""
    return inventory.Namespace(cluster_meta(document.metadata, report))


def service_account(document: Resource, report: Report) -> inventory.ServiceAccount:
    """A service account: its name is all that counts."""
    return inventory.ServiceAccount(object_meta(document.metadata, report))


def service(document: Service, report: Report) -> inventory.Service:
    """A Service; a port without a `targetPort` leads to the same number. An `ExternalName` has no address."""
    spec = document.spec or _NO_SPEC
    external = spec.type == EXTERNAL_NAME
    addresses = spec.cluster_ips or [spec.cluster_ip or ""]
    return inventory.Service(
        meta=object_meta(document.metadata, report),
        selector=label_set(spec.selector),
        ports=tuple(_service_ports(spec, report.place)),
        cluster_ips=() if external else tuple(address for address in addresses if address and address != HEADLESS),
        headless=HEADLESS in addresses,
        external_name=(spec.external_name or "") if external else "",
        publish_not_ready=bool(spec.publish_not_ready_addresses),
    )


def _service_ports(spec: ServiceSpec, place: Place) -> Iterator[ServicePort]:
    for index, port in enumerate(spec.ports or ()):
        yield ServicePort(
            port.port,
            port.port if port.target_port is None else port.target_port,
            port.name or "",
            "TCP" if port.protocol is None else port.protocol,
            port.app_protocol or "",
            place.value(("spec", "ports", index, "port")),
        )


def endpoint_slice(document: EndpointSlice, report: Report) -> inventory.EndpointSlice:
    """The endpoints of one Service. Readiness that is not said counts as ready, as the API has it."""
    meta = object_meta(document.metadata, report)
    ports = [
        inventory.Port(port.port, port.name or "", report.place.value(("ports", index, "port")))
        for index, port in enumerate(document.ports or ())
        if port.port is not None and (port.protocol is None or port.protocol == "TCP")
    ]
    return inventory.EndpointSlice(
        meta=meta,
        service=label_value(meta.labels, SERVICE_NAME_LABEL) or "",
        endpoints=tuple(_endpoint(endpoint, meta) for endpoint in document.endpoints or ()),
        ports=tuple(ports),
    )


def _endpoint(endpoint: Endpoint, meta: Meta) -> SliceEndpoint:
    target, pod = endpoint.target_ref, None
    if target is not None and target.name and target.kind == "Pod":
        pod = WorkloadKey(target.namespace or meta.namespace, target.name)
    return SliceEndpoint(
        addresses=tuple(endpoint.addresses or ()),
        ready=endpoint.conditions is None or endpoint.conditions.ready is not False,
        pod=pod,
    )


def node(document: Node, report: Report) -> inventory.Node:
    """A node with the blocks of its pods' addresses; the older `podCIDR` is the first of `podCIDRs`."""
    spec = document.spec or NodeSpec()
    first = [spec.pod_cidr] if spec.pod_cidr else []
    return inventory.Node(
        cluster_meta(document.metadata, report), tuple(dict.fromkeys([*first, *(spec.pod_cidrs or ())]))
    )


def service_cidr(document: ServiceCIDR, report: Report) -> inventory.ServiceCIDR:
    """The blocks that virtual addresses of Services are taken from."""
    spec = document.spec or CidrSpec()
    return inventory.ServiceCIDR(cluster_meta(document.metadata, report), tuple(spec.cidrs or ()))
