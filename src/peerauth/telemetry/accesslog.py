"""The access logs of all proxies as one: connections that arrived at workloads, told to whoever listens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from peerauth.dataplane.envoy.accesslog import INBOUND
from peerauth.model.connections import Arrival, ConnectionSeen, Event
from peerauth.telemetry.envoy import parse_connection
from peerauth.telemetry.ztunnel import parse_access

Listener = Callable[[ConnectionSeen], object]


class AccessLog:
    """Takes lines. A connection is told of once: when it reaches its application, or when it was refused."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def feed(self, line: bytes) -> None:
        """One line of a proxy's standard output; what is no access log that we know is passed over."""
        seen = _told(line)
        if seen is not None and seen.direction == INBOUND:
            for listener in tuple(self._listeners):
                listener(seen)

    @contextlib.contextmanager
    def heard_by(self, listener: Listener) -> Iterator[None]:
        """Tells `listener` for as long as the context lasts."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)


def _told(line: bytes) -> ConnectionSeen | None:
    """The connection of which a line tells, unless another line of it does: Envoy has two, ztunnel one, at the end."""
    seen = parse_connection(line)
    if seen is None:
        return parse_access(line)
    return seen if seen.event is Event.START or seen.arrival is Arrival.REFUSED else None
