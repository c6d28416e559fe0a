"""From a document to what it says about the mesh: finds the kind's own reader, and opens lists.

Kinds are told apart by group and kind, so that another project's `Service` is not taken for Kubernetes'. Whatever has a
pod template where controllers have theirs is a workload. What else is not known is counted and passed over, but a
PeerAuthentication of an unknown version is a fault, and so is a kind that Istio's API does not have: they must not be
ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import TypeVar

import msgspec
from msgspec import structs

from peerauth.model.changes import MeshObject
from peerauth.model.diagnostic import Diagnostic
from peerauth.model.inventory import PassedOverBecause
from peerauth.model.schema import apiserver, istio, machines, meshconfig, passed_over, services, workloads
from peerauth.model.schema import peerauthentication as policies
from peerauth.model.schema.description import Document, Outline, described, outline
from peerauth.model.schema.faults import INVALID_VALUE, MISSING_FIELD, NOT_A_RESOURCE, UNKNOWN_VERSION
from peerauth.model.schema.metadata import Resource
from peerauth.model.schema.place import Below, Mapping, Path, Place
from peerauth.model.schema.report import Report, kind_of, nearest_hint, shortened
from peerauth.model.schema.typed import typed

DEFAULT_NAMESPACE = "default"
POLICY_KIND = "PeerAuthentication"
POLICY_GROUP = "security.istio.io"
POLICY_VERSIONS = ("security.istio.io/v1", "security.istio.io/v1beta1")

_KUBECTL = "a document needs `apiVersion` and `kind`; leave other files out with .peerauthignore"


class Checked(msgspec.Struct, frozen=True):
    """What one document says. A faulty object is not among `objects`.

    `passed_over` has a kind for each object that says nothing about connections. `documents` is how many it counts as:
    a list counts as its items.
    """

    objects: tuple[MeshObject, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    passed_over: tuple[str, ...] = ()
    documents: int = 1


_NOTHING = Checked()
D = TypeVar("D", bound=Document)
Objects = tuple[MeshObject, ...]


class Kind(msgspec.Struct, frozen=True):
    """How a kind is read. `document` is all that is read of it, None if that is not said in one.

    `counts_as` is asked of a resource first: as what it is passed over, empty if it is to be read.
    """

    read: Callable[[Report], Objects]
    document: type[Document] | None = None
    counts_as: Callable[[Mapping], str] | None = None


def _each(document: type[D], make: Callable[[D, Report], Objects]) -> Kind:
    """A kind that is a typed document, of which objects are made."""

    def read(report: Report) -> Objects:
        found = typed(report, report.mapping, document)
        return () if found is None else make(found, report)

    return Kind(read, document)


def _one(document: type[D], make: Callable[[D, Report], MeshObject]) -> Kind:
    """A kind that is a typed document, of which one object is made."""

    def read(report: Report) -> Objects:
        found = typed(report, report.mapping, document)
        return () if found is None else (make(found, report),)

    return Kind(read, document)


def _controller(kind: str) -> Kind:
    return _one(workloads.Controller, partial(workloads.controller, kind=kind))


def _webhooks(kind: str) -> Kind:
    return _each(apiserver.Webhooks, partial(apiserver.webhooks, kind=kind))


_ENDED = ("Succeeded", "Failed")


def _ended(pod: Mapping) -> str:
    """A Pod of which no container will run again takes no connections."""
    status = pod.get("status")
    return "Pod (ended)" if isinstance(status, dict) and status.get("phase") in _ENDED else ""


def _without_mesh(config_map: Mapping) -> str:
    """Most ConfigMaps are no istiod's."""
    return "" if meshconfig.holds_mesh_config(config_map) else "ConfigMap"


_KINDS: dict[tuple[str, str], Kind] = {
    (POLICY_GROUP, POLICY_KIND): _one(policies.PeerAuthentication, policies.peer_authentication),
    ("", "Namespace"): _one(services.Namespace, services.namespace),
    ("", "ServiceAccount"): _one(Resource, services.service_account),
    ("", "Service"): _one(services.Service, services.service),
    ("discovery.k8s.io", "EndpointSlice"): _one(services.EndpointSlice, services.endpoint_slice),
    ("", "Node"): _one(services.Node, services.node),
    ("networking.k8s.io", "ServiceCIDR"): _one(services.ServiceCIDR, services.service_cidr),
    ("", "Pod"): structs.replace(_one(workloads.Pod, workloads.pod), counts_as=_ended),
    **{("apps", kind): _controller(kind) for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")},
    ("batch", "Job"): _controller("Job"),
    ("batch", "CronJob"): _one(workloads.CronJob, workloads.cron_job),
    ("networking.istio.io", "WorkloadEntry"): _one(machines.WorkloadEntry, machines.workload_entry),
    ("networking.istio.io", "WorkloadGroup"): _one(machines.WorkloadGroup, machines.workload_group),
    ("networking.istio.io", "ServiceEntry"): _each(machines.ServiceEntry, machines.service_entry),
    ("networking.istio.io", "Sidecar"): _one(istio.Sidecar, istio.sidecar),
    ("networking.istio.io", "DestinationRule"): _one(istio.DestinationRule, istio.destination_rule),
    **{
        ("admissionregistration.k8s.io", kind): _webhooks(kind)
        for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
    },
    ("apiregistration.k8s.io", "APIService"): _each(apiserver.ApiService, apiserver.api_service),
    ("", "ConfigMap"): Kind(meshconfig.config_map, meshconfig.ConfigMap, _without_mesh),
    ("install.istio.io", "IstioOperator"): Kind(meshconfig.istio_operator),
}

DOCUMENTS: tuple[type[Document], ...] = (
    *dict.fromkeys(kind.document for kind in _KINDS.values() if kind.document is not None),
    meshconfig.MeshConfig,
    meshconfig.Installed,
    meshconfig.IstioOperator,
)
"""Every description by which documents are read."""

_KNOWN_KINDS = frozenset(kind for _, kind in _KINDS)


@lru_cache(maxsize=1024)
def _kind(api_version: str, kind: str) -> Kind | None:
    return _KINDS.get((api_version.rpartition("/")[0], kind))


@lru_cache(maxsize=1024)
def outline_of(api_version: str, kind: str) -> Outline | None:
    """What is read of a document that says its version and kind; None if it may be anything."""
    found = _kind(api_version, kind)
    return _outline(found.document) if found is not None and found.document is not None else None


@cache
def _outline(document: type[Document]) -> Outline | None:
    return outline(described(document), besides=("apiVersion", "kind"))


def check(value: object, *, place: Place, default_namespace: str = DEFAULT_NAMESPACE) -> Checked:
    """Validates one document of plain JSON values and converts it. An empty document says nothing, without a fault."""
    return _NOTHING if value is None else _resource(value, place, default_namespace)


def check_item(
    value: object,
    index: int,
    *,
    place: Place,
    kind: str,
    api_version: str,
    default_namespace: str = DEFAULT_NAMESPACE,
) -> Checked:
    """The same for an item of a list, read as a document of its own; `kind` and `api_version` are the list's."""
    return _item(value, place, default_namespace, ("items", index), kind=kind, api_version=api_version)


def _item(value: object, place: Place, default_namespace: str, prefix: Path, *, kind: str, api_version: str) -> Checked:
    own = kind.removesuffix("List")
    return _resource(value, place, default_namespace, prefix, kind=own, api_version=api_version if own else "")


def _resource(
    value: object, place: Place, default_namespace: str, prefix: Path = (), *, kind: str = "", api_version: str = ""
) -> Checked:
    """What a resource says. `kind` and `api_version` are those that the items of a typed list leave out."""
    if not isinstance(value, dict):
        report = Report({}, place, default_namespace, prefix)
        message = f"a document must be a mapping, and this is {kind_of(value)}"
        report.fault(NOT_A_RESOURCE, message, (), hint=_KUBECTL)
        return Checked(diagnostics=tuple(report.faults))
    report = Report(value, place, default_namespace, prefix)
    kind = report.text("kind") or kind
    api_version = report.text("apiVersion") or api_version
    found = _NOTHING
    if not kind and not report.faults:
        found = _without_kind(report)
    elif kind.endswith("List") and "items" in value and isinstance(value["items"], list | None):
        found = _list(report, value["items"] or [], kind=kind, api_version=api_version)
    elif kind:
        report.kind = kind
        found = _known(report, kind, api_version)
    if not report.faults:
        return found
    return Checked(found.objects, (*found.diagnostics, *report.faults), found.passed_over, found.documents)


def _known(report: Report, kind: str, api_version: str) -> Checked:
    if not api_version and kind in _KNOWN_KINDS:
        report.fault(MISSING_FIELD, "`apiVersion` is missing", ())
        return _NOTHING
    if kind == POLICY_KIND and api_version not in POLICY_VERSIONS:
        message = f"`{shortened(api_version)}` has no {kind} that is known here"
        report.fault(UNKNOWN_VERSION, message, ("apiVersion",), hint=f"use {' or '.join(POLICY_VERSIONS)}")
        return _NOTHING
    known = _kind(api_version, kind)
    return _other(report, kind, api_version.rpartition("/")[0]) if known is None else _read(known, report)


def _read(kind: Kind, report: Report) -> Checked:
    name = kind.counts_as(report.mapping) if kind.counts_as is not None else ""
    if name:
        return Checked(passed_over=(name,))
    objects = kind.read(report)
    return _NOTHING if report.faults else Checked(objects)


def _other(report: Report, kind: str, group: str) -> Checked:
    """A resource of a kind that is not read as itself."""
    known = passed_over.ISTIO_KINDS.get(group)
    if known is not None and kind not in known:
        message = f"`{shortened(group)}` has no kind {shortened(kind)}"
        report.fault(INVALID_VALUE, message, ("kind",), hint=nearest_hint(kind, known))
        return _NOTHING
    if passed_over.has_pod_template(report.mapping) and not passed_over.is_about_others(group):
        # Two groups may have a kind of one name: Knative's Service is named apart from Kubernetes'.
        return _read(_controller(f"{kind}.{group}" if kind in _KNOWN_KINDS else kind), report)
    noted = passed_over.noteworthy(report, group=group, kind=shortened(kind))
    if noted is None:
        return Checked(passed_over=(shortened(kind),))
    is_counted = noted.because is not PassedOverBecause.NOT_UNDERSTOOD
    return Checked((noted,), passed_over=(noted.kind,) if is_counted else ())


def _list(report: Report, items: list[object], *, kind: str, api_version: str) -> Checked:
    found: list[Checked] = []
    for index, item in enumerate(items):
        step, namespace = ("items", index), report.default_namespace
        place = Below(report.place, step)
        found.append(_item(item, place, namespace, (*report.prefix, *step), kind=kind, api_version=api_version))
    return Checked(
        tuple(made for one in found for made in one.objects),
        tuple(said for one in found for said in one.diagnostics),
        tuple(name for one in found for name in one.passed_over),
        max(sum(one.documents for one in found), 1),
    )


def _without_kind(report: Report) -> Checked:
    if report.prefix or not meshconfig.is_mesh_config(report.mapping):
        report.fault(NOT_A_RESOURCE, "the document has no `kind`", (), hint=_KUBECTL)
        return _NOTHING
    report.kind = "MeshConfig"
    found = typed(report, report.mapping, meshconfig.MeshConfig)
    return _NOTHING if found is None else Checked((meshconfig.mesh_config(found, report.place),))
