"""What every object carries: its name, labels, age, and where it was said.

`Labels` is a frozenset of pairs: a selector matches when it is a subset, and equal label sets are one dictionary key.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

Labels = frozenset[tuple[str, str]]

NO_LABELS: Labels = frozenset()


class Origin(msgspec.Struct, frozen=True, order=True, gc=False):
    """Where a value was said: a place in a file, or a version of an object in a cluster.

    `line` and `column` count from 1; 0 means not known. `resource_version` is set only for objects of a cluster.
    """

    file: str = ""
    line: int = 0
    column: int = 0
    resource_version: str = ""

    def __str__(self) -> str:
        if self.resource_version:
            return f"resourceVersion {self.resource_version}"
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}" if self.column else f"{self.file}:{self.line}"


NOWHERE = Origin()


class Meta(msgspec.Struct, frozen=True, gc=False):
    """The `metadata` of an object. `created` is in UTC; None means it was not given, which counts as oldest."""

    name: str
    namespace: str = ""
    labels: Labels = NO_LABELS
    annotations: Labels = NO_LABELS
    created: datetime | None = None
    origin: Origin = NOWHERE

    @property
    def full_name(self) -> str:
        """`namespace/name`, or the name alone for objects without a namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


Age = tuple[datetime, str, str]

_BEGINNING = datetime.min.replace(tzinfo=UTC)


def age_of(meta: Meta) -> Age:
    """Sorts objects oldest first, as Istio does: no `created` is oldest, ties go by name, then namespace."""
    created = meta.created or _BEGINNING
    return (created if created.tzinfo else created.replace(tzinfo=UTC), meta.name, meta.namespace)


def label_value(labels: Labels, key: str) -> str | None:
    """The value of one label, or None. Linear: label sets are small."""
    for name, value in labels:
        if name == key:
            return value
    return None
