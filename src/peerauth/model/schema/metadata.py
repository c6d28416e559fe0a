"""`metadata`: the name, namespace, labels and age of an object.

Names are held to Kubernetes' rules for their kind: a namespace and a service account become parts of an identity, where
a slash would make another identity of it. Source: Kubernetes' API conventions, "Names" and "Metadata".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from peerauth.model import meta
from peerauth.model.meta import NO_LABELS, Meta
from peerauth.model.schema.description import Document, extra, text_rule
from peerauth.model.schema.faults import INVALID_VALUE
from peerauth.model.schema.fields import Annotations, Labels, Name, NamespaceName, NamespaceOrEmpty, ServiceName
from peerauth.model.schema.report import Report

_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.(\d+))?(?:[Zz]|[+-]\d{2}:\d{2})")


def rfc3339(text: str) -> datetime | None:
    """The moment in UTC, or None if the text is not one. Digits beyond microseconds are dropped."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        return None
    fraction = found[1]
    if fraction and len(fraction) > 6:
        text = text.replace(fraction, fraction[:6])
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _is_time(text: str) -> bool:
    return rfc3339(text) is not None


_TIME = text_rule(
    INVALID_VALUE, _is_time, "is not a time", hint="RFC 3339, such as 2024-05-01T12:00:00Z", or_empty=True
)
Time = Annotated[str, msgspec.Meta(extra=extra(_TIME))]


class ClusterMeta(Document):
    """What is read of the `metadata` of a kind without namespaces; one that is there all the same is no fault."""

    lacks_above = True
    name: Name
    namespace: object = None
    labels: Labels | None = None
    annotations: Annotations | None = None
    creation_timestamp: Time | None = None


class ObjectMeta(ClusterMeta):
    """The same of a namespaced kind; an empty namespace is none."""

    namespace: NamespaceOrEmpty | None = None


class NamespaceMeta(ClusterMeta):
    """The same of a namespace."""

    name: NamespaceName


class ServiceMeta(ObjectMeta):
    """The same of a Service."""

    name: ServiceName


AS_EMPTY = msgspec.Meta(extra=extra(as_empty=True))
"""Of a structure that must be there for what must be in it."""


class Resource(Document):
    """What has `metadata` like most."""

    metadata: Annotated[ObjectMeta, AS_EMPTY]


class ClusterResource(Document):
    """What has `metadata`, and no namespace."""

    metadata: Annotated[ClusterMeta, AS_EMPTY]


def cluster_meta(document: ClusterMeta, report: Report) -> Meta:
    """The metadata of an object without a namespace."""
    return _meta(document, "", report)


def object_meta(document: ObjectMeta, report: Report) -> Meta:
    """The metadata of an object; one that names no namespace is in the default one."""
    return _meta(document, document.namespace or report.default_namespace, report)


def _meta(document: ClusterMeta, namespace: str, report: Report) -> Meta:
    created = document.creation_timestamp
    return Meta(
        document.name,
        namespace,
        label_set(document.labels),
        label_set(document.annotations),
        rfc3339(created) if created else None,
        report.place.value(()),
    )


def label_set(pairs: Mapping[str, str] | None) -> meta.Labels:
    """Labels or annotations as a set of pairs."""
    return frozenset(pairs.items()) if pairs else NO_LABELS
