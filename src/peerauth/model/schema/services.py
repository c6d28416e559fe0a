"""Namespace, ServiceAccount, Service, EndpointSlice, Node and ServiceCIDR: who is where, and what leads there.

Only what decides about connections is read; other fields are passed over. Source: Kubernetes' API reference.
"""

from __future__ import annotations

from peerauth.model.addresses import is_network
from peerauth.model.inventory import (
    EndpointSlice,
    Namespace,
    Node,
    Port,
    Service,
    ServiceAccount,
    ServiceCIDR,
    ServicePort,
    SliceEndpoint,
    WorkloadKey,
)
from peerauth.model.meta import Meta, label_value
from peerauth.model.schema.faults import INVALID_VALUE
from peerauth.model.schema.fields import Fields, shortened
from peerauth.model.schema.metadata import check_namespace, check_service_name, metadata
from peerauth.model.schema.place import Mapping, Path
from peerauth.model.schema.watched import holds

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
HEADLESS = "None"
EXTERNAL_NAME = "ExternalName"


def namespace(fields: Fields, resource: Mapping, path: Path, *, default_namespace: str) -> Namespace:
    """A namespace with its labels."""
    return Namespace(
        metadata(
            fields,
            resource,
            path,
            default_namespace=default_namespace,
            namespaced=False,
            name_check=check_namespace,
        )
    )


def service_account(fields: Fields, resource: Mapping, path: Path, *, default_namespace: str) -> ServiceAccount:
    """A service account: its name is all that counts."""
    return ServiceAccount(metadata(fields, resource, path, default_namespace=default_namespace))


def service(fields: Fields, resource: Mapping, path: Path, *, default_namespace: str) -> Service:
    """A Service; a port without a `targetPort` leads to the same number. An `ExternalName` has no address."""
    meta = metadata(fields, resource, path, default_namespace=default_namespace, name_check=check_service_name)
    spec = fields.mapping(resource, "spec", path)
    where: Path = (*path, "spec")
    addresses = fields.texts(spec, "clusterIPs", where) or (fields.copied(spec, "clusterIP", where),)
    external = fields.text(spec, "type", where) == EXTERNAL_NAME
    name = fields.copied(spec, "externalName", where)
    return Service(
        meta=meta,
        selector=fields.labels(spec, "selector", where),
        ports=tuple(
            found
            for at, port in fields.mappings(spec, "ports", where)
            if (found := _service_port(fields, port, at)) is not None
        ),
        cluster_ips=tuple(
            address for address in addresses if address and not external and not holds(_is_headless, address)
        ),
        headless=any(holds(_is_headless, address) for address in addresses),
        external_name=name if external else "",
        publish_not_ready=fields.flag(spec, "publishNotReadyAddresses", where),
    )


def _is_headless(address: str) -> bool:
    return address == HEADLESS


def _service_port(fields: Fields, port: Mapping, path: Path) -> ServicePort | None:
    number = fields.required_port(port, "port", path)
    target = fields.port_or_name(port, "targetPort", path)
    if number is None:
        return None
    return ServicePort(
        number=number,
        target=number if target is None else target,
        name=fields.text(port, "name", path),
        protocol=fields.text(port, "protocol", path, default="TCP"),
        app_protocol=fields.text(port, "appProtocol", path),
        origin=fields.origin((*path, "port")),
    )


def endpoint_slice(fields: Fields, resource: Mapping, path: Path, *, default_namespace: str) -> EndpointSlice:
    """The endpoints of one Service. Readiness that is not said counts as ready, as the API has it."""
    meta = metadata(fields, resource, path, default_namespace=default_namespace)
    ports: list[Port] = []
    for at, port in fields.mappings(resource, "ports", path):
        number = fields.port(port, "port", at)
        name = fields.text(port, "name", at)
        if number is not None and fields.text(port, "protocol", at, default="TCP") == "TCP":
            ports.append(Port(number, name, fields.origin((*at, "port"))))
    return EndpointSlice(
        meta=meta,
        service=label_value(meta.labels, SERVICE_NAME_LABEL) or "",
        endpoints=tuple(
            _endpoint(fields, endpoint, at, meta=meta) for at, endpoint in fields.mappings(resource, "endpoints", path)
        ),
        ports=tuple(ports),
    )


def _endpoint(fields: Fields, endpoint: Mapping, path: Path, *, meta: Meta) -> SliceEndpoint:
    conditions = fields.mapping(endpoint, "conditions", path)
    target, where = fields.mapping(endpoint, "targetRef", path), (*path, "targetRef")
    name = fields.copied(target, "name", where)
    pod = None
    if name and fields.text(target, "kind", where) == "Pod":
        pod = WorkloadKey(fields.copied(target, "namespace", where) or meta.namespace, name)
    return SliceEndpoint(
        addresses=fields.texts(endpoint, "addresses", path),
        ready=fields.flag(conditions, "ready", (*path, "conditions"), default=True),
        pod=pod,
    )


def node(fields: Fields, resource: Mapping, path: Path, *, default_namespace: str) -> Node:
    """A node with the blocks of its pods' addresses; the older `podCIDR` is the first of `podCIDRs`."""
    meta = metadata(fields, resource, path, default_namespace=default_namespace, namespaced=False)
    spec, where = fields.mapping(resource, "spec", path), (*path, "spec")
    first = fields.text(spec, "podCIDR", where)
    if first:
        _check_network(fields, first, (*where, "podCIDR"))
    blocks = dict.fromkeys([*filter(None, [first]), *_networks(fields, spec, "podCIDRs", where)])
    return Node(meta, tuple(blocks))


def service_cidr(fields: Fields, resource: Mapping, path: Path, *, default_namespace: str) -> ServiceCIDR:
    """The blocks that virtual addresses of Services are taken from."""
    meta = metadata(fields, resource, path, default_namespace=default_namespace, namespaced=False)
    return ServiceCIDR(meta, _networks(fields, fields.mapping(resource, "spec", path), "cidrs", (*path, "spec")))


def _networks(fields: Fields, parent: Mapping, key: str, path: Path) -> tuple[str, ...]:
    blocks = fields.texts(parent, key, path)
    for index, block in enumerate(blocks):
        _check_network(fields, block, (*path, key, index))
    return blocks


def _check_network(fields: Fields, block: str, path: Path) -> None:
    if not is_network(block):
        message = f"{shortened(block)!r} is not a block of addresses"
        fields.fault(INVALID_VALUE, message, path, hint="an address and a length, such as 10.0.0.0/8")
