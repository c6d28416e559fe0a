"""Sidecar and DestinationRule: where applications really listen, and what clients are told to do about TLS.

Only what decides about connections is read; other fields are passed over. Source: Istio's networking reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from peerauth.model import inventory
from peerauth.model.inventory import CaptureMode, EgressListener, IngressListener, PortTls
from peerauth.model.schema import fields
from peerauth.model.schema.description import Document, extra, one_of
from peerauth.model.schema.faults import INVALID_VALUE
from peerauth.model.schema.fields import Needed
from peerauth.model.schema.metadata import AS_EMPTY, Resource, label_set, object_meta
from peerauth.model.schema.place import Path, Place
from peerauth.model.schema.report import Report

_CAPTURE_MODES = {mode.value: mode for mode in CaptureMode}


class WorkloadSelector(Document):
    """The workloads that a Sidecar is for."""

    labels: dict[str, str] | None = None


class IngressPort(Document):
    """The port of a listener for incoming connections."""

    number: fields.Port
    protocol: str | None = None
    name: str | None = None


class Ingress(Document):
    """A listener for incoming connections."""

    port: IngressPort
    default_endpoint: str | None = None
    bind: str | None = None


class EgressPort(Document):
    """The port of a listener for outgoing connections."""

    number: fields.Port | None = None
    protocol: str | None = None


_NO_PORT = EgressPort()


class Egress(Document):
    """A listener for outgoing connections."""

    port: EgressPort | None = None
    capture_mode: Annotated[str, Meta(extra=extra(one_of(INVALID_VALUE, _CAPTURE_MODES)))] | None = None
    hosts: list[str] | None = None
    bind: str | None = None


class SidecarSpec(Document):
    """What a Sidecar says."""

    workload_selector: WorkloadSelector | None = None
    ingress: list[Ingress] | None = None
    egress: list[Egress] | None = None


class Sidecar(Resource):
    """A Sidecar."""

    spec: SidecarSpec | None = None


def sidecar(document: Sidecar, report: Report) -> inventory.Sidecar:
    """A Sidecar with its listeners of both directions."""
    spec = document.spec or SidecarSpec()
    return inventory.Sidecar(
        meta=object_meta(document.metadata, report),
        selector=label_set(spec.workload_selector.labels if spec.workload_selector else None),
        ingress=tuple(_ingress(one, index, report.place) for index, one in enumerate(spec.ingress or ())),
        egress=tuple(_egress(one, index, report) for index, one in enumerate(spec.egress or ())),
    )


def _ingress(listener: Ingress, index: int, place: Place) -> IngressListener:
    port = listener.port
    return IngressListener(
        port=port.number,
        default_endpoint=listener.default_endpoint or "",
        bind=listener.bind or "",
        protocol="TCP" if port.protocol is None else port.protocol,
        name=port.name or "",
        origin=place.value(("spec", "ingress", index, "port", "number")),
    )


def _egress(listener: Egress, index: int, report: Report) -> EgressListener:
    port = listener.port or _NO_PORT
    path: Path = ("spec", "egress", index)
    return EgressListener(
        hosts=tuple(listener.hosts or ()),
        port=port.number,
        bind=listener.bind or "",
        protocol="TCP" if port.protocol is None else port.protocol,
        capture_mode=_CAPTURE_MODES.get(listener.capture_mode or "", CaptureMode.DEFAULT),
        origin=report.place.value((*path, "port", "number") if port != _NO_PORT else path),
    )


class ClientTls(Document):
    """TLS settings of clients."""

    mode: str | None = None


class PortNumber(Document):
    """A port by its number."""

    number: fields.Port | None = None


class PortSettings(Document):
    """Settings of one port."""

    port: PortNumber | None = None
    tls: ClientTls | None = None


class TrafficPolicy(Document):
    """Settings for a host or a subset of it."""

    tls: ClientTls | None = None
    port_level_settings: list[PortSettings] | None = None


class Subset(Document):
    """A subset of a host's endpoints."""

    traffic_policy: TrafficPolicy | None = None
    name: str | None = None


class RuleSpec(Document):
    """What a DestinationRule says."""

    host: Needed
    traffic_policy: TrafficPolicy | None = None
    subsets: list[Subset] | None = None


class DestinationRule(Resource):
    """A DestinationRule."""

    spec: Annotated[RuleSpec, AS_EMPTY]


def destination_rule(document: DestinationRule, report: Report) -> inventory.DestinationRule:
    """The TLS settings of a DestinationRule: for the host, for ports of it, and for subsets."""
    spec = document.spec
    tls = list(_policy_tls(spec.traffic_policy, ("spec",), report.place, subset=""))
    for index, subset in enumerate(spec.subsets or ()):
        path: Path = ("spec", "subsets", index)
        tls.extend(_policy_tls(subset.traffic_policy, path, report.place, subset=subset.name or ""))
    return inventory.DestinationRule(meta=object_meta(document.metadata, report), host=spec.host, tls=tuple(tls))


def _policy_tls(policy: TrafficPolicy | None, path: Path, place: Place, *, subset: str) -> Iterator[PortTls]:
    if policy is None:
        return
    where: Path = (*path, "trafficPolicy")
    yield from _tls(policy.tls, where, place, port=None, subset=subset)
    for index, settings in enumerate(policy.port_level_settings or ()):
        number = settings.port.number if settings.port is not None else None
        if number is not None:
            at = (*where, "portLevelSettings", index)
            yield from _tls(settings.tls, at, place, port=number, subset=subset)


def _tls(tls: ClientTls | None, path: Path, place: Place, *, port: int | None, subset: str) -> Iterator[PortTls]:
    if tls is not None:
        mode = "DISABLE" if tls.mode is None else tls.mode
        yield PortTls(mode, port, subset, place.value((*path, "tls", "mode")))
