"""`metadata`: the name, namespace, labels and age of an object.

Names are held to Kubernetes' rules for their kind: a namespace and a service account become parts of an identity, where
a slash would make another identity of it. Source: Kubernetes' API conventions, "Names" and "Metadata".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from peerauth.model.meta import Meta
from peerauth.model.schema.faults import INVALID_NAME, INVALID_VALUE
from peerauth.model.schema.fields import Fields, shortened
from peerauth.model.schema.names import is_dns_label, is_subdomain
from peerauth.model.schema.place import Mapping, Path
from peerauth.model.schema.watched import holds, made_of

OBJECT_META_FIELDS = frozenset(
    {
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "labels",
        "managedFields",
        "name",
        "namespace",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)

_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.(\d+))?(?:[Zz]|[+-]\d{2}:\d{2})")
_METADATA: Path = ("metadata",)

NameCheck = Callable[[Fields, str, Path], None]


def check_name(fields: Fields, name: str, path: Path) -> None:
    """Notes a name that is not a DNS subdomain, as most names of objects are."""
    if not holds(is_subdomain, name):
        fields.fault(
            INVALID_NAME,
            f"{shortened(name)!r} is not a name: lower-case letters, digits, '-' and '.', at most 253",
            path,
        )


def check_namespace(fields: Fields, name: str, path: Path) -> None:
    """Notes a namespace that is not a DNS label."""
    _check_dns_label(fields, name, path, what="a namespace")


def check_service_name(fields: Fields, name: str, path: Path) -> None:
    """Notes a name of a Service that is not a DNS label. Whether it may begin with a digit depends on the server."""
    _check_dns_label(fields, name, path, what="the name of a Service")


def _check_dns_label(fields: Fields, name: str, path: Path, *, what: str) -> None:
    if not holds(is_dns_label, name):
        fields.fault(
            INVALID_NAME, f"{shortened(name)!r} is not {what}: lower-case letters, digits and '-', at most 63", path
        )


def metadata(
    fields: Fields,
    resource: Mapping,
    path: Path,
    *,
    default_namespace: str,
    namespaced: bool = True,
    name_check: NameCheck = check_name,
) -> Meta:
    """The `metadata` of the resource at `path`. Objects of a namespaced kind that name none are in the default one.

    `name_check` holds the name to the rules of its kind.
    """
    where: Path = (*path, "metadata") if path else _METADATA
    meta = fields.mapping(resource, "metadata", path)
    name = fields.copied(meta, "name", where)
    if not name:
        fields.missing("name", where if meta else path)
    else:
        name_check(fields, name, (*where, "name"))
    return Meta(
        name=name,
        namespace=_namespace(fields, meta, where, default_namespace) if namespaced else "",
        labels=fields.labels(meta, "labels", where),
        annotations=fields.annotations(meta, "annotations", where),
        created=_created(fields, meta, where),
        origin=fields.origin(path),
    )


def _namespace(fields: Fields, meta: Mapping, path: Path, default: str) -> str:
    name = fields.copied(meta, "namespace", path)
    if not name:
        return default
    check_namespace(fields, name, (*path, "namespace"))
    return name


def _created(fields: Fields, meta: Mapping, path: Path) -> datetime | None:
    text = fields.copied(meta, "creationTimestamp", path)
    if not text:
        return None
    where: Path = (*path, "creationTimestamp")
    moment = made_of(rfc3339, text)
    if moment is None:
        fields.fault(
            INVALID_VALUE,
            f"{shortened(text)!r} is not a time",
            where,
            hint="RFC 3339, such as 2024-05-01T12:00:00Z",
        )
    return moment


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
