"""PeerAuthentication, held to its CRD exactly: what the API server refuses is refused here, and nothing else of `spec`.

Beyond the CRD, which silently drops them, unknown fields are faults: a misspelt `mtls` is a policy that says nothing.
So are two spellings of one port ("80" and "080"). Sources: Istio's CustomResourceDefinition of PeerAuthentication and
its validation rules; Kubernetes' int() over a key is Go's, which takes a sign and leading zeros.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta

from peerauth.model import peerauth
from peerauth.model.peerauth import Mode, PortMode
from peerauth.model.schema.description import Document, Rule, Trouble, extra, rule_of_texts, text_rule
from peerauth.model.schema.faults import (
    DUPLICATE_KEY,
    INVALID_NAME,
    INVALID_PORT,
    INVALID_VALUE,
    PORTS_WITHOUT_SELECTOR,
)
from peerauth.model.schema.fields import HIGHEST_PORT
from peerauth.model.schema.metadata import AS_EMPTY, ObjectMeta, label_set, object_meta
from peerauth.model.schema.names import remembered
from peerauth.model.schema.place import Mapping, Path
from peerauth.model.schema.report import Report, shortened

MOST_LABELS = 4096
LONGEST_LABEL_VALUE = 63

_INTEGER = re.compile(r"[+-]?[0-9]+")
_EXACT = "labels are compared as they stand: there are no wildcards"


def port_of(key: str) -> int | None:
    """The port that a key of `portLevelMtls` names; None if it names none."""
    number = int(key) if len(key) <= 20 and key.isascii() and _INTEGER.fullmatch(key) else 0
    return number if 0 < number <= HIGHEST_PORT else None


def _key_troubles(key: str) -> Iterator[Trouble]:
    if not key:
        yield Trouble(INVALID_NAME, "the key of a label must not be empty")
    if "*" in key:
        yield Trouble(INVALID_NAME, f"`*` is not allowed in the key {shortened(key)!r}", hint=_EXACT)


def _value_troubles(value: str) -> Iterator[Trouble]:
    if "*" in value:
        yield Trouble(INVALID_NAME, f"`*` is not allowed in the value {shortened(value)!r}", hint=_EXACT)
    if len(value) > LONGEST_LABEL_VALUE:
        said = f"a label value has at most {LONGEST_LABEL_VALUE} characters, this one {len(value)}"
        yield Trouble(INVALID_NAME, said)


def _ports_troubles(entries: Mapping) -> Iterator[Trouble]:
    if not entries:
        said = "`portLevelMtls` must not be empty"
        yield Trouble(INVALID_VALUE, said, hint="remove it, or name a port", at_key=True)
    found: set[int] = set()
    for key in entries if len(entries) > 1 else ():
        port = port_of(key)
        if port in found:
            yield Trouble(DUPLICATE_KEY, f"port {port} is named twice", (key,), at_key=True)
        elif port is not None:
            found.add(port)


def _spec_troubles(spec: Mapping) -> Iterator[Trouble]:
    if not _ports_are_those_of_a_workload(spec):
        yield Trouble(
            PORTS_WITHOUT_SELECTOR,
            "`portLevelMtls` needs a selector: ports are those of a workload",
            ("portLevelMtls",),
            "add `selector.matchLabels` with the labels of the workloads meant",
            at_key=True,
        )


def _ports_are_those_of_a_workload(spec: Mapping) -> bool:
    return not isinstance(spec.get("portLevelMtls"), dict) or _selects(spec)


def _selects(spec: Mapping) -> bool:
    """Whether the selector has at least one pair, right or wrong; one that is not a mapping has its own fault."""
    selector = spec.get("selector")
    labels = selector.get("matchLabels") if isinstance(selector, dict) else selector
    return labels is not None and (not isinstance(labels, dict) or bool(labels))


class PolicyMeta(ObjectMeta, forbid_unknown_fields=True):
    """The metadata of a policy: what Kubernetes has there, and nothing else."""

    deletion_grace_period_seconds: object = None
    deletion_timestamp: object = None
    finalizers: object = None
    generate_name: object = None
    generation: object = None
    managed_fields: object = None
    owner_references: object = None
    resource_version: object = None
    self_link: object = None
    uid: object = None


_KEY = Annotated[str, Meta(extra=extra(rule_of_texts(_key_troubles)))]
_VALUE = Annotated[str, Meta(extra=extra(rule_of_texts(_value_troubles)))]


class Selector(Document, forbid_unknown_fields=True):
    """The workloads of which a policy speaks."""

    hints: ClassVar[dict[str, str]] = {"matchExpressions": "a PeerAuthentication selects by `matchLabels` only"}
    match_labels: Annotated[dict[_KEY, _VALUE], Meta(max_length=MOST_LABELS)] | None = None


class MutualTls(Document, forbid_unknown_fields=True):
    """A mode, if it says one."""

    mode: Mode | None = None


_PORT_RULE = text_rule(
    INVALID_PORT,
    remembered(lambda key: port_of(key) is not None),
    f"is not a port: 1 to {HIGHEST_PORT}",
    hint="ports are the workload's own, by number",
)
_PORT = Annotated[str, Meta(extra=extra(_PORT_RULE))]
_OF_PORT = Annotated[MutualTls, Meta(extra=extra(wanted="a mapping with `mode`", hint="write `mode:` below the port"))]


class PolicySpec(Document, forbid_unknown_fields=True):
    """What a policy says."""

    rule = Rule(_spec_troubles, holds=_ports_are_those_of_a_workload)
    selector: Selector | None = None
    mtls: MutualTls | None = None
    port_level_mtls: Annotated[dict[_PORT, _OF_PORT], Meta(extra=extra(Rule(_ports_troubles)))] | None = None


class PeerAuthentication(Document, forbid_unknown_fields=True):
    """A policy."""

    metadata: Annotated[PolicyMeta, AS_EMPTY]
    api_version: object = None
    kind: object = None
    spec: PolicySpec | None = None
    status: object = None


_NO_SPEC = PolicySpec()
_MODE: Path = ("spec", "mtls", "mode")
_SELECTOR: Path = ("spec", "selector")
_PORTS: Path = ("spec", "portLevelMtls")


def peer_authentication(document: PeerAuthentication, report: Report) -> peerauth.PeerAuthentication:
    """The policy as its author wrote it."""
    meta, place = object_meta(document.metadata, report), report.place
    spec = document.spec or _NO_SPEC
    labels = label_set(spec.selector.match_labels if spec.selector else None)
    ports = {
        int(key): PortMode(int(key), entry.mode or Mode.UNSET, place.value((*_PORTS, key, "mode")))
        for key, entry in (spec.port_level_mtls or {}).items()
    }
    return peerauth.PeerAuthentication(
        meta=meta,
        selector=labels,
        mode=(spec.mtls.mode if spec.mtls is not None else None) or Mode.UNSET,
        mode_origin=place.value(_MODE) if spec.mtls is not None else meta.origin,
        selector_origin=place.key(_SELECTOR) if labels else meta.origin,
        ports=tuple(ports[port] for port in sorted(ports)),
    )
