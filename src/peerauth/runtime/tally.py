"""How many connections of which outcome each port has seen, from the access logs of the proxies."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping

from peerauth.telemetry import ConnectionSeen, Event, Outcome, parse_connection

KEPT_REFUSALS = 20
INBOUND = "inbound"


class Tally:
    """Takes access-log lines; `counts` is by workload (`namespace/name`) and port, `refusals` the latest of them.

    A connection counts when it reaches its application, or when it ended without.
    """

    def __init__(self, on_refusal: Callable[[ConnectionSeen], None] = lambda _: None) -> None:
        self._counts: dict[tuple[str, int | None], Counter[Outcome]] = {}
        self._on_refusal = on_refusal
        self.refusals: deque[ConnectionSeen] = deque(maxlen=KEPT_REFUSALS)

    def feed(self, line: bytes) -> None:
        """One line of a proxy's standard output; what is no access log of ours is passed over."""
        seen = parse_connection(line)
        if seen is None or seen.direction != INBOUND:
            return
        ended_without = seen.event is Event.END and seen.outcome is Outcome.REFUSED
        if seen.event is Event.START or ended_without:
            self._counts.setdefault((seen.workload, seen.port), Counter())[seen.outcome] += 1
        if ended_without:
            self.refusals.append(seen)
            self._on_refusal(seen)

    def counts(self, workload: str, port: int | None) -> Mapping[Outcome, int]:
        """What one port has seen; outcomes that never happened are missing."""
        return self._counts.get((workload, port), Counter())
