"""Machines outside Kubernetes: WorkloadEntry, what a WorkloadGroup makes, and the endpoints of a ServiceEntry.

Each is a workload. Only what decides about connections is read; other fields are passed over. Sources: Istio's
reference (WorkloadEntry, WorkloadGroup, ServiceEntry), and how istiod makes entries from a group and names endpoints.
"""

from __future__ import annotations

from peerauth.model.addresses import is_address
from peerauth.model.inventory import Port, Workload
from peerauth.model.meta import Labels, Meta
from peerauth.model.schema.fields import Fields
from peerauth.model.schema.metadata import metadata
from peerauth.model.schema.place import Mapping, Path
from peerauth.model.schema.watched import holds, label_set
from peerauth.model.schema.workloads import service_account

MESH_INTERNAL = "MESH_INTERNAL"
_LOCATIONS = ("MESH_EXTERNAL", MESH_INTERNAL)


def workload_entry(fields: Fields, resource: Mapping, path: Path, *, default_namespace: str) -> Workload:
    """A WorkloadEntry; where its own labels and those of its metadata differ, its metadata's stand, as in Istio."""
    meta = metadata(fields, resource, path, default_namespace=default_namespace)
    where: Path = (*path, "spec")
    entry = fields.mapping(resource, "spec", path)
    labels = label_set([*(dict(fields.pairs(entry, "labels", where)) | dict(meta.labels)).items()])
    return _machine(fields, entry, where, meta=_with(meta, labels), kind="WorkloadEntry")


def workload_group(fields: Fields, resource: Mapping, path: Path, *, default_namespace: str) -> Workload:
    """The entries that a WorkloadGroup makes: its `template`, and over its labels those of its `metadata`."""
    own = metadata(fields, resource, path, default_namespace=default_namespace)
    where: Path = (*path, "spec")
    spec = fields.mapping(resource, "spec", path)
    template, said = fields.mapping(spec, "template", where), fields.mapping(spec, "metadata", where)
    under = dict(fields.pairs(template, "labels", (*where, "template")))
    labels = label_set([*(under | dict(fields.pairs(said, "labels", (*where, "metadata")))).items()])
    meta = _with(own, labels, annotations=label_set(fields.pairs(said, "annotations", (*where, "metadata"))))
    return _machine(fields, template, (*where, "template"), meta=meta, kind="WorkloadGroup")


def service_entry(fields: Fields, resource: Mapping, path: Path, *, default_namespace: str) -> tuple[Workload, ...]:
    """The endpoints that a ServiceEntry lists, named `NAME-INDEX`. Without a `location` they are outside the mesh."""
    meta = metadata(fields, resource, path, default_namespace=default_namespace)
    where: Path = (*path, "spec")
    spec = fields.mapping(resource, "spec", path)
    location = fields.text(spec, "location", where)
    if location:
        fields.one_of(location, _LOCATIONS, (*where, "location"))
    served = _served(fields, spec, where)
    return tuple(
        _machine(
            fields,
            endpoint,
            at,
            meta=Meta(
                name=f"{meta.name}-{index}",
                namespace=meta.namespace,
                labels=label_set(fields.pairs(endpoint, "labels", at)),
                created=meta.created,
                origin=fields.origin(at),
            ),
            kind="ServiceEntry",
            served=served,
            external=location != MESH_INTERNAL,
        )
        for index, (at, endpoint) in enumerate(fields.mappings(spec, "endpoints", where))
    )


def _machine(
    fields: Fields,
    entry: Mapping,
    path: Path,
    *,
    meta: Meta,
    kind: str,
    served: tuple[Port, ...] = (),
    external: bool = False,
) -> Workload:
    """A machine by what its entry says; it listens on its own ports, and where it names none, on those `served`."""
    own = _ports(fields, entry, path)
    mapped = {port.name for port in own}
    ports: dict[int, Port] = {}
    for port in (*own, *(port for port in served if port.name not in mapped)):
        ports.setdefault(port.number, port)
    address = fields.copied(entry, "address", path)
    return Workload(
        meta=meta,
        kind=kind,
        service_account=service_account(fields, entry, "serviceAccount", path),
        ports=tuple(ports.values()),
        addresses=(address,) if holds(is_address, address) else (),
        account_given=bool(fields.copied(entry, "serviceAccount", path)),
        external=external,
    )


def _ports(fields: Fields, entry: Mapping, path: Path) -> tuple[Port, ...]:
    ports = fields.mapping(entry, "ports", path)
    return tuple(
        Port(number, name, fields.origin((*path, "ports", name)))
        for name in ports
        if (number := fields.port(ports, name, (*path, "ports"))) is not None
    )


def _served(fields: Fields, spec: Mapping, path: Path) -> tuple[Port, ...]:
    """The ports of a ServiceEntry as an endpoint has them that does not map them to its own."""
    found: list[Port] = []
    for where, port in fields.mappings(spec, "ports", path):
        number, target = fields.required_port(port, "number", where), fields.port(port, "targetPort", where)
        if number is not None:
            name = fields.text(port, "name", where)
            found.append(Port(number if target is None else target, name, fields.origin((*where, "number"))))
    return tuple(found)


def _with(meta: Meta, labels: Labels, *, annotations: Labels | None = None) -> Meta:
    """The metadata of a machine that has these labels."""
    own = meta.annotations if annotations is None else annotations
    return Meta(meta.name, meta.namespace, labels, own, meta.created, meta.origin)
