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

import msgspec

from peerauth.model.mesh import (
    CIPHER_SUITES,
    DEFAULT_MESH,
    DEFAULT_REVISION,
    MeshConfig,
    OutboundTraffic,
    Redirection,
    TlsVersion,
)
from peerauth.model.schema.faults import INVALID_NAME, INVALID_VALUE
from peerauth.model.schema.fields import Fields, shortened
from peerauth.model.schema.metadata import check_namespace
from peerauth.model.schema.namespaceselectors import namespace_selectors
from peerauth.model.schema.place import Mapping, Path

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


def mesh_config(fields: Fields, config: Mapping, path: Path, *, base: MeshConfig = DEFAULT_MESH) -> MeshConfig:
    """The configuration of the mesh; what it does not say is `base`'s, which is Istio's default."""
    root = fields.text(config, "rootNamespace", path)
    if root:
        check_namespace(fields, root, (*path, "rootNamespace"))
    mtls = fields.mapping(config, "meshMTLS", path)
    mtls_path: Path = (*path, "meshMTLS")
    version = fields.text(mtls, "minProtocolVersion", mtls_path)
    if version:
        fields.one_of(version, _TLS_VERSIONS, (*mtls_path, "minProtocolVersion"))
    selectors = namespace_selectors(fields, config, "discoverySelectors", path)
    return MeshConfig(
        root_namespace=root or base.root_namespace,
        trust_domain=_trust_domain(fields, config, path) or base.trust_domain,
        trust_domain_aliases=_aliases(fields, config, path) or base.trust_domain_aliases,
        enable_auto_mtls=fields.flag(config, "enableAutoMtls", path, default=base.enable_auto_mtls),
        min_tls_version=_TLS_VERSIONS.get(version, base.min_tls_version),
        cipher_suites=_cipher_suites(fields, mtls, mtls_path) or base.cipher_suites,
        protocol_detection_timeout=_duration(fields, config, path, otherwise=base.protocol_detection_timeout),
        discovery_selectors=selectors or base.discovery_selectors,
        redirection=_redirection(fields, config, path, base=base.redirection),
        outbound_traffic=_outbound_traffic(fields, config, path, otherwise=base.outbound_traffic),
        revision=base.revision,
        origin=fields.origin(path),
    )


def config_map(fields: Fields, resource: Mapping, path: Path) -> MeshConfig | None:
    """The MeshConfig inside the ConfigMap; None if it could not be read."""
    data = fields.mapping(resource, "data", path)
    text = fields.text(data, CONFIG_MAP_KEY, (*path, "data"))
    inside = fields.place.embedded((*path, "data", CONFIG_MAP_KEY), text)
    fields.faults.extend(inside.diagnostics)
    if inside.diagnostics:
        return None
    name = fields.text(fields.mapping(resource, "metadata", path), "name", (*path, "metadata"))
    revision = name.removeprefix(CONFIG_MAP).removeprefix("-")
    nested = Fields(inside.place, name_subject=fields.name_subject)
    config = inside.value if inside.value is not None else {}
    mesh = None
    if isinstance(config, dict):
        mesh = mesh_config(nested, config, (), base=_of_revision(revision))
    else:
        nested.wrong_type(config, (), "a mapping")
    fields.faults.extend(nested.faults)
    return mesh


def holds_mesh_config(name: str) -> bool:
    """Whether a ConfigMap of this name is one that an istiod reads, if it has the key `mesh`."""
    return name == CONFIG_MAP or name.startswith(f"{CONFIG_MAP}-")


def istio_operator(fields: Fields, resource: Mapping, path: Path) -> MeshConfig | None:
    """The MeshConfig that an IstioOperator installs; None if it installs no istiod (one for gateways alone)."""
    where: Path = (*path, "spec")
    spec = fields.mapping(resource, "spec", path)
    pilot, pilot_path = spec, where
    for key in ("components", "pilot"):
        pilot = fields.mapping(pilot, key, pilot_path)
        pilot_path = (*pilot_path, key)
    has_istiod = fields.text(spec, "profile", where) != EMPTY_PROFILE
    if not fields.flag(pilot, "enabled", pilot_path, default=has_istiod):
        return None
    values, values_path = fields.mapping(spec, "values", where), (*where, "values")
    installed = fields.mapping(values, "global", values_path)
    root = fields.text(installed, "istioNamespace", (*values_path, "global"))
    if root:
        check_namespace(fields, root, (*values_path, "global", "istioNamespace"))
    revision = fields.text(spec, "revision", where) or fields.text(values, "revision", values_path)
    redirection = _injected_redirection(fields, installed, (*values_path, "global"))
    mesh = msgspec.structs.replace(_of_revision(revision, root_namespace=root), redirection=redirection)
    for holder, at in ((values, values_path), (spec, where)):
        mesh = mesh_config(fields, fields.mapping(holder, "meshConfig", at), (*at, "meshConfig"), base=mesh)
    return msgspec.structs.replace(mesh, origin=fields.origin(path))


def _of_revision(revision: str, *, root_namespace: str = "") -> MeshConfig:
    return MeshConfig(
        root_namespace=root_namespace or DEFAULT_MESH.root_namespace, revision=revision or DEFAULT_REVISION
    )


def _injected_redirection(fields: Fields, installed: Mapping, path: Path) -> Redirection:
    """What the injector's template writes where a pod's annotations say nothing."""
    proxy = fields.mapping(installed, "proxy", path)
    lists = [proxy.get(key) for key in ("includeInboundPorts", "excludeInboundPorts")]
    # A single port without quotes is a number, which a template writes as any text.
    included, excluded = (None if said is None else str(said) for said in lists)
    return Redirection(
        included=DEFAULT_MESH.redirection.included if included is None else included, excluded=excluded or ""
    )


def _redirection(fields: Fields, config: Mapping, path: Path, *, base: Redirection) -> Redirection:
    where: Path = (*path, "defaultConfig")
    mode = fields.text(fields.mapping(config, "defaultConfig", path), "interceptionMode", where)
    return msgspec.structs.replace(base, intercepts=mode != "NONE") if mode else base


def _outbound_traffic(fields: Fields, config: Mapping, path: Path, *, otherwise: OutboundTraffic) -> OutboundTraffic:
    """A policy that names no mode is REGISTRY_ONLY, the first of the enum; ALLOW_ANY is what no policy at all means."""
    if config.get("outboundTrafficPolicy") is None:
        return otherwise
    where: Path = (*path, "outboundTrafficPolicy")
    mode = fields.text(fields.mapping(config, "outboundTrafficPolicy", path), "mode", where)
    if mode:
        fields.one_of(mode, _OUTBOUND_TRAFFIC, (*where, "mode"))
    return _OUTBOUND_TRAFFIC.get(mode, OutboundTraffic.REGISTRY_ONLY)


def is_mesh_config(resource: Mapping) -> bool:
    """Whether a document without a kind is a mesh configuration."""
    return not MESH_CONFIG_FIELDS.isdisjoint(resource)


def _trust_domain(fields: Fields, config: Mapping, path: Path) -> str:
    name = fields.text(config, "trustDomain", path)
    if name:
        _check_trust_domain(fields, name, (*path, "trustDomain"))
    return name


def _aliases(fields: Fields, config: Mapping, path: Path) -> tuple[str, ...]:
    """What stands here is let in as a trust domain of its own, so nothing else than a trust domain may."""
    names = fields.texts(config, "trustDomainAliases", path)
    for number, name in enumerate(names):
        _check_trust_domain(fields, name, (*path, "trustDomainAliases", number))
    return names


def _check_trust_domain(fields: Fields, name: str, path: Path) -> None:
    if not _TRUST_DOMAIN.fullmatch(name):
        fields.fault(
            INVALID_NAME,
            f"{shortened(name)!r} is not a trust domain",
            path,
            hint="lower-case letters, digits, '.', '_' and '-', at most 255",
        )


def _cipher_suites(fields: Fields, mtls: Mapping, path: Path) -> tuple[str, ...]:
    names = fields.texts(mtls, "cipherSuites", path)
    for number, name in enumerate(names):
        fields.one_of(name, CIPHER_SUITES, (*path, "cipherSuites", number))
    return names


def _duration(fields: Fields, config: Mapping, path: Path, *, otherwise: timedelta) -> timedelta:
    text = fields.text(config, "protocolDetectionTimeout", path)
    if not text:
        return otherwise
    duration = go_duration(text)
    if duration is None:
        fields.fault(
            INVALID_VALUE,
            f"{shortened(text)!r} is not a duration",
            (*path, "protocolDetectionTimeout"),
            hint="a number with a unit, such as 5s or 100ms",
        )
    return duration if duration is not None else otherwise


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
