"""Workloads of Kubernetes: a Pod, or the pod template of a controller.

Only what decides about connections is read; other fields are passed over. Source: Kubernetes' API reference (Pod,
Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob); for the container `istio-proxy`, Istio's templates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated

from msgspec import field

from peerauth.model import inventory
from peerauth.model.inventory import Admission, ProxyRole, Workload
from peerauth.model.meta import Meta
from peerauth.model.schema import fields
from peerauth.model.schema.description import Document, Rule, Trouble
from peerauth.model.schema.fields import Address, Annotations, Labels, PortOrName
from peerauth.model.schema.metadata import AS_EMPTY, ObjectMeta, Resource, label_set, object_meta
from peerauth.model.schema.names import is_subdomain
from peerauth.model.schema.place import Mapping, Path, Place
from peerauth.model.schema.report import Report

PROXY_CONTAINER = "istio-proxy"
"""The injected proxy of a Pod: its ports are not the application's."""
_ROLES = {role.value: role for role in (ProxyRole.SIDECAR, ProxyRole.ROUTER, ProxyRole.WAYPOINT)}


class Port(Document):
    """A port of a container."""

    container_port: fields.Port
    name: str | None = None
    protocol: str | None = None


class Action(Document):
    """What a probe does: `httpGet`, `tcpSocket` or `grpc`."""

    port: PortOrName | None = None


class Probe(Document):
    """A probe of the kubelet."""

    http_get: Action | None = None
    tcp_socket: Action | None = None
    grpc: Action | None = None


class Container(Document):
    """A container of a pod. What it is started with is read of the proxy's, as far as it can be."""

    name: object = None
    ports: list[Port] | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    startup_probe: Probe | None = None
    restart_policy: object = None
    command: object = None
    args: object = None


def _account_key(spec: Mapping) -> str:
    """The field that says the service account: its own, or if that is empty, the older one."""
    return "serviceAccountName" if spec.get("serviceAccountName") else "serviceAccount"


def _account_troubles(spec: Mapping) -> Iterator[Trouble]:
    key = _account_key(spec)
    name = spec.get(key)
    if isinstance(name, str) and name:
        for trouble in fields.SUBDOMAIN.troubles(name):
            yield trouble._replace(path=(key,))


def _has_an_account(spec: Mapping) -> bool:
    name = spec.get(_account_key(spec))
    return not isinstance(name, str) or not name or is_subdomain(name)


class PodSpec(Document):
    """What a pod is to be. Init containers count that run as long as it does."""

    rule = Rule(_account_troubles, holds=_has_an_account)
    containers: list[Container] | None = None
    init_containers: list[Container] | None = None
    service_account_name: str | None = None
    service_account: str | None = None
    node_name: str | None = None
    host_network: bool | None = None


class PodAddress(Document):
    """One of a pod's addresses."""

    ip: Address | None = None


class Condition(Document):
    """Something that is so of a pod, or not, or unknown."""

    type: str | None = None
    status: str | None = None


class PodStatus(Document):
    """What nodes report of a pod."""

    conditions: list[Condition] | None = None
    pod_ips: list[PodAddress] | None = field(default=None, name="podIPs")
    pod_ip: Address | None = field(default=None, name="podIP")
    phase: str | None = None


class PodMeta(ObjectMeta):
    """A pod's metadata. The API server gives it a `uid` at admission, and a `deletionTimestamp` when it is to go."""

    uid: str | None = None
    deletion_timestamp: str | None = None


class Pod(Document):
    """A Pod as it stands."""

    metadata: Annotated[PodMeta, AS_EMPTY]
    spec: PodSpec | None = None
    status: PodStatus | None = None


class TemplateMeta(Document):
    """The metadata of a pod template: pods are named by their controller."""

    labels: Labels | None = None
    annotations: Annotations | None = None


class PodTemplate(Document):
    """What the pods of a controller are made from."""

    metadata: TemplateMeta | None = None
    spec: PodSpec | None = None


class TemplateHolder(Document):
    """What has a pod template."""

    template: PodTemplate


class Controller(Resource):
    """Whatever has a pod template where controllers have theirs."""

    spec: Annotated[TemplateHolder, AS_EMPTY]


class JobTemplate(Document):
    """The jobs that a CronJob makes."""

    spec: Annotated[TemplateHolder, AS_EMPTY]


class CronJobSpec(Document):
    """What a CronJob is to make."""

    job_template: Annotated[JobTemplate, AS_EMPTY]


class CronJob(Resource):
    """A CronJob: its pod template is that of its jobs."""

    spec: Annotated[CronJobSpec, AS_EMPTY]


_NO_SPEC = PodSpec()
_NO_META = TemplateMeta()
_POD_SPEC: Path = ("spec",)


def pod(document: Pod, report: Report) -> Workload:
    """A Pod as a workload."""
    said, status = document.metadata, document.status
    addresses: tuple[str, ...] = ()
    admission, ready = Admission.PAST if said.uid else Admission.AHEAD, True
    if status is not None:
        addresses, pending = _addresses(status), status.phase == "Pending"
        ready = _is_ready(status, otherwise=not pending)
        if said.uid or report.mapping.get("status"):
            admission = Admission.STARTING if pending and not addresses else Admission.PAST
    return _workload(
        document.spec or _NO_SPEC,
        _POD_SPEC,
        report,
        meta=object_meta(said, report),
        kind="Pod",
        addresses=addresses,
        admission=admission,
        ready=ready,
        terminating=bool(said.deletion_timestamp),
    )


def controller(document: Controller, report: Report, *, kind: str) -> Workload:
    """The pod template of a controller, under the controller's name."""
    return _templated(document, document.spec.template, ("spec", "template"), report, kind=kind)


def cron_job(document: CronJob, report: Report) -> Workload:
    """The pod template of a CronJob's jobs, under its own name."""
    template = document.spec.job_template.spec.template
    return _templated(document, template, ("spec", "jobTemplate", "spec", "template"), report, kind="CronJob")


def _templated(document: Resource, template: PodTemplate, path: Path, report: Report, *, kind: str) -> Workload:
    own, said = object_meta(document.metadata, report), template.metadata or _NO_META
    labels, annotations = label_set(said.labels), label_set(said.annotations)
    meta = Meta(own.name, own.namespace, labels, annotations, own.created, own.origin)
    return _workload(template.spec or _NO_SPEC, (*path, "spec"), report, meta=meta, kind=kind)


def _workload(
    spec: PodSpec,
    path: Path,
    report: Report,
    *,
    meta: Meta,
    kind: str,
    addresses: tuple[str, ...] = (),
    admission: Admission = Admission.AHEAD,
    ready: bool = True,
    terminating: bool = False,
) -> Workload:
    ports: dict[int, inventory.Port] = {}
    probes: list[inventory.Probe] = []
    proxy = ProxyRole.ABSENT
    for where, container in _containers(spec, path):
        if container.name == PROXY_CONTAINER:
            proxy = _role(container)
            continue
        if container.ports:
            _add_ports(ports, container.ports, where, report.place)
        if container.readiness_probe or container.liveness_probe or container.startup_probe:
            probes.extend(_probes(container, where, report.place))
    return Workload(
        meta=meta,
        kind=kind,
        service_account=spec.service_account_name or spec.service_account or "default",
        ports=tuple(ports.values()),
        addresses=addresses,
        node=spec.node_name or "",
        host_network=bool(spec.host_network),
        probes=tuple(probes),
        admission=admission,
        proxy=proxy,
        ready=ready,
        terminating=terminating,
    )


def _containers(spec: PodSpec, path: Path) -> list[tuple[Path, Container]]:
    """The containers that run as long as the workload does: `restartPolicy: Always` makes one of an init container."""
    found = [((*path, "containers", index), one) for index, one in enumerate(spec.containers or ())]
    for index, one in enumerate(spec.init_containers or ()):
        if one.restart_policy == "Always":
            found.append(((*path, "initContainers", index), one))
    return found


def _add_ports(known: dict[int, inventory.Port], ports: Sequence[Port], path: Path, place: Place) -> None:
    for index, port in enumerate(ports):
        number = port.container_port
        if number not in known and (port.protocol is None or port.protocol == "TCP"):
            origin = place.value((*path, "ports", index, "containerPort"))
            known[number] = inventory.Port(number, port.name or "", origin)


def _role(container: Container) -> ProxyRole:
    """What follows the word `proxy` among the words that the proxy's container is started with."""
    words = [word for said in (container.command, container.args) for word in _listed(said)]
    following = dict(pairwise(words))
    return _ROLES.get(following.get("proxy", ""), ProxyRole.UNSAID)


def _listed(value: object) -> list[str]:
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def _probes(container: Container, path: Path, place: Place) -> Iterator[inventory.Probe]:
    for probe, key, kind in (
        (container.readiness_probe, "readinessProbe", "readiness"),
        (container.liveness_probe, "livenessProbe", "liveness"),
        (container.startup_probe, "startupProbe", "startup"),
    ):
        if probe is None:
            continue
        for action, name, protocol in (
            (probe.http_get, "httpGet", "http"),
            (probe.tcp_socket, "tcpSocket", "tcp"),
            (probe.grpc, "grpc", "grpc"),
        ):
            if action is not None and action.port is not None:
                yield inventory.Probe(kind, protocol, action.port, place.value((*path, key, name, "port")))


def _is_ready(status: PodStatus, *, otherwise: bool) -> bool:
    """Whether a Pod is ready by its condition `Ready`; `otherwise` if its status has no conditions at all."""
    if not status.conditions:
        return otherwise
    said = [condition.status == "True" for condition in status.conditions if condition.type == "Ready"]
    return bool(said) and said[-1]


def _addresses(status: PodStatus) -> tuple[str, ...]:
    """All addresses that are said, each once."""
    own = [one.ip for one in status.pod_ips or () if one.ip]
    return tuple(dict.fromkeys([*own, status.pod_ip] if status.pod_ip else own))
