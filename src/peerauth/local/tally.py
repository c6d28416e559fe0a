"""How many connections each port has seen, and as what they arrived, from the access logs of the proxies."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from peerauth.dataplane.envoy.accesslog import INBOUND
from peerauth.model.connections import Arrival, ConnectionSeen, Event
from peerauth.telemetry.envoy import parse_connection
from peerauth.telemetry.ztunnel import parse_access

Listener = Callable[[ConnectionSeen], None]


class Tally:
    """Takes access-log lines; `counts` is by workload (`namespace/name`) and port.

    A connection counts when it reaches its application, or when it was refused; who listens hears of it then.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int | None], Counter[Arrival]] = {}
        self._listeners: list[Listener] = []

    def feed(self, line: bytes) -> None:
        """One line of a proxy's standard output; what is no access log that we know is passed over."""
        seen = _counted(line)
        if seen is not None and seen.direction == INBOUND:
            self._counts.setdefault((seen.workload, seen.port), Counter())[seen.arrival] += 1
            for listener in tuple(self._listeners):
                listener(seen)

    def counts(self, workload: str, port: int | None) -> Mapping[Arrival, int]:
        """What one port has seen; what never happened is missing."""
        return self._counts.get((workload, port), Counter())

    @contextlib.contextmanager
    def heard_by(self, listener: Listener) -> Iterator[None]:
        """Tells `listener` of every connection that counts, for as long as the context lasts."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)


def _counted(line: bytes) -> ConnectionSeen | None:
    """The connection that a line tells of, unless another line of it counts: Envoy has two, ztunnel one, at the end."""
    seen = parse_connection(line)
    if seen is None:
        return parse_access(line)
    return seen if seen.event is Event.START or seen.arrival is Arrival.REFUSED else None
