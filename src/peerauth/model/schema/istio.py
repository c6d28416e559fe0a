"""Sidecar and DestinationRule: where applications really listen, and what clients are told to do about TLS.

Only what decides about connections is read; other fields are passed over. Source: Istio's networking reference.
"""

from __future__ import annotations

from collections.abc import Iterator

from peerauth.model.inventory import CaptureMode, DestinationRule, EgressListener, IngressListener, PortTls, Sidecar
from peerauth.model.schema.fields import Fields
from peerauth.model.schema.metadata import metadata
from peerauth.model.schema.place import Mapping, Path
from peerauth.model.schema.watched import label_set

_CAPTURE_MODES = {mode.value: mode for mode in CaptureMode}


def sidecar(fields: Fields, resource: Mapping, path: Path, *, default_namespace: str) -> Sidecar:
    """A Sidecar with its listeners of both directions."""
    meta = metadata(fields, resource, path, default_namespace=default_namespace)
    spec = fields.mapping(resource, "spec", path)
    where: Path = (*path, "spec")
    selector = fields.mapping(spec, "workloadSelector", where)
    return Sidecar(
        meta=meta,
        selector=label_set(fields.pairs(selector, "labels", (*where, "workloadSelector"))),
        ingress=tuple(
            found
            for at, listener in fields.mappings(spec, "ingress", where)
            if (found := _ingress(fields, listener, at)) is not None
        ),
        egress=tuple(_egress(fields, listener, at) for at, listener in fields.mappings(spec, "egress", where)),
    )


def _ingress(fields: Fields, listener: Mapping, path: Path) -> IngressListener | None:
    if listener.get("port") is None:
        fields.missing("port", path)
        return None
    port = fields.mapping(listener, "port", path)
    where: Path = (*path, "port")
    number = fields.required_port(port, "number", where)
    if number is None:
        return None
    return IngressListener(
        port=number,
        default_endpoint=fields.text(listener, "defaultEndpoint", path),
        bind=fields.text(listener, "bind", path),
        protocol=fields.text(port, "protocol", where, default="TCP"),
        name=fields.text(port, "name", where),
        origin=fields.origin((*where, "number")),
    )


def _egress(fields: Fields, listener: Mapping, path: Path) -> EgressListener:
    port = fields.mapping(listener, "port", path)
    where: Path = (*path, "port")
    mode = fields.text(listener, "captureMode", path)
    if mode:
        fields.one_of(mode, _CAPTURE_MODES, (*path, "captureMode"))
    return EgressListener(
        hosts=fields.texts(listener, "hosts", path),
        port=fields.port(port, "number", where),
        bind=fields.text(listener, "bind", path),
        protocol=fields.text(port, "protocol", where, default="TCP"),
        capture_mode=_CAPTURE_MODES.get(mode, CaptureMode.DEFAULT),
        origin=fields.origin((*where, "number") if port else path),
    )


def destination_rule(fields: Fields, resource: Mapping, path: Path, *, default_namespace: str) -> DestinationRule:
    """The TLS settings of a DestinationRule: for the host, for ports of it, and for subsets."""
    meta = metadata(fields, resource, path, default_namespace=default_namespace)
    spec = fields.mapping(resource, "spec", path)
    where: Path = (*path, "spec")
    host = fields.text(spec, "host", where)
    if not host:
        fields.missing("host", where)
    tls = list(_policy_tls(fields, spec, where, subset=""))
    for at, subset in fields.mappings(spec, "subsets", where):
        tls.extend(_policy_tls(fields, subset, at, subset=fields.text(subset, "name", at)))
    return DestinationRule(meta=meta, host=host, tls=tuple(tls))


def _policy_tls(fields: Fields, holder: Mapping, path: Path, *, subset: str) -> Iterator[PortTls]:
    policy = fields.mapping(holder, "trafficPolicy", path)
    where: Path = (*path, "trafficPolicy")
    yield from _tls(fields, policy, where, port=None, subset=subset)
    for at, setting in fields.mappings(policy, "portLevelSettings", where):
        number = fields.port(fields.mapping(setting, "port", at), "number", (*at, "port"))
        if number is not None:
            yield from _tls(fields, setting, at, port=number, subset=subset)


def _tls(fields: Fields, holder: Mapping, path: Path, *, port: int | None, subset: str) -> Iterator[PortTls]:
    if holder.get("tls") is None:
        return
    where: Path = (*path, "tls")
    mode = fields.text(fields.mapping(holder, "tls", path), "mode", where, default="DISABLE")
    yield PortTls(mode, port, subset, fields.origin((*where, "mode")))
