"""Workloads of Kubernetes: a Pod, or the pod template of a controller.

Only what decides about connections is read; other fields are passed over. Source: Kubernetes' API reference (Pod,
Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob); for the container `istio-proxy`, Istio's templates.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import msgspec

from peerauth.model.addresses import is_address
from peerauth.model.inventory import Admission, Port, Probe, ProxyRole, Workload
from peerauth.model.meta import Meta
from peerauth.model.schema.faults import INVALID_VALUE
from peerauth.model.schema.fields import Fields, shortened
from peerauth.model.schema.metadata import check_name, metadata
from peerauth.model.schema.place import Mapping, Path
from peerauth.model.schema.watched import holds

PROXY_CONTAINER = "istio-proxy"
"""The injected proxy of a Pod: its ports are not the application's."""
_ROLES = {role.value: role for role in (ProxyRole.SIDECAR, ProxyRole.ROUTER, ProxyRole.WAYPOINT)}

_PROBES = (("readinessProbe", "readiness"), ("livenessProbe", "liveness"), ("startupProbe", "startup"))
_PROTOCOLS = (("httpGet", "http"), ("tcpSocket", "tcp"), ("grpc", "grpc"))


def pod(fields: Fields, resource: Mapping, path: Path, *, default_namespace: str) -> Workload:
    """A Pod as it stands. The API server gives it a `uid` at admission, and nodes report its `status`."""
    meta = metadata(fields, resource, path, default_namespace=default_namespace)
    spec = fields.mapping(resource, "spec", path)
    status = fields.mapping(resource, "status", path)
    addresses = _pod_addresses(fields, status, path)
    uid = fields.copied(fields.mapping(resource, "metadata", path), "uid", (*path, "metadata"))
    pending = fields.text(status, "phase", (*path, "status")) == "Pending"
    admission = Admission.AHEAD
    if uid or status:
        admission = Admission.STARTING if pending and not addresses else Admission.PAST
    found = _workload(fields, spec, (*path, "spec"), meta=meta, kind="Pod")
    return msgspec.structs.replace(
        found,
        addresses=addresses,
        admission=admission,
        ready=_is_ready(fields, status, path, otherwise=not pending),
        terminating=_is_leaving(fields, resource, path),
    )


def controller(fields: Fields, resource: Mapping, path: Path, *, default_namespace: str, kind: str) -> Workload:
    """The pod template of a controller, under the controller's name."""
    own = metadata(fields, resource, path, default_namespace=default_namespace)
    where: Path = (*path, "spec")
    holder = fields.mapping(resource, "spec", path)
    if kind == "CronJob":
        job = fields.mapping(holder, "jobTemplate", where)
        holder, where = fields.mapping(job, "spec", (*where, "jobTemplate")), (*where, "jobTemplate", "spec")
    if holder.get("template") is None:
        fields.missing("template", where)
    template = fields.mapping(holder, "template", where)
    where = (*where, "template")
    template_meta = fields.mapping(template, "metadata", where)
    meta = Meta(
        name=own.name,
        namespace=own.namespace,
        labels=fields.labels(template_meta, "labels", (*where, "metadata")),
        annotations=fields.annotations(template_meta, "annotations", (*where, "metadata")),
        created=own.created,
        origin=own.origin,
    )
    return _workload(fields, fields.mapping(template, "spec", where), (*where, "spec"), meta=meta, kind=kind)


def _workload(fields: Fields, spec: Mapping, path: Path, *, meta: Meta, kind: str) -> Workload:
    ports: dict[int, Port] = {}
    probes: list[Probe] = []
    proxy = ProxyRole.ABSENT
    for where, container in _containers(fields, spec, path):
        if container.get("name") == PROXY_CONTAINER:
            proxy = _role(container)
            continue
        for port in _ports(fields, container, where):
            ports.setdefault(port.number, port)
        probes.extend(_probes(fields, container, where))
    return Workload(
        meta=meta,
        kind=kind,
        service_account=service_account(fields, spec, "serviceAccountName", path),
        ports=tuple(ports.values()),
        node=fields.copied(spec, "nodeName", path),
        host_network=fields.flag(spec, "hostNetwork", path),
        probes=tuple(probes),
        proxy=proxy,
    )


def _containers(fields: Fields, spec: Mapping, path: Path) -> Iterator[tuple[Path, Mapping]]:
    """The containers that run as long as the workload does: `restartPolicy: Always` makes one of an init container."""
    yield from fields.mappings(spec, "containers", path)
    for where, container in fields.mappings(spec, "initContainers", path):
        if container.get("restartPolicy") == "Always":
            yield where, container


def _role(container: Mapping) -> ProxyRole:
    """What follows the word `proxy` among the words that the proxy's container is started with."""
    words = [word for key in ("command", "args") for word in _listed(container.get(key))]
    following = dict(pairwise(words))
    return _ROLES.get(following.get("proxy", ""), ProxyRole.UNSAID)


def _listed(value: object) -> list[str]:
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def _ports(fields: Fields, container: Mapping, path: Path) -> Iterator[Port]:
    for where, port in fields.mappings(container, "ports", path):
        number = fields.required_port(port, "containerPort", where)
        name = fields.text(port, "name", where)
        if number is not None and fields.text(port, "protocol", where, default="TCP") == "TCP":
            yield Port(number, name, fields.origin((*where, "containerPort")))


def _probes(fields: Fields, container: Mapping, path: Path) -> Iterator[Probe]:
    for key, kind in _PROBES:
        if container.get(key) is None:
            continue
        probe = fields.mapping(container, key, path)
        for action, protocol in _PROTOCOLS:
            if probe.get(action) is None:
                continue
            where: Path = (*path, key, action)
            port = fields.port_or_name(fields.mapping(probe, action, (*path, key)), "port", where)
            if port is not None:
                yield Probe(kind, protocol, port, fields.origin((*where, "port")))


def service_account(fields: Fields, spec: Mapping, key: str, path: Path) -> str:
    """The service account by its field, or by the older name of a Pod's; `default` if nothing is said."""
    name = fields.copied(spec, key, path)
    if not name and key == "serviceAccountName":
        name = fields.copied(spec, key := "serviceAccount", path)
    if not name:
        return "default"
    check_name(fields, name, (*path, key))
    return name


def _is_ready(fields: Fields, status: Mapping, path: Path, *, otherwise: bool) -> bool:
    """Whether a Pod is ready by its condition `Ready`; `otherwise` if its status has no conditions at all."""
    where: Path = (*path, "status")
    said = [
        fields.text(condition, "status", at) == "True"
        for at, condition in fields.mappings(status, "conditions", where)
        if fields.text(condition, "type", at) == "Ready"
    ]
    return said[-1] if said else otherwise and not status.get("conditions")


def _is_leaving(fields: Fields, resource: Mapping, path: Path) -> bool:
    meta = fields.mapping(resource, "metadata", path)
    return bool(fields.copied(meta, "deletionTimestamp", (*path, "metadata")))


def _pod_addresses(fields: Fields, status: Mapping, path: Path) -> tuple[str, ...]:
    where: Path = (*path, "status")
    items = fields.mappings(status, "podIPs", where)
    found = [(text, (*at, "ip")) for at, item in items if (text := fields.copied(item, "ip", at))]
    if not holds(_differ, *(address for address, _ in found)):
        found = list({address: (address, at) for address, at in found}.values())
    own = fields.copied(status, "podIP", where)
    if own and not holds(_is_among, own, *(address for address, _ in found)):
        found.append((own, (*where, "podIP")))
    for address, at in found:
        if not holds(is_address, address):
            fields.fault(INVALID_VALUE, f"{shortened(address)!r} is not an IP address", at)
    return tuple(address for address, _ in found)


def _differ(*texts: str) -> bool:
    return len(set(texts)) == len(texts)


def _is_among(text: str, *others: str) -> bool:
    return text in others
