"""How many connections of which outcome each port has seen, from the access logs of the proxies."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from peerauth.telemetry import ConnectionSeen, Event, Outcome, parse_connection

INBOUND = "inbound"

Listener = Callable[[ConnectionSeen], None]


class Tally:
    """Takes access-log lines; `counts` is by workload (`namespace/name`) and port.

    A connection counts when it reaches its application, or when it was refused; who listens hears of it then.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int | None], Counter[Outcome]] = {}
        self._listeners: list[Listener] = []

    def feed(self, line: bytes) -> None:
        """One line of a proxy's standard output; what is no access log of ours is passed over."""
        seen = parse_connection(line)
        if seen is None or seen.direction != INBOUND:
            return
        if seen.event is Event.START or seen.outcome is Outcome.REFUSED:
            self._counts.setdefault((seen.workload, seen.port), Counter())[seen.outcome] += 1
            for listener in tuple(self._listeners):
                listener(seen)

    def counts(self, workload: str, port: int | None) -> Mapping[Outcome, int]:
        """What one port has seen; outcomes that never happened are missing."""
        return self._counts.get((workload, port), Counter())

    @contextlib.contextmanager
    def heard_by(self, listener: Listener) -> Iterator[None]:
        """Tells `listener` of every connection that counts, for as long as the context lasts."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)
