"""What a proof looks like: a row per port, a column per kind of client, and a sentence for whatever went wrong.

Each cell says what happened; a mark says whether the policy wanted it. A port's reason stands below its row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from peerauth.cli.render import BLANK, MODE_ROLES, Cell, Line, Role, columns, count, line
from peerauth.local.flows import FlowReport
from peerauth.local.proof import PortReport
from peerauth.policy.decision import EffectiveMode, Reason
from peerauth.policy.reception import ClientKind
from peerauth.probe import Outcome, ProbeVerdict

HEADINGS = {
    ClientKind.PLAINTEXT: "plain",
    ClientKind.TLS: "tls",
    ClientKind.ISTIO_ALPN_NO_CERT: "tls+alpn",
    ClientKind.MTLS: "mtls",
    ClientKind.MTLS_NO_ALPN: "mtls-alpn",
    ClientKind.OTHER_CA: "other-ca",
    ClientKind.OTHER_DOMAIN: "other-td",
    ClientKind.HBONE: "hbone",
    ClientKind.HBONE_NO_CERT: "h-anon",
    ClientKind.HBONE_OTHER_CA: "h-ca",
    ClientKind.HBONE_OTHER_DOMAIN: "h-td",
}
LEGEND = (
    ("plain", "no TLS"),
    ("tls", "TLS without a client certificate"),
    ("tls+alpn", "the same, claiming to be a mesh client by its ALPN"),
    ("mtls", "mutual TLS with a certificate of this mesh"),
    ("mtls-alpn", "the same, without a mesh client's ALPN"),
    ("other-ca", "mutual TLS, certificate of another authority"),
    ("other-td", "mutual TLS, certificate of another trust domain"),
    ("hbone", "HBONE tunnel with a certificate of this mesh"),
    ("h-anon", "HBONE tunnel without a client certificate"),
    ("h-ca", "HBONE tunnel, certificate of another authority"),
    ("h-td", "HBONE tunnel, certificate of another trust domain"),
)
WORDS = {
    Outcome.ACCEPTED: "in",
    Outcome.PASSED_THROUGH: "app",
    Outcome.REFUSED: "no",
    Outcome.NO_ANSWER: "silent",
    Outcome.UNREACHABLE: "closed",
    Outcome.UNVERIFIED: "unsure",
}
MEANINGS = "in: reached the application   app: the application itself got the TLS bytes   no: refused"


def proof_lines(reports: Sequence[PortReport], flows: Sequence[FlowReport] = ()) -> Iterator[Line]:
    """Both tables, what the columns mean, what failed, and the verdict."""
    if not reports:
        yield line(("nothing was probed: no sidecar workload declares a port", Role.MIDDLING))
        return
    kinds = [verdict.attempt.kind for verdict in reports[0].verdicts]
    yield from _table(reports, kinds)
    yield BLANK
    yield from _flow_table(flows)
    yield line((MEANINGS, Role.FAINT))
    shown = {HEADINGS[kind] for kind in kinds}
    yield from columns([[name, (text, Role.FAINT)] for name, text in LEGEND if name in shown], indent="  ")
    yield BLANK
    failures = [
        f"{report.workload}:{report.port} {verdict.attempt.kind.value}: {verdict.sentence}"
        for report in reports
        for verdict in report.verdicts
        if not verdict.ok
    ]
    failures += [f"{_way(report)}: {report.sentence}" for report in flows if not report.ok]
    for failure in failures:
        yield line(("FAILED", Role.WORST), f" {failure}")
    if failures and not any(_answered(report) for report in reports):
        yield line("no application answered behind any port: run yours there, or add --apps for a small one")
    yield _verdict(reports, flows=len(flows), failures=len(failures))


def _answered(report: PortReport) -> bool:
    reached = (Outcome.ACCEPTED, Outcome.PASSED_THROUGH)
    return any(verdict.attempt.outcome in reached for verdict in report.verdicts)


def _flow_table(flows: Sequence[FlowReport]) -> Iterator[Line]:
    """The clients' side: what became of plaintext that an application sent through its own proxy."""
    if not flows:
        return
    rows: list[list[Cell]] = [[(text, Role.FAINT) for text in ("THROUGH THE CLIENT'S PROXY", "MODE", "ARRIVED AS")]]
    for report in flows:
        mode = report.flow.mode
        mark, role = ("✓", Role.GOOD) if report.ok else ("✗", Role.WORST)
        rows.append([_way(report), (mode.value, MODE_ROLES[mode]), (f"{mark} {report.sentence}", role)])
    yield from columns(rows)
    yield BLANK


def _way(report: FlowReport) -> str:
    flow = report.flow
    return f"{flow.client} -> {flow.server}:{flow.server_port}"


def _table(reports: Sequence[PortReport], kinds: Sequence[ClientKind]) -> Iterator[Line]:
    head: list[Cell] = [
        (text, Role.FAINT) for text in ("WORKLOAD", "PORT", "MODE", *(HEADINGS[kind] for kind in kinds))
    ]
    rows: list[list[Cell]] = [head]
    for report in reports:
        rows.append(
            [
                (str(report.workload), Role.STRONG),
                str(report.port) if report.declared else f"{report.port}*",
                (report.mode.value, MODE_ROLES[report.mode]),
                *(_cell(verdict) for verdict in report.verdicts),
            ]
        )
    lines = columns(rows)
    yield lines[0]
    for report, row in zip(reports, lines[1:], strict=True):
        yield row
        yield line(("  " + because(report.reason), Role.FAINT))
        if report.enforced is not report.mode:
            yield line((f"  enforced as {report.enforced.value}: {_not_as_asked(report)}", Role.MIDDLING))
    if any(not report.declared for report in reports):
        yield line(("* declared by no one: covered by the workload's own mode", Role.FAINT))


def _not_as_asked(report: PortReport) -> str:
    if report.mode is EffectiveMode.DISABLE:
        return f"ambient mode has no {report.mode.value}"
    return "no proxy of the mesh stands before it"


def _cell(verdict: ProbeVerdict) -> Cell:
    word = WORDS[verdict.attempt.outcome]
    return (f"✓ {word}", Role.GOOD) if verdict.ok else (f"✗ {word}", Role.WORST)


def _verdict(reports: Sequence[PortReport], *, flows: int, failures: int) -> Line:
    connections = sum(len(report.verdicts) for report in reports) + flows
    what = f"{count(connections, 'connection')} to {count(len(reports), 'port')}"
    if failures:
        return line((f"{failures} of {what} did not do what the policy says", Role.WORST))
    return line((f"{what}: every one did what the policy says", Role.GOOD))


def because(reason: Reason) -> str:
    """The deciding reason in one line, with its place."""
    where = f"  {reason.origin}" if reason.policy and str(reason.origin) else ""
    return f"because {decider(reason)}{where}"


def decider(reason: Reason) -> str:
    """Who decided, in a few words."""
    if not reason.policy:
        return "no policy speaks: PERMISSIVE is Istio's default"
    scope = f"port {reason.port}" if reason.port is not None else f"the {reason.level.value}"
    return f"{reason.policy} says {reason.said.value} for {scope}"
