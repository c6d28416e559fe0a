"""What is claimed about a connection from its log line, and what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from envoy.extensions.access_loggers.stream.v3 import stream_pb2
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from peerauth.dataplane.envoy import accesslog
from peerauth.model.connections import Arrival, Event, Why
from peerauth.model.inventory import WorkloadKey
from peerauth.telemetry.envoy import PortTotal, _Line, parse_connection, totals
from samples.sidecars import CLIENT

NO_CERTIFICATE = "TLS_error:|268435648:SSL_routines:OPENSSL_internal:PEER_DID_NOT_RETURN_A_CERTIFICATE:TLS_error_end"
WRONG_NAME = "TLS_error:|268435581:SSL_routines:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_SAN_matcher:TLS_error_end"
WHY = {"mode": "STRICT", "level": "namespace", "policy": "foo/default"}


def line(**said: Any) -> str:
    """A log line as Envoy 1.40 writes it, of a mutual-TLS connection unless told otherwise."""
    fields = {
        "kind": "connection",
        "event": "end",
        "workload": "foo/finance",
        "direction": "inbound",
        "chain": "mtls_8080",
        "cluster": "inbound|8080",
        "why_chain": None,
        "why_cluster": WHY,
        "source": "10.0.0.2:40000",
        "destination": "10.0.0.1:8080",
        "upstream": "127.0.0.1:18080",
        "peer": CLIENT.uri,
        "tls": "TLSv1.3",
        "tls_failure": None,
        "upstream_tls_failure": None,
        "upstream_peer": None,
        "server_name": None,
        "flags": "-",
        "received": 11,
        "sent": 16,
        "started": "1795256386.777279",
        "duration_ms": 3,
    }
    return json.dumps(fields | said)


def seen(**said: Any) -> Any:
    found = parse_connection(line(**said))
    assert found is not None
    return found


def test_a_line_becomes_a_value() -> None:
    found = seen()
    assert (found.workload, found.port, found.source) == ("foo/finance", 8080, "10.0.0.2:40000")
    assert (found.arrival, found.peer, found.event) == (Arrival.MUTUAL_TLS, CLIENT, Event.END)
    assert found.why == Why("STRICT", "namespace", "foo/default")
    assert (found.received, found.sent, found.duration_ms) == (11, 16, 3)
    assert (found.failure, found.flags, found.tunnel) == ("", "", False)


@pytest.mark.parametrize("failure", [NO_CERTIFICATE, WRONG_NAME])
def test_a_certificate_that_was_not_verified_is_no_identity(failure: str) -> None:
    found = seen(cluster=None, tls_failure=failure, received=0, sent=0)
    assert (found.arrival, found.peer) == (Arrival.REFUSED, None)
    assert found.failure


def test_a_handshake_that_was_broken_off_is_neither_an_identity_nor_a_refusal() -> None:
    found = seen(cluster=None, received=0, sent=0)
    assert (found.arrival, found.peer) == (Arrival.ABANDONED, None)


def test_a_refused_plaintext_client_carries_the_policy_that_refused_it() -> None:
    inspector = "TLS_error|error:100000f7:SSL_routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end"
    found = seen(chain="refused_8080", cluster="blackhole", why_chain=WHY, peer=None, tls_failure=inspector, flags="UH")
    assert found.arrival is Arrival.REFUSED
    assert found.why == Why("STRICT", "namespace", "foo/default")
    assert found.failure == "plaintext, and only mutual TLS is allowed"


@pytest.mark.parametrize(
    ("chain", "flags", "arrival"),
    [
        ("plain_8080", "-", Arrival.PLAINTEXT),
        ("plain_any", "UF", Arrival.PLAINTEXT),
        ("tlspass_8080", "-", Arrival.PASSTHROUGH_TLS),
        ("mtlsany_8080", "-", Arrival.MUTUAL_TLS),
        ("disabled_8080", "-", Arrival.UNTOUCHED),
        ("loop", "UH", Arrival.REFUSED),
        (None, "NR", Arrival.REFUSED),
        (None, "-", Arrival.ABANDONED),
        ("a chain of another version", "-", Arrival.REFUSED),
    ],
)
def test_the_chain_tells_as_what_it_arrived(chain: str | None, flags: str, arrival: Arrival) -> None:
    assert seen(chain=chain, flags=flags).arrival is arrival


def test_a_tunnel_is_about_the_port_that_it_asks_for() -> None:
    found = seen(kind="tunnel", chain="hbone", destination="10.0.0.1:15008", authority="[fd00::1]:9000", status=200)
    assert (found.tunnel, found.port, found.arrival, found.peer) == (True, 9000, Arrival.MUTUAL_TLS, CLIENT)
    refused = seen(kind="tunnel", chain="hbone", authority="10.0.0.1:9000", status=400)
    assert (refused.arrival, refused.peer) == (Arrival.REFUSED, None)


@pytest.mark.parametrize("port", ["", "-1", "65536", "²", "0x50", "9" * 5_000])
def test_a_port_that_cannot_be_is_not_told(port: str) -> None:
    assert seen(kind="tunnel", chain="hbone", authority=f"10.0.0.1:{port}", status=400).port is None


def test_outbound_only_the_verified_server_is_a_peer() -> None:
    verified = seen(direction="outbound", chain="egress|7001|web", peer=None, upstream_peer=CLIENT.uri)
    assert (verified.arrival, verified.peer) == (Arrival.MUTUAL_TLS, CLIENT)
    failed = seen(direction="outbound", chain="egress|7001|web", upstream_peer=CLIENT.uri, upstream_tls_failure="x")
    assert (failed.arrival, failed.peer, failed.failure) == (Arrival.REFUSED, None, "x")
    assert seen(direction="outbound", chain="outbound|passthrough").arrival is Arrival.UNTOUCHED


def test_a_name_that_is_no_spiffe_identity_is_not_shown_as_one() -> None:
    assert seen(peer="https://example.com/").peer is None


@pytest.mark.parametrize(
    "text", ["", "[2026] warning", "{", "{}", "[]", '{"kind": "connection"}', '{"event": "other"}']
)
def test_other_lines_are_passed_over(text: str) -> None:
    assert parse_connection(text) is None


@given(st.dictionaries(st.sampled_from(sorted(json.loads(line()))), st.none() | st.text() | st.integers()))
def test_no_line_is_too_odd_to_read(said: dict[str, Any]) -> None:
    parse_connection(line(**said))


@given(st.binary())
def test_no_bytes_are_too_odd_to_read(raw: bytes) -> None:
    parse_connection(raw)


def test_every_field_that_is_read_is_written() -> None:
    written: set[str] = set()
    for log in (accesslog.connection_end(WorkloadKey("a", "b")), *accesslog.tunnel_logs(WorkloadKey("a", "b"))):
        shape = stream_pb2.StdoutAccessLog()
        assert log.typed_config.Unpack(shape)
        written |= set(json_format.MessageToDict(shape.log_format.json_format))
    assert set(_Line.__struct_fields__) <= written


def test_totals_count_handshakes_for_mutual_tls_and_failures_as_refused() -> None:
    stats = {
        "tcp.plain_8080.downstream_cx_total": 2,
        "tcp.refused_9000.downstream_cx_total": 3,
        "tcp.plain_any.downstream_cx_total": 1,
        "tcp.mtls_8080.downstream_cx_total": 9,
        "tcp.outbound|passthrough.downstream_cx_total": 7,
        "listener.inbound_8080.ssl.handshake": 4,
        "listener.inbound_8080.ssl.fail_verify_no_cert": 1,
        "listener.inbound_8080.ssl.fail_verify_san": 1,
        "listener.virtualInbound.ssl.handshake": 0,
    }
    assert totals(stats) == (
        PortTotal(None, Arrival.PLAINTEXT, 1),
        PortTotal(8080, Arrival.MUTUAL_TLS, 4),
        PortTotal(8080, Arrival.PLAINTEXT, 2),
        PortTotal(8080, Arrival.REFUSED, 2),
        PortTotal(9000, Arrival.REFUSED, 3),
    )
