"""A document by its description: converted at once, and looked through for faults only where that fails."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from peerauth.model.schema.description import Document, described, rules_of
from peerauth.model.schema.faults import INVALID_VALUE
from peerauth.model.schema.report import Report
from peerauth.model.schema.walker import walk

D = TypeVar("D", bound=Document)


def typed(report: Report, value: object, kind: type[D]) -> D | None:
    """The document that a value is; None if anything is wrong with it, all of which is then in the report."""
    try:
        found = msgspec.convert(value, kind)
        if rules_of(kind)(value):
            return found
        refused = "a rule of its kind does not hold"
    except msgspec.ValidationError as error:
        refused = str(error)
    before = len(report.faults)
    walk(report, value, described(kind))
    if len(report.faults) == before:  # not known to happen; what is refused is never refused in silence
        report.fault(INVALID_VALUE, refused, ())
    return None
