"""What `peerauth up` tells while it runs: a table that keeps itself current on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

from peerauth.cli.findings import error_text
from peerauth.cli.proved import because, proof_lines
from peerauth.cli.render import MODE_ROLES, Cell, Line, Role, columns, count, line, plain, writer
from peerauth.dataplane.resources import Capture
from peerauth.model.diagnostic import Diagnostic, Severity
from peerauth.model.inventory import WorkloadKey
from peerauth.runtime.control_plane import Applied
from peerauth.runtime.local_mesh import LocalMesh
from peerauth.runtime.tally import Tally
from peerauth.runtime.verification import PortReport
from peerauth.telemetry import ConnectionSeen, Outcome

OUTCOMES = (
    (Outcome.PLAINTEXT, "plaintext"),
    (Outcome.PASSTHROUGH_TLS, "own tls"),
    (Outcome.MUTUAL_TLS, "mutual tls"),
    (Outcome.UNTOUCHED, "untouched"),
    (Outcome.REFUSED, "refused"),
)


class Story:
    """Tells a run on standard output, progress and errors on standard error."""

    def __init__(self) -> None:
        self._write = writer()
        self._began = time.monotonic()

    def progress(self, sentence: str) -> None:
        """On a terminal only: whoever reads a log wants results."""
        if sys.stderr.isatty():
            print(f"[{time.monotonic() - self._began:5.1f} s] {sentence}", file=sys.stderr)

    def refused(self, diagnostics: Sequence[Diagnostic]) -> None:
        """Errors as they are; warnings are `check`'s business."""
        errors = [diagnostic for diagnostic in diagnostics if diagnostic.severity is Severity.ERROR]
        for diagnostic in errors:
            print(error_text(diagnostic), file=sys.stderr)
        if errors:
            print("nothing was changed: what was in force stays in force", file=sys.stderr)

    def started(self, mesh: LocalMesh, tally: Tally) -> None:
        """Where everything is."""
        for each in start_lines(mesh):
            self._write(each)
        for each in state_lines(mesh, tally):
            self._write(each)

    def changed(self, mesh: LocalMesh, applied: Applied) -> None:
        """One line per workload whose decision is another now."""
        if not applied.decisions and not applied.proxies:
            return
        stamp = time.strftime("%H:%M:%S")
        for change in applied.decisions:
            old = change.old.mode.value if change.old else "-"
            new = change.new.mode.value if change.new else "gone"
            ports = ", ".join(f"{entry.port}: {entry.mode}" for entry in change.new.ports) if change.new else ""
            why = because(change.new.deciding()) if change.new else ""
            self._write(line((stamp, Role.FAINT), f"  {change.key}  {old} -> {new}  {ports}  {why}"))
        self._write(line((stamp, Role.FAINT), f"  {count(len(applied.proxies), 'proxy', 'proxies')} told"))

    def not_run(self, workloads: Sequence[WorkloadKey]) -> None:
        """Said every time: a workload that is silently left out would be taken for a proven one."""
        for key in workloads:
            self._write(line((f"not run: {key} is an ambient workload; this command runs sidecars", Role.MIDDLING)))

    def proved(self, reports: Sequence[PortReport]) -> None:
        """The table of `--once`."""
        for each in proof_lines(reports):
            self._write(each)

    def refusal(self, seen: ConnectionSeen) -> None:
        """A connection that a proxy refused."""
        why = f"{seen.why.mode} by {seen.why.policy or 'default'}" if seen.why else ""
        details = "; ".join(part for part in (seen.failure, why) if part)
        stamp = time.strftime("%H:%M:%S")
        self._write(
            line(
                (stamp, Role.FAINT),
                ("  refused ", Role.BAD),
                f"{seen.workload}:{seen.port} from {seen.source}: {details}",
            )
        )


class QuietStory(Story):
    """The same for `--once`: the proof is the result, how it went there is not."""

    def started(self, mesh: LocalMesh, tally: Tally) -> None:
        """Only what limits the proof."""
        for each in start_lines(mesh):
            self._write(each)

    def refusal(self, seen: ConnectionSeen) -> None:
        """The probe provokes refusals; the table counts them."""


def start_lines(mesh: LocalMesh) -> Iterator[Line]:
    """What runs, and what this kind of capture does not cover."""
    sidecars = mesh.control_plane.sidecars()
    capture = mesh.network.capture
    yield line((count(len(sidecars), "sidecar"), Role.STRONG), f", {capture.value} capture")
    if capture is Capture.EXPLICIT:
        note = "only declared ports are covered, and who dials an application's own address goes round the proxy"
        yield line((note, Role.FAINT))


def state_lines(mesh: LocalMesh, tally: Tally) -> list[Line]:
    """Every workload and port: where, which mode, why, and what was seen there."""
    head: list[Cell] = [
        (text, Role.FAINT) for text in ("WORKLOAD", "ADDRESS", "PORT", "MODE", *(n for _, n in OUTCOMES), "WHY")
    ]
    rows = [head]
    plane = mesh.control_plane
    for key in plane.sidecars():
        decision = plane.in_force(key)
        others = [None] if mesh.network.capture is Capture.TRANSPARENT else []
        for port in [*(declared.number for declared in plane.declared(key)), *others]:
            mode = decision.mode if port is None else decision.mode_of(port)
            seen = tally.counts(str(key), port)
            rows.append(
                [
                    (str(key), Role.STRONG),
                    mesh.places[key].addresses[0],
                    "others" if port is None else str(port),
                    (mode.value, MODE_ROLES[mode]),
                    *(str(seen.get(outcome, 0)) for outcome, _ in OUTCOMES),
                    (because(decision.deciding(port)), Role.FAINT),
                ]
            )
    return columns(rows)


def state_text(mesh: LocalMesh, tally: Tally) -> str:
    """The same as plain text."""
    return "\n".join(plain(each).rstrip() for each in state_lines(mesh, tally))
