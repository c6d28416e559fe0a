"""What `peerauth up` tells while it runs: a table that keeps itself current on a terminal, lines elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial

import msgspec

from peerauth.cli.findings import error_text
from peerauth.cli.outlet import Diverted, Form, outlets
from peerauth.cli.proved import because, decider, proof_lines
from peerauth.cli.render import BLANK, MODE_ROLES, Cell, Line, Role, columns, count, line, painter
from peerauth.cli.screen import Screen
from peerauth.cli.visible import visible
from peerauth.local.flows import FlowReport
from peerauth.local.proof import PortReport
from peerauth.model.connections import Arrival, ConnectionSeen
from peerauth.model.diagnostic import Diagnostic, Severity
from peerauth.model.placement import Capture
from peerauth.policy.decision import Dataplane
from peerauth.policy.index import DecisionChange
from peerauth.view import MeshView, ServedPort

ARRIVALS = (
    (Arrival.PLAINTEXT, "plaintext"),
    (Arrival.PASSTHROUGH_TLS, "own tls"),
    (Arrival.MUTUAL_TLS, "mutual tls"),
    (Arrival.UNTOUCHED, "untouched"),
    (Arrival.REFUSED, "refused"),
)
NEWS_SHOWN = 12
FRAMES_PER_SECOND = 4


class Machine(msgspec.Struct, frozen=True):
    """How this machine runs a mesh: what captures connections, and what the proxy of ambient workloads is called."""

    capture: Capture
    node_proxy: str = "node proxy"


def story_of(machine: Machine, *, once: bool) -> ProofStory:
    """Who tells the run: only the proof with --once, a live table on a terminal, lines in a log."""
    if once:
        return ProofStory(machine)
    return LiveStory(machine) if sys.stdout is not None and sys.stdout.isatty() else LogStory(machine)


class ProofStory:
    """For `--once`: the proof is the result; how it came about is for standard error, on a terminal only."""

    def __init__(self, machine: Machine, *, form: Form = str) -> None:
        self.machine = machine
        self.out, self.err = outlets(form=form)
        # Without a standard error its number may belong to another file by now.
        self._diverted = Diverted(self.err) if sys.stderr is not None else None
        self.paint = painter(sys.stdout)
        self._began = time.monotonic()

    def progress(self, sentence: str) -> None:
        """What is being done now."""
        if os.isatty(self.err.descriptor):
            self.err.say(f"[{time.monotonic() - self._began:5.1f} s] {visible(sentence)}\n")

    def refused(self, diagnostics: Sequence[Diagnostic]) -> None:
        """Errors as they are; warnings are `check`'s business."""
        for diagnostic in diagnostics:
            if diagnostic.severity is Severity.ERROR:
                self.err.say(error_text(diagnostic))

    def trouble(self, diagnostics: Sequence[Diagnostic]) -> None:
        """As it is."""
        for diagnostic in diagnostics:
            self.err.say(error_text(diagnostic))

    def mended(self, sentence: str) -> None:
        """Too late for a proof."""

    def started(self, view: MeshView) -> None:
        """What limits the proof."""
        self.out.promise(self.paint(start_lines(view, self.machine)))

    def seen(self, connection: ConnectionSeen) -> None:
        """The probe provokes them; the table says what became of them."""

    def changed(self, decisions: Sequence[DecisionChange]) -> None:
        """Nothing changes in a run of one proof."""

    def acknowledged(self, proxies: int) -> None:
        """That is what the proof is for."""

    def proved(self, reports: Sequence[PortReport], flows: Sequence[FlowReport]) -> None:
        """The tables and the verdict."""
        self.out.promise(self.paint(proof_lines(reports, flows)))

    def ended(self) -> None:
        """Nothing is open."""

    def deliver(self) -> None:
        """Waits until the proof has been read, however slowly. Raises OSError if it cannot be."""
        self.out.deliver(seconds=None)

    def close(self) -> None:
        """Leaves, with a moment for those who read."""
        if self._diverted is not None:
            self._diverted.end()
        self.out.close()
        self.err.close()


class LogStory(ProofStory):
    """For a log: the state once, then a line for every refused connection and every change."""

    def refused(self, diagnostics: Sequence[Diagnostic]) -> None:
        """Errors, and what they mean for what runs."""
        super().refused(diagnostics)
        if any(diagnostic.severity is Severity.ERROR for diagnostic in diagnostics):
            self.err.say("what was in force there stays in force\n")

    def mended(self, sentence: str) -> None:
        """As good as an edit."""
        self.tell([line(_stamp(), ("  mended ", Role.GOOD), sentence)])

    def started(self, view: MeshView) -> None:
        """What runs, where, and why it does what it does."""
        self.tell([*start_lines(view, self.machine), *state_lines(view), line("ready; stop with Ctrl-C")])

    def seen(self, connection: ConnectionSeen) -> None:
        """A refusal is news; what was let in is counted."""
        if connection.arrival is Arrival.REFUSED:
            self.tell([refusal_line(connection)])

    def changed(self, decisions: Sequence[DecisionChange]) -> None:
        """Every workload whose decision is another now."""
        self.tell(change_lines(decisions))

    def acknowledged(self, proxies: int) -> None:
        """What was changed is what so many proxies do."""
        self.tell([line(_stamp(), f"  {count(proxies, 'proxy', 'proxies')} acknowledged")])

    def tell(self, lines: Sequence[Line]) -> None:
        """At once: a log is read while it grows."""
        if lines:
            self.out.say(self.paint(lines))


class LiveStory(LogStory):
    """For a terminal: one table that keeps itself current, the latest news below it.

    The table is put together here, where the mesh changes, and drawn by the thread that writes: a new one only when
    the last one is on the screen.
    """

    def __init__(self, machine: Machine) -> None:
        self._screen = Screen(sys.stdout)
        super().__init__(machine, form=self._screen.above)
        self._news: deque[Line] = deque(maxlen=NEWS_SHOWN)
        self._view: MeshView | None = None
        self._next: asyncio.TimerHandle | None = None

    def started(self, view: MeshView) -> None:
        """From here on the table is on the screen."""
        self._view = view
        self._draw()

    def ended(self) -> None:
        """Leaves the last state on the screen."""
        if self._next is not None:
            self._next.cancel()
        if self._view is not None:
            self.out.show(partial(self._screen.leave, self._table(self._view)))

    def tell(self, lines: Sequence[Line]) -> None:
        """News go below the table."""
        self._news.extend(lines)

    def _draw(self) -> None:
        self._next = asyncio.get_running_loop().call_later(1 / FRAMES_PER_SECOND, self._draw)
        if self._view is not None and self.out.idle:
            self.out.show(partial(self._screen.draw, self._table(self._view)))

    def _table(self, view: MeshView) -> list[Line]:
        lines = [*start_lines(view, self.machine), BLANK, *state_lines(view), BLANK, *self._news]
        return [*lines, line(("Ctrl-C stops everything", Role.FAINT))]


def start_lines(view: MeshView, machine: Machine) -> Iterator[Line]:
    """What runs, and what this kind of capture does not cover."""
    sidecars = sum(served.dataplane is Dataplane.SIDECAR for served in view.served())
    ambient = len(view.served()) - sidecars
    running = [count(sidecars, "sidecar")] if sidecars or not ambient else []
    running += [f"one {machine.node_proxy} for {count(ambient, 'ambient workload')}"] if ambient else []
    yield line((", ".join(running), Role.STRONG), f", {machine.capture.value} capture")
    if machine.capture is Capture.EXPLICIT:
        note = "only declared ports are covered, and who dials an application's own address goes round the proxy"
        yield line((note, Role.FAINT))


def state_lines(view: MeshView) -> list[Line]:
    """Every workload and port: where, which mode, what was seen there, and why."""
    names = ("WORKLOAD", "ADDRESS", "PORT", "MODE", *(name for _, name in ARRIVALS), "WHY")
    rows: list[list[Cell]] = [[(name, Role.FAINT) for name in names]]
    for served in view.served():
        for port in served.ports:
            seen = view.arrived(served.key, port.number)
            rows.append(
                [
                    (str(served.key), Role.STRONG),
                    served.addresses[0],
                    "others" if port.number is None else str(port.number),
                    mode_cell(port),
                    *(str(seen.get(arrival, 0)) for arrival, _ in ARRIVALS),
                    (decider(port.reason), Role.FAINT),
                ]
            )
    return columns(rows)


def mode_cell(port: ServedPort) -> Cell:
    """A port's mode, and what is enforced where that is something else (ambient has no DISABLE)."""
    done = port.enforced
    return (port.asked.value if done is port.asked else f"{port.asked.value} (as {done.value})", MODE_ROLES[done])


def refusal_line(seen: ConnectionSeen) -> Line:
    """A connection that a proxy refused: which port, who, why, and whose policy."""
    policy = f"{seen.why.mode} by {seen.why.policy or 'default'}" if seen.why else ""
    details = "; ".join(part for part in (seen.failure, policy) if part)
    return line(_stamp(), ("  refused ", Role.BAD), f"{seen.workload}:{seen.port} from {seen.source}: {details}")


def change_lines(decisions: Sequence[DecisionChange]) -> list[Line]:
    """What one edit decided."""
    return [_change_line(change) for change in sorted(decisions, key=lambda change: change.key)]


def _change_line(change: DecisionChange) -> Line:
    old = change.old.mode.value if change.old else "(new)"
    if change.new is None:
        return line(_stamp(), f"  {change.key}  {old} -> (gone)")
    ports = "".join(f", {entry.port} {entry.mode.value}" for entry in change.new.ports)
    return line(_stamp(), f"  {change.key}  {old} -> {change.new.mode.value}{ports}  {because(change.new.deciding())}")


def _stamp() -> tuple[str, Role]:
    return (time.strftime("%H:%M:%S"), Role.FAINT)
