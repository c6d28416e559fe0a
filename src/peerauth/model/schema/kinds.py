"""From a document to what it says about the mesh: finds the kind's own reader, and opens lists.

Kinds are told apart by group and kind, so that another project's `Service` is not taken for Kubernetes'. Whatever has a
pod template where controllers have theirs is a workload. What else is not known is counted and passed over, but a
PeerAuthentication of an unknown version is a fault, and so is a kind that Istio's API does not have: they must not be
ignored.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from peerauth.model.changes import MeshObject
from peerauth.model.diagnostic import Diagnostic
from peerauth.model.inventory import PassedOverBecause
from peerauth.model.schema import apiserver, istio, machines, meshconfig, passed_over, services, workloads
from peerauth.model.schema.faults import INVALID_VALUE, MISSING_FIELD, NOT_A_RESOURCE, UNKNOWN_VERSION
from peerauth.model.schema.fields import Fields, kind_of, nearest_hint, shortened
from peerauth.model.schema.peerauthentication import peer_authentication
from peerauth.model.schema.place import ItemPlace, Mapping, Path, Place
from peerauth.model.schema.watched import copied, holds

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


Reader = Callable[[Fields, Mapping, Path, str], tuple[MeshObject, ...]]


def _controller(kind: str) -> Reader:
    return lambda f, r, p, ns: (workloads.controller(f, r, p, default_namespace=ns, kind=kind),)


def _webhooks(kind: str) -> Reader:
    return lambda f, r, p, ns: apiserver.webhooks(f, r, p, default_namespace=ns, kind=kind)


def _config_map(fields: Fields, resource: Mapping, path: Path, _: str) -> tuple[MeshObject, ...]:
    mesh = meshconfig.config_map(fields, resource, path)
    return () if mesh is None else (mesh,)


def _istio_operator(fields: Fields, resource: Mapping, path: Path, _: str) -> tuple[MeshObject, ...]:
    mesh = meshconfig.istio_operator(fields, resource, path)
    return () if mesh is None else (mesh,)


_READERS: dict[tuple[str, str], Reader] = {
    (POLICY_GROUP, POLICY_KIND): lambda f, r, p, ns: (peer_authentication(f, r, p, default_namespace=ns),),
    ("", "Namespace"): lambda f, r, p, ns: (services.namespace(f, r, p, default_namespace=ns),),
    ("", "ServiceAccount"): lambda f, r, p, ns: (services.service_account(f, r, p, default_namespace=ns),),
    ("", "Service"): lambda f, r, p, ns: (services.service(f, r, p, default_namespace=ns),),
    ("discovery.k8s.io", "EndpointSlice"): lambda f, r, p, ns: (
        services.endpoint_slice(f, r, p, default_namespace=ns),
    ),
    ("", "Node"): lambda f, r, p, ns: (services.node(f, r, p, default_namespace=ns),),
    ("networking.k8s.io", "ServiceCIDR"): lambda f, r, p, ns: (services.service_cidr(f, r, p, default_namespace=ns),),
    ("", "Pod"): lambda f, r, p, ns: (workloads.pod(f, r, p, default_namespace=ns),),
    **{("apps", kind): _controller(kind) for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")},
    **{("batch", kind): _controller(kind) for kind in ("Job", "CronJob")},
    ("networking.istio.io", "WorkloadEntry"): lambda f, r, p, ns: (
        machines.workload_entry(f, r, p, default_namespace=ns),
    ),
    ("networking.istio.io", "WorkloadGroup"): lambda f, r, p, ns: (
        machines.workload_group(f, r, p, default_namespace=ns),
    ),
    ("networking.istio.io", "ServiceEntry"): lambda f, r, p, ns: machines.service_entry(f, r, p, default_namespace=ns),
    ("networking.istio.io", "Sidecar"): lambda f, r, p, ns: (istio.sidecar(f, r, p, default_namespace=ns),),
    ("networking.istio.io", "DestinationRule"): lambda f, r, p, ns: (
        istio.destination_rule(f, r, p, default_namespace=ns),
    ),
    **{
        ("admissionregistration.k8s.io", kind): _webhooks(kind)
        for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
    },
    ("apiregistration.k8s.io", "APIService"): lambda f, r, p, ns: apiserver.api_service(f, r, p, default_namespace=ns),
    ("", "ConfigMap"): _config_map,
    ("install.istio.io", "IstioOperator"): _istio_operator,
}

_KNOWN_KINDS = frozenset(kind for _, kind in _READERS)


def check(value: object, *, place: Place, default_namespace: str = DEFAULT_NAMESPACE) -> Checked:
    """Validates one document of plain JSON values and converts it. An empty document says nothing, without a fault."""
    if value is None:
        return Checked()
    examination = _Examination(place, default_namespace)
    examination.resource(value, (), kind="", api_version="")
    return examination.result


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
    examination = _Examination(ItemPlace(place), default_namespace)
    examination.item(value, ("items", index), kind=kind, api_version=api_version)
    return examination.result


class _Examination:
    """One document: it is one resource, or a list of them."""

    def __init__(self, place: Place, default_namespace: str) -> None:
        self.place = place
        self.default_namespace = default_namespace
        self.objects: list[MeshObject] = []
        self.diagnostics: list[Diagnostic] = []
        self.passed_over: list[str] = []
        self.documents = 0

    @property
    def result(self) -> Checked:
        """What was found."""
        found = tuple(self.objects), tuple(self.diagnostics), tuple(self.passed_over)
        return Checked(*found, max(self.documents, 1))

    def resource(self, value: object, path: Path, *, kind: str, api_version: str) -> None:
        """Takes one resource in. `kind` and `api_version` are those that the items of a typed list leave out."""
        fields = Fields(self.place)
        if not isinstance(value, dict):
            message = f"a document must be a mapping, and this is {kind_of(value)}"
            fields.fault(NOT_A_RESOURCE, message, path, hint=_KUBECTL)
            self.diagnostics.extend(fields.faults)
            return
        kind = fields.text(value, "kind", path) or kind
        api_version = fields.text(value, "apiVersion", path) or api_version
        if not kind and not fields.faults:
            self._without_kind(fields, value, path)
        elif kind.endswith("List") and "items" in value and isinstance(value["items"], list | None):
            self._list(value, path, kind=kind, api_version=api_version)
        elif kind:
            self._known(fields, value, path, kind=kind, api_version=api_version)
        self.diagnostics.extend(fields.faults)

    def _known(self, fields: Fields, value: Mapping, path: Path, *, kind: str, api_version: str) -> None:
        fields.name_subject = lambda: _subject(kind, value, self.default_namespace)
        if kind in _KNOWN_KINDS and not api_version:
            fields.fault(MISSING_FIELD, "`apiVersion` is missing", path)
            return
        group = api_version.rpartition("/")[0]
        reader = _READERS.get((group, kind))
        if kind == POLICY_KIND and api_version not in POLICY_VERSIONS:
            message = f"`{shortened(api_version)}` has no {kind} that is known here"
            fields.fault(UNKNOWN_VERSION, message, (*path, "apiVersion"), hint=f"use {' or '.join(POLICY_VERSIONS)}")
        elif reader is None:
            self._other(fields, value, path, kind=kind, group=group)
        elif kind == "ConfigMap" and not _holds_mesh_config(value):
            self.passed_over.append(kind)
        elif kind == "Pod" and _has_ended(value):
            self.passed_over.append("Pod (ended)")
        else:
            self._read(reader, fields, value, path)

    def _read(self, reader: Reader, fields: Fields, value: Mapping, path: Path) -> None:
        found = reader(fields, value, path, self.default_namespace)
        if not fields.faults:
            self.objects.extend(found)

    def _other(self, fields: Fields, value: Mapping, path: Path, *, kind: str, group: str) -> None:
        """A resource of a kind that has no reader of its own."""
        known = passed_over.ISTIO_KINDS.get(group)
        if known is not None and kind not in known:
            message = f"`{shortened(group)}` has no kind {shortened(kind)}"
            fields.fault(INVALID_VALUE, message, (*path, "kind"), hint=nearest_hint(kind, known))
            return
        if passed_over.has_pod_template(value) and not passed_over.is_about_others(group):
            # Two groups may have a kind of one name: Knative's Service is named apart from Kubernetes'.
            self._read(_controller(f"{kind}.{group}" if kind in _KNOWN_KINDS else kind), fields, value, path)
            return
        noted = passed_over.noteworthy(
            value, fields.origin(path), group=group, kind=shortened(kind), default_namespace=self.default_namespace
        )
        if noted is not None:
            self.objects.append(noted)
        if noted is None or noted.because is not PassedOverBecause.NOT_UNDERSTOOD:
            self.passed_over.append(shortened(kind))

    def _list(self, value: Mapping, path: Path, *, kind: str, api_version: str) -> None:
        items = value["items"]
        for index, item in enumerate(items if isinstance(items, list) else ()):
            self.item(item, (*path, "items", index), kind=kind, api_version=api_version)

    def item(self, value: object, path: Path, *, kind: str, api_version: str) -> None:
        """Takes one item of a list in, whose `kind` and `api_version` are given."""
        self.documents += 1
        own = kind.removesuffix("List")
        self.resource(value, path, kind=own, api_version=api_version if own else "")

    def _without_kind(self, fields: Fields, value: Mapping, path: Path) -> None:
        if not path and meshconfig.is_mesh_config(value):
            fields.name_subject = lambda: "MeshConfig"
            mesh = meshconfig.mesh_config(fields, value, path)
            if not fields.faults:
                self.objects.append(mesh)
            return
        fields.fault(NOT_A_RESOURCE, "the document has no `kind`", path, hint=_KUBECTL)


def _subject(kind: str, value: Mapping, default_namespace: str) -> str:
    meta = value.get("metadata")
    name = meta.get("name") if isinstance(meta, dict) else None
    if not isinstance(name, str) or not isinstance(meta, dict):
        return kind
    namespace = meta.get("namespace")
    return f"{kind} {namespace if isinstance(namespace, str) else default_namespace}/{shortened(name)}"


_ENDED = ("Succeeded", "Failed")


def _has_ended(pod: Mapping) -> bool:
    """Whether no container of a Pod will run again: it takes no connections."""
    status = pod.get("status")
    return isinstance(status, dict) and status.get("phase") in _ENDED


def _holds_mesh_config(value: Mapping) -> bool:
    meta, data = value.get("metadata"), value.get("data")
    name = copied(meta, "name") if isinstance(meta, dict) else None
    return (
        isinstance(name, str)
        and holds(meshconfig.holds_mesh_config, name)
        and isinstance(data, dict)
        and data.get(meshconfig.CONFIG_MAP_KEY) is not None
    )
