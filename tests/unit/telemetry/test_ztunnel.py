"""What is claimed of a connection from ztunnel's own line about it, and what is not."""

from __future__ import annotations

import json

import pytest

from peerauth.identity.spiffe import SpiffeId
from peerauth.model.connections import Arrival, ConnectionSeen, Event
from peerauth.telemetry.accesslog import AccessLog
from peerauth.telemetry.ztunnel import parse_access

PLAINTEXT: dict[str, object] = {
    "level": "info",
    "time": "2026-11-21T11:45:50.921843Z",
    "scope": "access",
    "message": "connection complete",
    "src.addr": "10.250.0.4:60422",
    "dst.addr": "10.250.0.1:8080",
    "dst.workload": "finance",
    "dst.namespace": "foo",
    "dst.cluster": "Kubernetes",
    "direction": "inbound",
    "bytes_sent": 22,
    "bytes_recv": 17,
    "duration": "2ms",
}
TUNNEL = PLAINTEXT | {
    "src.workload": "web",
    "src.namespace": "foo",
    "src.identity": "spiffe://cluster.local/ns/foo/sa/web",
    "dst.addr": "[fd70::1]:15008",
    "dst.hbone_addr": "[fd70::1]:9000",
    "dst.identity": "spiffe://cluster.local/ns/foo/sa/finance",
}
REFUSED = PLAINTEXT | {
    "level": "error",
    "bytes_sent": 0,
    "bytes_recv": 0,
    "error": "connection closed due to policy rejection: explicitly denied by: foo/peerauth-0a5e",
}
UNREACHED = REFUSED | {"error": "connection failed: Connection refused (os error 111)"}
CUT = PLAINTEXT | {"level": "error", "error": "connection closed due to policy change"}


def encoded(said: dict[str, object]) -> bytes:
    return json.dumps(said).encode()


@pytest.mark.parametrize(
    ("said", "arrival", "port"),
    [
        (PLAINTEXT, Arrival.PLAINTEXT, 8080),
        (TUNNEL, Arrival.MUTUAL_TLS, 9000),
        (REFUSED, Arrival.REFUSED, 8080),
        (CUT, Arrival.PLAINTEXT, 8080),
        (UNREACHED, Arrival.ABANDONED, 8080),
    ],
    ids=["plaintext", "a tunnel", "refused", "let in and cut later", "no application"],
)
def test_an_inbound_connection_is_what_the_line_shows(said: dict[str, object], arrival: Arrival, port: int) -> None:
    seen = parse_access(encoded(said))
    assert seen is not None
    assert (seen.workload, seen.direction, seen.event) == ("foo/finance", "inbound", Event.END)
    assert (seen.arrival, seen.port) == (arrival, port)


@pytest.mark.parametrize("port", ["65536", "²", "9" * 5_000])
def test_a_port_that_cannot_be_is_not_told(port: str) -> None:
    seen = parse_access(encoded(TUNNEL | {"dst.hbone_addr": f"10.0.0.1:{port}"}))
    assert seen is not None
    assert seen.port is None


def test_a_tunnel_says_who_came() -> None:
    seen = parse_access(encoded(TUNNEL))
    assert seen is not None
    assert (seen.peer, seen.tunnel) == (SpiffeId("cluster.local", "foo", "web"), True)


def test_the_beginning_is_the_end_less_the_duration() -> None:
    seen = parse_access(encoded(PLAINTEXT | {"time": "2026-11-21T00:00:10.000000Z", "duration": "1500ms"}))
    longer = parse_access(encoded(PLAINTEXT | {"time": "2026-11-21T00:00:10.000000Z", "duration": "0ms"}))
    assert seen is not None
    assert longer is not None
    assert longer.started - seen.started == pytest.approx(1.5)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not JSON",
        b"[1]",
        encoded(PLAINTEXT | {"message": "connection opened"}),
        encoded(PLAINTEXT | {"scope": "ztunnel::state"}),
        encoded({key: value for key, value in PLAINTEXT.items() if key != "dst.workload"}),
        encoded(PLAINTEXT | {"bytes_sent": "many"}),
    ],
    ids=["empty", "text", "another document", "an opening", "another scope", "of no workload", "a wrong type"],
)
def test_nothing_is_claimed_of_other_lines(line: bytes) -> None:
    assert parse_access(line) is None


def test_each_of_its_connections_counts_once_at_the_server() -> None:
    log, heard = AccessLog(), list[ConnectionSeen]()
    for said in (PLAINTEXT | {"message": "connection opened"}, PLAINTEXT, TUNNEL, TUNNEL | {"direction": "outbound"}):
        with log.heard_by(heard.append):
            log.feed(encoded(said))
    assert [(seen.workload, seen.port, seen.arrival) for seen in heard] == [
        ("foo/finance", 8080, Arrival.PLAINTEXT),
        ("foo/finance", 9000, Arrival.MUTUAL_TLS),
    ]
