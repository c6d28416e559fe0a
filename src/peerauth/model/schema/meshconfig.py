"""Mesh configurations: a MeshConfig of its own, one in a ConfigMap's `data.mesh`, or an IstioOperator's.

Of MeshConfig's many fields only those that decide about connections are read; others are passed over. The ConfigMap
`istio` is the default revision's, `istio-REVISION` that of another. Source: Istio's MeshConfig and IstioOperator
references, and the charts that its installer renders: `spec.meshConfig` over `spec.values.meshConfig`, the root
namespace from `spec.values.global.istioNamespace` where neither names one, and the ports that sidecars get from
`spec.values.global.proxy`. They read no trust domain elsewhere.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

import msgspec
from msgspec import Meta, field

from peerauth.model import mesh
from peerauth.model.mesh import CIPHER_SUITES, DEFAULT_MESH, DEFAULT_REVISION, OutboundTraffic, Redirection, TlsVersion
from peerauth.model.schema.description import Document, extra, one_of, text_rule
from peerauth.model.schema.faults import INVALID_NAME, INVALID_VALUE
from peerauth.model.schema.fields import NamespaceOrEmpty
from peerauth.model.schema.namespaceselectors import LabelSelector, namespace_selectors
from peerauth.model.schema.place import Mapping, Path, Place
from peerauth.model.schema.report import Report
from peerauth.model.schema.typed import typed

CONFIG_MAP = "istio"
CONFIG_MAP_KEY = "mesh"
EMPTY_PROFILE = "empty"
"""The profile of an IstioOperator that installs nothing but what is enabled by name."""

MESH_CONFIG_FIELDS = frozenset(
    {
        "rootNamespace",
        "trustDomain",
        "trustDomainAliases",
        "enableAutoMtls",
        "meshMTLS",
        "protocolDetectionTimeout",
        "defaultConfig",
        "accessLogFile",
        "enablePrometheusMerge",
        "outboundTrafficPolicy",
        "extensionProviders",
        "defaultProviders",
        "discoverySelectors",
        "ingressService",
    }
)
"""What a document without a kind is known for a MeshConfig by: any one of these, all of them peculiar to it."""

_TLS_VERSIONS = {version.value: version for version in TlsVersion}
_OUTBOUND_TRAFFIC = {mode.value: mode for mode in OutboundTraffic}
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_GO_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def go_duration(text: str) -> timedelta | None:
    """A duration as Go writes it (`1m30s`, `100ms`, `0`), or None if the text is not one that a timeout can have."""
    if text == "0":
        return timedelta()
    parts = _GO_DURATION.findall(text) if len(text) <= 40 else []
    if not parts or "".join(parts) != text:
        return None
    seconds = 0.0
    for part in parts:
        number = part.rstrip("nsuµμmh")
        seconds += float(number) * _UNITS[part[len(number) :]]
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        return None


def _is_trust_domain(text: str) -> bool:
    return _TRUST_DOMAIN.fullmatch(text) is not None


def _is_duration(text: str) -> bool:
    return go_duration(text) is not None


_ALIAS, _TRUST_DOMAIN_OR_EMPTY = (
    text_rule(
        INVALID_NAME,
        _is_trust_domain,
        "is not a trust domain",
        hint="lower-case letters, digits, '.', '_' and '-', at most 255",
        or_empty=or_empty,
    )
    for or_empty in (False, True)
)
_TIME = text_rule(
    INVALID_VALUE,
    _is_duration,
    "is not a duration",
    hint="a number with a unit, such as 5s or 100ms",
    or_empty=True,
)
_VERSION = one_of(INVALID_VALUE, _TLS_VERSIONS)
_TRAFFIC = one_of(INVALID_VALUE, _OUTBOUND_TRAFFIC)
_SUITE = one_of(INVALID_VALUE, CIPHER_SUITES, or_empty=False)


class MeshMtls(Document):
    """What proxies take of TLS."""

    min_protocol_version: Annotated[str, Meta(extra=extra(_VERSION))] | None = None
    cipher_suites: list[Annotated[str, Meta(extra=extra(_SUITE))]] | None = None


class ProxyConfig(Document):
    """What all proxies are told, if their pods do not say otherwise."""

    interception_mode: str | None = None


class OutboundTrafficPolicy(Document):
    """What becomes of connections to addresses that the mesh does not know."""

    mode: Annotated[str, Meta(extra=extra(_TRAFFIC))] | None = None


class MeshConfig(Document):
    """A mesh configuration. What stands among the aliases is let in as a trust domain of its own."""

    root_namespace: NamespaceOrEmpty | None = None
    mesh_mtls: MeshMtls | None = field(default=None, name="meshMTLS")
    discovery_selectors: list[LabelSelector] | None = None
    trust_domain: Annotated[str, Meta(extra=extra(_TRUST_DOMAIN_OR_EMPTY))] | None = None
    trust_domain_aliases: list[Annotated[str, Meta(extra=extra(_ALIAS))]] | None = None
    enable_auto_mtls: bool | None = None
    protocol_detection_timeout: Annotated[str, Meta(extra=extra(_TIME))] | None = None
    default_config: ProxyConfig | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None


class ConfigMapMeta(Document):
    """The metadata of a ConfigMap: its name says whose configuration it is."""

    name: str | None = None


class ConfigMapData(Document):
    """What a ConfigMap of an istiod holds."""

    mesh: str | None = None


class ConfigMap(Document):
    """A ConfigMap."""

    metadata: ConfigMapMeta | None = None
    data: ConfigMapData | None = None


class Component(Document):
    """A part of Istio."""

    enabled: bool | None = None


class Components(Document):
    """The parts of Istio."""

    pilot: Component | None = None


class Installation(Document):
    """Which parts an IstioOperator installs."""

    profile: str | None = None
    components: Components | None = None


class Installed(Document):
    """An IstioOperator, as far as it says whether it installs an istiod."""

    spec: Installation | None = None


class ProxyValues(Document):
    """Ports that are taken, or not: a single one without quotes is a number, which a template writes as any text."""

    include_inbound_ports: object = None
    exclude_inbound_ports: object = None


class GlobalValues(Document):
    """Values of all charts."""

    istio_namespace: NamespaceOrEmpty | None = None
    proxy: ProxyValues | None = None


class Values(Document):
    """Values of the charts."""

    global_: GlobalValues | None = field(default=None, name="global")
    revision: str | None = None
    mesh_config: MeshConfig | None = None


class OperatorSpec(Document):
    """What an IstioOperator says of its istiod."""

    values: Values | None = None
    revision: str | None = None
    mesh_config: MeshConfig | None = None


class IstioOperator(Document):
    """An IstioOperator that installs an istiod."""

    spec: OperatorSpec | None = None


def mesh_config(
    document: MeshConfig, place: Place, path: Path = (), *, base: mesh.MeshConfig = DEFAULT_MESH
) -> mesh.MeshConfig:
    """The configuration of the mesh; what it does not say is `base`'s, which is Istio's default."""
    mtls = document.mesh_mtls or MeshMtls()
    timeout, said = document.protocol_detection_timeout, document.enable_auto_mtls
    proxies = document.default_config
    return mesh.MeshConfig(
        root_namespace=document.root_namespace or base.root_namespace,
        trust_domain=document.trust_domain or base.trust_domain,
        trust_domain_aliases=tuple(document.trust_domain_aliases or base.trust_domain_aliases),
        enable_auto_mtls=base.enable_auto_mtls if said is None else said,
        min_tls_version=_TLS_VERSIONS.get(mtls.min_protocol_version or "", base.min_tls_version),
        cipher_suites=tuple(mtls.cipher_suites or base.cipher_suites),
        protocol_detection_timeout=_duration(timeout, otherwise=base.protocol_detection_timeout),
        discovery_selectors=namespace_selectors(document.discovery_selectors or ()) or base.discovery_selectors,
        redirection=_redirection(proxies.interception_mode if proxies else None, base=base.redirection),
        outbound_traffic=_outbound_traffic(document.outbound_traffic_policy, otherwise=base.outbound_traffic),
        revision=base.revision,
        origin=place.value(path),
    )


def config_map(report: Report) -> tuple[mesh.MeshConfig, ...]:
    """The MeshConfig inside the ConfigMap."""
    document = typed(report, report.mapping, ConfigMap)
    if document is None or document.metadata is None or document.data is None:
        return ()
    inside = report.place.embedded(("data", CONFIG_MAP_KEY), document.data.mesh or "")
    report.faults.extend(inside.diagnostics)
    if inside.diagnostics:
        return ()
    revision = (document.metadata.name or "").removeprefix(CONFIG_MAP).removeprefix("-")
    nested = Report(report.mapping, inside.place, report.default_namespace, kind=report.kind)
    config = inside.value if inside.value is not None else {}
    found = None
    if isinstance(config, dict):
        found = typed(nested, config, MeshConfig)
    else:
        nested.wrong_type(config, (), "a mapping")
    report.faults.extend(nested.faults)
    return () if found is None else (mesh_config(found, inside.place, base=_of_revision(revision)),)


def holds_mesh_config(value: Mapping) -> bool:
    """Whether a ConfigMap is one that an istiod reads: by its name, and by its key `mesh`."""
    metadata, data = value.get("metadata"), value.get("data")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not (name == CONFIG_MAP or name.startswith(f"{CONFIG_MAP}-")):
        return False
    return isinstance(data, dict) and data.get(CONFIG_MAP_KEY) is not None


def istio_operator(report: Report) -> tuple[mesh.MeshConfig, ...]:
    """The MeshConfig that an IstioOperator installs; none if it installs no istiod (one for gateways alone)."""
    installed = typed(report, report.mapping, Installed)
    if installed is not None and not _has_istiod(installed.spec or Installation()):
        return ()
    document = typed(report, report.mapping, IstioOperator)
    return () if document is None else (_operated(document.spec or OperatorSpec(), report.place),)


def _has_istiod(spec: Installation) -> bool:
    pilot = spec.components.pilot if spec.components else None
    enabled = pilot.enabled if pilot else None
    return spec.profile != EMPTY_PROFILE if enabled is None else enabled


def _operated(spec: OperatorSpec, place: Place) -> mesh.MeshConfig:
    values = spec.values or Values()
    chart = values.global_ or GlobalValues()
    found = _of_revision(spec.revision or values.revision or "", root_namespace=chart.istio_namespace or "")
    found = msgspec.structs.replace(found, redirection=_injected_redirection(chart.proxy or ProxyValues()))
    for config in (values.mesh_config, spec.mesh_config):
        found = mesh_config(config or MeshConfig(), place, base=found)
    return found


def _of_revision(revision: str, *, root_namespace: str = "") -> mesh.MeshConfig:
    return mesh.MeshConfig(
        root_namespace=root_namespace or DEFAULT_MESH.root_namespace, revision=revision or DEFAULT_REVISION
    )


def _injected_redirection(proxy: ProxyValues) -> Redirection:
    """What the injector's template writes where a pod's annotations say nothing."""
    lists = (proxy.include_inbound_ports, proxy.exclude_inbound_ports)
    included, excluded = (None if said is None else str(said) for said in lists)
    return Redirection(
        included=DEFAULT_MESH.redirection.included if included is None else included, excluded=excluded or ""
    )


def _redirection(mode: str | None, *, base: Redirection) -> Redirection:
    return msgspec.structs.replace(base, intercepts=mode != "NONE") if mode else base


def _outbound_traffic(policy: OutboundTrafficPolicy | None, *, otherwise: OutboundTraffic) -> OutboundTraffic:
    """A policy that names no mode is REGISTRY_ONLY, the first of the enum; ALLOW_ANY is what no policy at all means."""
    if policy is None:
        return otherwise
    return _OUTBOUND_TRAFFIC.get(policy.mode or "", OutboundTraffic.REGISTRY_ONLY)


def is_mesh_config(resource: Mapping) -> bool:
    """Whether a document without a kind is a mesh configuration."""
    return not MESH_CONFIG_FIELDS.isdisjoint(resource)


def _duration(text: str | None, *, otherwise: timedelta) -> timedelta:
    duration = go_duration(text) if text else None
    return otherwise if duration is None else duration
