"""What counts as a connection, and who hears of it."""

from __future__ import annotations

import json

from peerauth.local.tally import Tally
from peerauth.model.connections import Arrival, ConnectionSeen


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


def test_a_connection_counts_once_when_it_reaches_its_application() -> None:
    tally = Tally()
    tally.feed(line(event="start", chain="plain_8080"))
    tally.feed(line(event="end", chain="plain_8080"))
    assert tally.counts("foo/finance", 8080) == {Arrival.PLAINTEXT: 1}


def test_a_refused_connection_counts_when_it_ends() -> None:
    tally = Tally()
    tally.feed(line(event="end", chain="refused_8080", flags="UH"))
    assert tally.counts("foo/finance", 8080) == {Arrival.REFUSED: 1}


def test_outbound_connections_and_other_lines_do_not_count() -> None:
    tally = Tally()
    tally.feed(line(event="start", chain="plain_8080", direction="outbound"))
    tally.feed(b"[warning] something else")
    assert tally.counts("foo/finance", 8080) == {}


def test_a_listener_hears_only_while_it_listens() -> None:
    tally = Tally()
    heard: list[ConnectionSeen] = []
    with tally.heard_by(heard.append):
        tally.feed(line(event="start", chain="plain_8080"))
    tally.feed(line(event="start", chain="plain_8080"))
    assert [seen.arrival for seen in heard] == [Arrival.PLAINTEXT]
