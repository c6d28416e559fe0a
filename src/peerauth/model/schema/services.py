"""Namespace, ServiceAccount, Service and EndpointSlice: who is where, and which names lead there.

Only what decides about connections is read; other fields are passed over. Source: Kubernetes' API reference.
"""

from __future__ import annotations

from peerauth.model.inventory import EndpointSlice, Namespace, Port, Service, ServiceAccount, ServicePort
from peerauth.model.meta import label_value
from peerauth.model.schema.fields import Fields
from peerauth.model.schema.metadata import check_namespace, check_service_name, metadata
from peerauth.model.schema.place import Mapping, Path
from peerauth.model.schema.watched import holds

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
HEADLESS = "None"


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
    """A Service; a port without a `targetPort` leads to the same number."""
    meta = metadata(fields, resource, path, default_namespace=default_namespace, name_check=check_service_name)
    spec = fields.mapping(resource, "spec", path)
    where: Path = (*path, "spec")
    addresses = fields.texts(spec, "clusterIPs", where) or (fields.copied(spec, "clusterIP", where),)
    return Service(
        meta=meta,
        selector=fields.labels(spec, "selector", where),
        ports=tuple(
            found
            for at, port in fields.mappings(spec, "ports", where)
            if (found := _service_port(fields, port, at)) is not None
        ),
        cluster_ips=tuple(address for address in addresses if address and not holds(_is_headless, address)),
        headless=any(holds(_is_headless, address) for address in addresses),
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
    """The endpoints of one Service that are not known to be unready."""
    meta = metadata(fields, resource, path, default_namespace=default_namespace)
    addresses: dict[str, None] = {}
    for at, endpoint in fields.mappings(resource, "endpoints", path):
        ready = fields.flag(fields.mapping(endpoint, "conditions", at), "ready", (*at, "conditions"), default=True)
        found = fields.texts(endpoint, "addresses", at)
        if ready:
            addresses.update(dict.fromkeys(found))
    ports: list[Port] = []
    for at, port in fields.mappings(resource, "ports", path):
        number = fields.port(port, "port", at)
        name = fields.text(port, "name", at)
        if number is not None and fields.text(port, "protocol", at, default="TCP") == "TCP":
            ports.append(Port(number, name, fields.origin((*at, "port"))))
    return EndpointSlice(
        meta=meta,
        service=label_value(meta.labels, SERVICE_NAME_LABEL) or "",
        addresses=tuple(addresses),
        ports=tuple(ports),
    )
