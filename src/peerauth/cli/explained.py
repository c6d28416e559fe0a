"""The text of `peerauth explain`: one block per workload, for someone who has to know now.

First what is so (data plane, mode, ports), then why (the chain of reasons, widest level first, losers included).
Where the data plane cannot do what was asked, both are said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from peerauth.analysis.explain import Explanation, PortView, istio_notes, notes, reasons_for
from peerauth.cli.render import BLANK, MODE_ROLES, Cell, Line, Role, Span, columns, labelled, line
from peerauth.policy.decision import Dataplane, EffectiveMode, Reason, Verdict

MEANING = {
    EffectiveMode.DISABLE: "passed on as it arrives, no mutual TLS",
    EffectiveMode.PERMISSIVE: "plaintext or mutual TLS",
    EffectiveMode.STRICT: "mutual TLS only",
}

NOT_OF_GATEWAYS = "its listeners come from Gateway resources, and PeerAuthentication is not in force on them"

_LABEL_WIDTH = 12

_VERDICT_ROLES = {
    Verdict.DECIDES: Role.STRONG,
    Verdict.INHERITS: Role.FAINT,
    Verdict.OVERRIDDEN: Role.FAINT,
    Verdict.LOSES: Role.MIDDLING,
    Verdict.IGNORED: Role.BAD,
}


def explanation_lines(explanation: Explanation, *, port: int | None = None) -> Iterator[Line]:
    """The block of one workload, or of one port of it; ends with a blank line."""
    yield heading(explanation)
    yield from body_lines(explanation, port=port)


def heading(explanation: Explanation) -> Line:
    """The first line: whom the block is about."""
    workload = explanation.workload
    return line((str(workload.key), Role.STRONG), "  ", (workload.kind, Role.FAINT))


def body_lines(explanation: Explanation, *, port: int | None) -> Iterator[Line]:
    """The lines below the first, the same for all workloads that differ in their names only."""
    decision = explanation.decision
    yield from labelled("data plane", [_dataplane_line(explanation)], width=_LABEL_WIDTH)
    if port is None:
        yield from labelled("mode", [_mode_line(explanation)], width=_LABEL_WIDTH)
    yield from labelled("ports", columns(list(_port_rows(explanation, port=port))), width=_LABEL_WIDTH)
    reasons = list(_reason_lines(reasons_for(decision, port)))
    yield from labelled("reasons", reasons, width=_LABEL_WIDTH)
    said = [*notes(explanation, port=port), *istio_notes(explanation, port=port)]
    but = [line((note, Role.MIDDLING)) for note in said]
    yield from labelled("but", but, width=_LABEL_WIDTH)
    maybe = [line((one.sentence, Role.MIDDLING)) for one in explanation.may_select]
    yield from labelled("maybe", maybe, width=_LABEL_WIDTH)
    yield BLANK


def _dataplane_line(explanation: Explanation) -> Line:
    dataplane = explanation.decision.dataplane
    if dataplane is Dataplane.NONE:
        head: Span = ("none", Role.BAD)
        return line(head, f"  outside the mesh, nothing is enforced: {explanation.why_dataplane}")
    if dataplane is Dataplane.GATEWAY:
        return line(dataplane.value, f"  {NOT_OF_GATEWAYS}: {explanation.why_dataplane}")
    revision = f"; of the revision {explanation.decision.revision}" if explanation.tells_revision else ""
    return line(dataplane.value, f"  {explanation.why_dataplane}{revision}")


def _mode_line(explanation: Explanation) -> Line:
    return line(*_mode_cells(explanation.decision.mode, explanation.enforced_otherwise, gap="  "))


def _mode_cells(asked: EffectiveMode, enforced: EffectiveMode | None, *, gap: str = "") -> tuple[Cell, Cell]:
    mode: Span = (asked.value, MODE_ROLES[asked])
    if enforced is None:
        return mode, f"{gap}(asked, not enforced)"
    if enforced is not asked:
        return mode, f"{gap}asked; enforced as {enforced.value}: {MEANING[enforced]}"
    return mode, gap + MEANING[asked]


def _port_rows(explanation: Explanation, *, port: int | None) -> Iterator[list[Cell]]:
    for view in explanation.ports:
        yield [str(view.number), view.name, *_mode_cells(view.asked, view.enforced), _by(view)]
    if port is None:
        first = "others" if explanation.ports else "all"
        yield [first, "", *_mode_cells(explanation.decision.mode, explanation.enforced_otherwise), ""]


def _by(view: PortView) -> Cell:
    named = f"by its entry in {view.decided_by.policy}" if view.decided_by.port is not None else ""
    undeclared = "" if view.declared else "not declared"
    return (", ".join(part for part in (named, undeclared) if part), Role.FAINT if view.declared else Role.MIDDLING)


def _reason_lines(reasons: Sequence[Reason]) -> Iterator[Line]:
    """Each reason in columns, and below it, indented, the sentence that explains it."""
    for reason, row in zip(reasons, columns([_reason_row(reason) for reason in reasons]), strict=True):
        yield row
        yield line("  " + reason.why)


def _reason_row(reason: Reason) -> list[Cell]:
    level = reason.level.value if reason.port is None else f"port {reason.port}"
    verdict = f"loses to {reason.lost_to}" if reason.lost_to else reason.verdict.value
    where = str(reason.origin)
    return [
        level,
        reason.policy or "-",
        reason.said.value,
        (verdict, _VERDICT_ROLES[reason.verdict]),
        (where, Role.FAINT),
    ]
