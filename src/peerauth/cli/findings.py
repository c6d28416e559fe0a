"""The text of `peerauth check`: one block per finding (what, where, the evidence, the fix) and a line that sums up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from peerauth.analysis.passed_over import not_understood_sentence
from peerauth.analysis.report import Counts
from peerauth.cli.render import BLANK, SEVERITY_ROLES, Line, Role, count, line
from peerauth.cli.visible import complaint, visible
from peerauth.model.diagnostic import Diagnostic, Severity
from peerauth.model.inventory import PassedOver
from peerauth.model.meta import NOWHERE, Origin


def finding_lines(finding: Diagnostic) -> Iterator[Line]:
    """The block of one finding; ends with a blank line."""
    role = SEVERITY_ROLES[finding.severity]
    yield line((f"{finding.severity.value} {finding.code}", role), f"  {finding.message}")
    yield from _detail("at", _where(finding))
    for fact in finding.evidence:
        yield from _detail("because", f"{fact.text}{_at(fact.origin)}")
    yield from _detail("fix", finding.hint)
    yield BLANK


def _detail(label: str, text: str) -> Iterator[Line]:
    if text:
        yield line((f"  {label:<9}", Role.FAINT), text)


def _where(finding: Diagnostic) -> str:
    place = str(finding.origin) if finding.origin != NOWHERE else ""
    return "  ".join(part for part in (place, finding.subject, finding.path) if part)


def _at(origin: Origin) -> str:
    return f"  ({origin})" if origin != NOWHERE else ""


def summary_lines(counts: Counts, not_understood: Sequence[PassedOver]) -> Iterator[Line]:
    """What was read and found, in the last line; before it, what was left out of consideration."""
    if not_understood:
        yield line((not_understood_sentence(not_understood), Role.MIDDLING))
    if counts.passed_over:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in counts.passed_over.items())
        yield line((f"passed over, as they say nothing about connections: {kinds}", Role.FAINT))
    if not counts.workloads:
        yield line("no workloads in the input: what the selectors match was not checked")
    yield _summary_line(counts)


def _summary_line(counts: Counts) -> Line:
    read = ", ".join(
        (
            count(counts.documents, "document"),
            count(counts.policies, "policy", "policies"),
            count(counts.workloads, "workload"),
        )
    )
    found = (
        (count(counts.errors, "error"), Severity.ERROR, counts.errors),
        (count(counts.warnings, "warning"), Severity.WARNING, counts.warnings),
        (f"{counts.infos:,} to know", Severity.INFO, counts.infos),
    )
    spans: list[tuple[str, Role]] = []
    for text, severity, number in found:
        spans += [(text, SEVERITY_ROLES[severity] if number else Role.FAINT), (", ", Role.PLAIN)]
    return line(f"{read}: ", *spans[:-1])


def error_text(finding: Diagnostic) -> str:
    """A finding as one error message, whole lines: where, what, and the next step."""
    place = f"{finding.origin}: " if finding.origin != NOWHERE else ""
    path = f" (at {finding.path})" if finding.path else ""
    return complaint(visible(f"{place}{finding.message}{path} [{finding.code}]"), hint=visible(finding.hint))
