"""PeerAuthentication, held to its CRD exactly: what the API server refuses is refused here, and nothing else of `spec`.

Beyond the CRD, which silently drops them, unknown fields are faults: a misspelt `mtls` is a policy that says nothing.
So are two spellings of one port ("80" and "080"). Sources: Istio's CustomResourceDefinition of PeerAuthentication and
its validation rules; Kubernetes' int() over a key is Go's, which takes a sign and leading zeros.
"""

from __future__ import annotations

import re

from peerauth.model.meta import NO_LABELS, Labels, Origin
from peerauth.model.peerauth import Mode, PeerAuthentication, PortMode
from peerauth.model.schema.faults import (
    DUPLICATE_KEY,
    INVALID_NAME,
    INVALID_PORT,
    INVALID_VALUE,
    PORTS_WITHOUT_SELECTOR,
)
from peerauth.model.schema.fields import HIGHEST_PORT, Fields, quoting_hint, shortened
from peerauth.model.schema.metadata import OBJECT_META_FIELDS, metadata
from peerauth.model.schema.place import Mapping, Path
from peerauth.model.schema.watched import copied_items, holds, label_set

MOST_LABELS = 4096
LONGEST_LABEL_VALUE = 63

_RESOURCE_FIELDS = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
_SPEC_FIELDS = frozenset({"selector", "mtls", "portLevelMtls"})
_SELECTOR_FIELDS = frozenset({"matchLabels"})
_MTLS_FIELDS = frozenset({"mode"})
_SELECTOR_HINTS: Mapping = {"matchExpressions": "a PeerAuthentication selects by `matchLabels` only"}
_MODES = {mode.value: mode for mode in Mode}
_INTEGER = re.compile(r"[+-]?[0-9]+")


def peer_authentication(fields: Fields, resource: Mapping, path: Path, *, default_namespace: str) -> PeerAuthentication:
    """The policy; it means nothing when `fields` has noted a fault."""
    fields.only(resource, _RESOURCE_FIELDS, path)
    meta = metadata(fields, resource, path, default_namespace=default_namespace)
    fields.only(fields.mapping(resource, "metadata", path), OBJECT_META_FIELDS, (*path, "metadata"))
    spec_path: Path = (*path, "spec")
    spec = fields.mapping(resource, "spec", path)
    fields.only(spec, _SPEC_FIELDS, spec_path)
    selector = _selector(fields, spec, spec_path)
    mtls_path: Path = (*spec_path, "mtls")
    mtls = fields.mapping(spec, "mtls", spec_path)
    mode = _mode(fields, mtls, mtls_path)
    return PeerAuthentication(
        meta=meta,
        selector=selector,
        mode=mode,
        mode_origin=_mode_origin(fields, mtls, mtls_path) if spec.get("mtls") is not None else meta.origin,
        selector_origin=fields.place.key((*spec_path, "selector")) if selector else meta.origin,
        ports=_ports(fields, spec, spec_path),
    )


def _mode_origin(fields: Fields, mtls: Mapping, path: Path) -> Origin:
    return fields.place.value((*path, "mode")) if "mode" in mtls else fields.place.key(path)


def _mode(fields: Fields, mtls: Mapping, path: Path) -> Mode:
    fields.only(mtls, _MTLS_FIELDS, path)
    value = mtls.get("mode")
    if value is None:
        return Mode.UNSET
    if not isinstance(value, str):
        fields.wrong_type(value, (*path, "mode"), f"one of {', '.join(_MODES)}")
        return Mode.UNSET
    fields.one_of(value, _MODES, (*path, "mode"))
    return _MODES.get(value, Mode.UNSET)


def _selector(fields: Fields, spec: Mapping, spec_path: Path) -> Labels:
    path: Path = (*spec_path, "selector")
    selector = fields.mapping(spec, "selector", spec_path)
    fields.only(selector, _SELECTOR_FIELDS, path, hints=_SELECTOR_HINTS)
    labels = fields.mapping(selector, "matchLabels", path)
    if not labels:
        return NO_LABELS
    path = (*path, "matchLabels")
    if len(labels) > MOST_LABELS:
        fields.fault(INVALID_VALUE, f"{len(labels)} labels, and at most {MOST_LABELS} are allowed", path, at_key=True)
    pairs = copied_items(labels)
    for key, value in pairs:
        _check_pair(fields, key, value, (*path, key))
    return label_set([(key, value) for key, value in pairs if isinstance(value, str)])


def _check_pair(fields: Fields, key: str, value: object, path: Path) -> None:
    if not key:
        fields.fault(INVALID_NAME, "the key of a label must not be empty", path, at_key=True)
    if "*" in key:
        fields.fault(INVALID_NAME, f"`*` is not allowed in the key {shortened(key)!r}", path, at_key=True, hint=_EXACT)
    if not isinstance(value, str):
        fields.wrong_type(value, path, "a string", hint=quoting_hint(value))
        return
    if holds(_is_label_value, value):
        return
    if "*" in value:
        fields.fault(INVALID_NAME, f"`*` is not allowed in the value {shortened(value)!r}", path, hint=_EXACT)
    if len(value) > LONGEST_LABEL_VALUE:
        fields.fault(
            INVALID_NAME, f"a label value has at most {LONGEST_LABEL_VALUE} characters, this one {len(value)}", path
        )


def _is_label_value(text: str) -> bool:
    return "*" not in text and len(text) <= LONGEST_LABEL_VALUE


_EXACT = "labels are compared as they stand: there are no wildcards"


def _ports(fields: Fields, spec: Mapping, spec_path: Path) -> tuple[PortMode, ...]:
    value = spec.get("portLevelMtls")
    path: Path = (*spec_path, "portLevelMtls")
    entries = fields.mapping(spec, "portLevelMtls", spec_path)
    if not isinstance(value, dict):
        return ()
    if not entries:
        fields.fault(
            INVALID_VALUE, "`portLevelMtls` must not be empty", path, at_key=True, hint="remove it, or name a port"
        )
    if not _selects(spec):
        fields.fault(
            PORTS_WITHOUT_SELECTOR,
            "`portLevelMtls` needs a selector: ports are those of a workload",
            path,
            at_key=True,
            hint="add `selector.matchLabels` with the labels of the workloads meant",
        )
    found: dict[int, PortMode] = {}
    for key, entry in entries.items():
        mode = _port_entry(fields, key, entry, (*path, key))
        if mode is None:
            continue
        if mode.port in found:
            fields.fault(DUPLICATE_KEY, f"port {mode.port} is named twice", (*path, key), at_key=True)
        found[mode.port] = mode
    return tuple(found[port] for port in sorted(found))


def _selects(spec: Mapping) -> bool:
    """Whether the selector has at least one pair, right or wrong; one that is not a mapping has its own fault."""
    selector = spec.get("selector")
    labels = selector.get("matchLabels") if isinstance(selector, dict) else selector
    return labels is not None and (not isinstance(labels, dict) or bool(labels))


def _port_entry(fields: Fields, key: str, entry: object, path: Path) -> PortMode | None:
    port = int(key) if len(key) <= 20 and key.isascii() and _INTEGER.fullmatch(key) else 0
    if not 0 < port <= HIGHEST_PORT:
        fields.fault(
            INVALID_PORT, f"{shortened(key)!r} is not a port: 1 to {HIGHEST_PORT}", path, at_key=True, hint=_NUMBER
        )
    if not isinstance(entry, dict):
        fields.wrong_type(entry, path, "a mapping with `mode`", hint="write `mode:` below the port")
        return None
    mode = _mode(fields, entry, path)
    return PortMode(port, mode, _mode_origin(fields, entry, path))


_NUMBER = "ports are the workload's own, by number"
