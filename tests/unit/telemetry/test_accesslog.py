"""Which lines tell of a connection, and who hears of it."""

from __future__ import annotations

import json

from peerauth.model.connections import Arrival, ConnectionSeen
from peerauth.telemetry.accesslog import AccessLog


def line(*, event: str, chain: str, direction: str = "inbound", flags: str = "-") -> bytes:
    said = {
        "kind": "connection",
        "event": event,
        "workload": "foo/finance",
        "direction": direction,
        "chain": chain,
        "cluster": "blackhole" if chain.startswith("refused") else "inbound|8080",
        "source": "10.0.0.2:40000",
        "destination": "10.0.0.1:8080",
        "flags": flags,
        "received": 1,
        "sent": 1,
        "started": "1795256386.777279",
        "duration_ms": 1,
    }
    return json.dumps(said).encode()


def told(*lines: bytes) -> list[tuple[str, int | None, Arrival]]:
    log = AccessLog()
    heard: list[ConnectionSeen] = []
    with log.heard_by(heard.append):
        for each in lines:
            log.feed(each)
    return [(seen.workload, seen.port, seen.arrival) for seen in heard]


def test_a_connection_is_told_of_once_when_it_reaches_its_application() -> None:
    lines = line(event="start", chain="plain_8080"), line(event="end", chain="plain_8080")
    assert told(*lines) == [("foo/finance", 8080, Arrival.PLAINTEXT)]


def test_a_refused_connection_is_told_of_when_it_ends() -> None:
    lines = (line(event="end", chain="refused_8080", flags="UH"),)
    assert told(*lines) == [("foo/finance", 8080, Arrival.REFUSED)]


def test_outbound_connections_and_other_lines_are_not_told_of() -> None:
    assert told(line(event="start", chain="plain_8080", direction="outbound"), b"[warning] something else") == []


def test_a_listener_hears_only_while_it_listens() -> None:
    log = AccessLog()
    heard: list[ConnectionSeen] = []
    with log.heard_by(heard.append):
        log.feed(line(event="start", chain="plain_8080"))
    log.feed(line(event="start", chain="plain_8080"))
    assert [seen.arrival for seen in heard] == [Arrival.PLAINTEXT]
