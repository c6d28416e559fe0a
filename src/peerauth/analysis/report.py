"""What `check` says as values and as JSON: the findings in a fixed order, and counts of what was looked at.

The JSON is a contract (docs/json.md, `SCHEMA`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from peerauth.analysis.explain import SCHEMA, origin_document
from peerauth.analysis.lint.codes import ALL_CODES
from peerauth.analysis.passed_over import not_understood_documents
from peerauth.model.diagnostic import Diagnostic, Evidence, Severity
from peerauth.model.inventory import PassedOver

_RANK = {severity: rank for rank, severity in enumerate((Severity.ERROR, Severity.WARNING, Severity.INFO))}


class Counts(msgspec.Struct, frozen=True, rename="camel"):
    """What was read, and how many findings of each severity there are. `passed_over` is by kind."""

    documents: int
    policies: int
    workloads: int
    errors: int
    warnings: int
    infos: int
    passed_over: Mapping[str, int] = {}


def in_order(findings: Iterable[Diagnostic]) -> list[Diagnostic]:
    """The worst first, then by place and code: the same input gives the same list."""
    return sorted(findings, key=lambda one: (_RANK[one.severity], one.origin, one.code, one.message))


def at_least(findings: Iterable[Diagnostic], severity: Severity) -> bool:
    """Whether any finding is as bad as `severity` or worse."""
    return any(_RANK[one.severity] <= _RANK[severity] for one in findings)


def counts(
    findings: Iterable[Diagnostic],
    *,
    documents: int,
    policies: int,
    workloads: int,
    passed_over: Mapping[str, int],
) -> Counts:
    """The counts of a report."""
    by_severity = dict.fromkeys(Severity, 0)
    for one in findings:
        by_severity[one.severity] += 1
    return Counts(
        documents=documents,
        policies=policies,
        workloads=workloads,
        errors=by_severity[Severity.ERROR],
        warnings=by_severity[Severity.WARNING],
        infos=by_severity[Severity.INFO],
        passed_over=dict(sorted(passed_over.items())),
    )


def report_document(
    findings: Iterable[Diagnostic], summary: Counts, not_understood: Sequence[PassedOver]
) -> dict[str, object]:
    """The whole report in the JSON contract."""
    return {
        "schema": SCHEMA,
        "summary": msgspec.to_builtins(summary),
        "notUnderstood": not_understood_documents(not_understood),
        "findings": [finding_document(one) for one in findings],
    }


def finding_document(finding: Diagnostic) -> dict[str, object]:
    """One element of `findings`: members that do not apply are left out, `evidence` is always there."""
    known = ALL_CODES.get(finding.code)
    document: dict[str, object] = {
        "code": finding.code,
        "name": known.name if known else "",
        "severity": finding.severity.value,
        "message": finding.message,
        "subject": finding.subject,
        "path": finding.path,
        "hint": finding.hint,
    }
    document = {name: value for name, value in document.items() if value}
    return {
        **document,
        **origin_document(finding.origin),
        "evidence": [_evidence_document(fact) for fact in finding.evidence],
    }


def _evidence_document(fact: Evidence) -> dict[str, object]:
    return {"text": fact.text, **origin_document(fact.origin)}
