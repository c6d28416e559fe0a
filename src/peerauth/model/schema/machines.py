"""Machines outside Kubernetes: WorkloadEntry, what a WorkloadGroup makes, and the endpoints of a ServiceEntry.

Each is a workload. Only what decides about connections is read; other fields are passed over. Sources: Istio's
reference (WorkloadEntry, WorkloadGroup, ServiceEntry), and how istiod makes entries from a group and names endpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta as Constraint

from peerauth.model import inventory
from peerauth.model.addresses import is_address
from peerauth.model.inventory import Workload
from peerauth.model.meta import Labels, Meta
from peerauth.model.schema import fields
from peerauth.model.schema.description import Document, extra, one_of
from peerauth.model.schema.faults import INVALID_VALUE
from peerauth.model.schema.fields import AccountOrEmpty
from peerauth.model.schema.metadata import Resource, label_set, object_meta
from peerauth.model.schema.place import Path, Place
from peerauth.model.schema.report import Report

MESH_INTERNAL = "MESH_INTERNAL"
_LOCATIONS = ("MESH_EXTERNAL", MESH_INTERNAL)


class Machine(Document):
    """What is said of a machine, wherever it is said."""

    labels: dict[str, str] | None = None
    address: str | None = None
    service_account: AccountOrEmpty | None = None
    ports: dict[str, fields.Port | None] | None = None


class WorkloadEntry(Resource):
    """One machine."""

    spec: Machine | None = None


class GroupMeta(Document):
    """The metadata of the entries that a group makes."""

    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class GroupSpec(Document):
    """What a group makes entries from."""

    template: Machine | None = None
    metadata: GroupMeta | None = None


class WorkloadGroup(Resource):
    """Machines that are alike."""

    spec: GroupSpec | None = None


class EntryPort(Document):
    """A port of a ServiceEntry."""

    number: fields.Port
    target_port: fields.Port | None = None
    name: str | None = None


class EntrySpec(Document):
    """What a ServiceEntry says of endpoints."""

    location: Annotated[str, Constraint(extra=extra(one_of(INVALID_VALUE, _LOCATIONS)))] | None = None
    ports: list[EntryPort] | None = None
    endpoints: list[Machine] | None = None


class ServiceEntry(Resource):
    """A service that Kubernetes does not know."""

    spec: EntrySpec | None = None


_NO_MACHINE = Machine()


def workload_entry(document: WorkloadEntry, report: Report) -> Workload:
    """A WorkloadEntry; where its own labels and those of its metadata differ, its metadata's stand, as in Istio."""
    entry = document.spec or _NO_MACHINE
    labels = label_set((entry.labels or {}) | (document.metadata.labels or {}))
    meta = _with(object_meta(document.metadata, report), labels)
    return _machine(entry, ("spec",), report, meta=meta, kind="WorkloadEntry")


def workload_group(document: WorkloadGroup, report: Report) -> Workload:
    """The entries that a WorkloadGroup makes: its `template`, and over its labels those of its `metadata`."""
    spec = document.spec or GroupSpec()
    template, said = spec.template or _NO_MACHINE, spec.metadata or GroupMeta()
    labels = label_set((template.labels or {}) | (said.labels or {}))
    meta = _with(object_meta(document.metadata, report), labels, annotations=label_set(said.annotations))
    return _machine(template, ("spec", "template"), report, meta=meta, kind="WorkloadGroup")


def service_entry(document: ServiceEntry, report: Report) -> tuple[Workload, ...]:
    """The endpoints that a ServiceEntry lists, named `NAME-INDEX`. Without a `location` they are outside the mesh."""
    spec = document.spec or EntrySpec()
    meta = object_meta(document.metadata, report)
    served = tuple(_served(spec, report.place))
    found: list[Workload] = []
    for index, endpoint in enumerate(spec.endpoints or ()):
        path: Path = ("spec", "endpoints", index)
        own = Meta(
            name=f"{meta.name}-{index}",
            namespace=meta.namespace,
            labels=label_set(endpoint.labels),
            created=meta.created,
            origin=report.place.value(path),
        )
        external = spec.location != MESH_INTERNAL
        found.append(_machine(endpoint, path, report, meta=own, kind="ServiceEntry", served=served, external=external))
    return tuple(found)


def _machine(
    entry: Machine,
    path: Path,
    report: Report,
    *,
    meta: Meta,
    kind: str,
    served: tuple[inventory.Port, ...] = (),
    external: bool = False,
) -> Workload:
    """A machine by what its entry says; it listens on its own ports, and where it names none, on those `served`."""
    own = [
        inventory.Port(number, name, report.place.value((*path, "ports", name)))
        for name, number in (entry.ports or {}).items()
        if number is not None
    ]
    mapped = {port.name for port in own}
    ports: dict[int, inventory.Port] = {}
    for port in (*own, *(port for port in served if port.name not in mapped)):
        ports.setdefault(port.number, port)
    address = entry.address or ""
    return Workload(
        meta=meta,
        kind=kind,
        service_account=entry.service_account or "default",
        ports=tuple(ports.values()),
        addresses=(address,) if is_address(address) else (),
        account_given=bool(entry.service_account),
        external=external,
    )


def _served(spec: EntrySpec, place: Place) -> Iterator[inventory.Port]:
    """The ports of a ServiceEntry as an endpoint has them that does not map them to its own."""
    for index, port in enumerate(spec.ports or ()):
        number = port.number if port.target_port is None else port.target_port
        yield inventory.Port(number, port.name or "", place.value(("spec", "ports", index, "number")))


def _with(meta: Meta, labels: Labels, *, annotations: Labels | None = None) -> Meta:
    """The metadata of a machine that has these labels."""
    own = meta.annotations if annotations is None else annotations
    return Meta(meta.name, meta.namespace, labels, own, meta.created, meta.origin)
