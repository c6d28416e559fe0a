"""What Envoys saw, read back: access-log lines and counters as typed values. Pure.

The keys are those of `dataplane.envoy.accesslog`, the names of chains and listeners those of `dataplane.envoy.inbound`.
Nothing is claimed beyond what the proxy verified: a certificate's name is an identity only if the handshake came to its
end, which the log shows by the cluster (no cluster is chosen for a client before that), and what a port does not look
at (DISABLE) is neither plaintext nor TLS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from peerauth.dataplane.envoy import accesslog, hbone, inbound
from peerauth.model.connections import Arrival, ConnectionSeen, Event, Why
from peerauth.telemetry.fields import identity_in, port_in


class PortTotal(msgspec.Struct, frozen=True, order=True):
    """How many connections arrived so on a port since the proxy started; `port` None: ports no one declared."""

    port: int | None
    arrival: Arrival
    count: int


def parse_connection(line: str | bytes) -> ConnectionSeen | None:
    """One line of a sidecar's standard output; None if it is not an access-log line of ours."""
    try:
        said = msgspec.json.decode(line, type=_Line)
    except msgspec.DecodeError:
        return None
    arrival = _arrival(said)
    return ConnectionSeen(
        workload=said.workload,
        direction=said.direction,
        event=said.event,
        arrival=arrival,
        port=port_in(said.authority if said.kind == accesslog.TUNNEL and said.authority else said.destination),
        source=said.source or "",
        tunnel=said.kind == accesslog.TUNNEL,
        chain=said.chain or "",
        peer=identity_in(_other_end(said)) if arrival is Arrival.MUTUAL_TLS else None,
        why=said.why_chain or said.why_cluster,
        failure=_failure(said, arrival),
        flags="" if said.flags in {None, "-"} else str(said.flags),
        server_name=said.server_name or "",
        received=said.received,
        sent=said.sent,
        started=_seconds(said.started),
        duration_ms=said.duration_ms or 0,
    )


def totals(stats: Mapping[str, int]) -> tuple[PortTotal, ...]:
    """The inbound totals per port and arrival from a proxy's counters, as Envoy's admin interface names them.

    Mutual TLS is counted by handshakes: the chain's own counter also counts the clients that failed theirs.
    """
    counted: dict[tuple[int | None, Arrival], int] = {}
    for name, value in stats.items():
        found = _counter(name)
        if found is not None and value:
            counted[found] = counted.get(found, 0) + value
    ordered = sorted(counted.items(), key=lambda item: (item[0][0] or 0, item[0][1]))
    return tuple(PortTotal(port, arrival, count) for (port, arrival), count in ordered)


class _Line(msgspec.Struct):
    kind: str
    event: Event
    workload: str
    direction: str
    started: str
    received: int = 0
    sent: int = 0
    chain: str | None = None
    cluster: str | None = None
    why_chain: Why | None = None
    why_cluster: Why | None = None
    source: str | None = None
    destination: str | None = None
    peer: str | None = None
    tls_failure: str | None = None
    upstream_peer: str | None = None
    upstream_tls_failure: str | None = None
    server_name: str | None = None
    flags: str | None = None
    duration_ms: int | None = None
    authority: str | None = None
    status: int | None = None


_CHAIN_ARRIVALS = {
    "plain": Arrival.PLAINTEXT,
    "tlspass": Arrival.PASSTHROUGH_TLS,
    "mtls": Arrival.MUTUAL_TLS,
    "mtlsany": Arrival.MUTUAL_TLS,
    "disabled": Arrival.UNTOUCHED,
    "refused": Arrival.REFUSED,
}
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?\Z")
_TCP_COUNTER = re.compile(rf"tcp\.(plain|tlspass|disabled|refused)_(\d+|{inbound.ANY})\.downstream_cx_total\Z")
_TLS_COUNTER = re.compile(
    rf"listener\.(?:inbound_(\d+)|{inbound.VIRTUAL_INBOUND})\.ssl\.(handshake|fail_verify_no_cert|fail_verify_error|fail_verify_san)\Z"
)
_FAILURES = (
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "the client presented no certificate"),
    ("SAN_matcher", "the client's certificate is for an identity outside this mesh's trust domains"),
    ("unable_to_get_local_issuer", "the client's certificate was not issued by this mesh's authority"),
    ("self_signed_certificate", "the client's certificate was not issued by this mesh's authority"),
    ("certificate_signature_failure", "the client's certificate was not issued by this mesh's authority"),
    ("certificate_has_expired", "the client's certificate has expired"),
    ("certificate_is_not_yet_valid", "the client's certificate is not valid yet"),
    ("UNSUPPORTED_PROTOCOL", "the client's TLS version is too old"),
    ("NO_SHARED_CIPHER", "the client offers no cipher that is allowed"),
)
_LED_NOWHERE = {
    "NC": "the control plane has not said what this destination is",
    "UH": "nothing that could be connected to is known of this destination",
}


def _arrival(said: _Line) -> Arrival:
    if said.direction == accesslog.OUTBOUND:
        return _outbound_arrival(said)
    if said.chain == hbone.HBONE:
        return _tunnel_arrival(said)
    arrival = _CHAIN_ARRIVALS.get((said.chain or "").partition("_")[0])
    if arrival is None:
        # No chain took it. Envoy flags what it turned away; without a flag the client left first.
        return Arrival.REFUSED if said.chain or "NR" in (said.flags or "") else Arrival.ABANDONED
    if arrival is Arrival.MUTUAL_TLS and not said.cluster:
        return Arrival.REFUSED if said.tls_failure else Arrival.ABANDONED
    return arrival


def _tunnel_arrival(said: _Line) -> Arrival:
    if said.kind == accesslog.TUNNEL:
        return Arrival.MUTUAL_TLS if said.status is not None and said.status < 300 else Arrival.REFUSED
    # The connection around the tunnels has no cluster; a request on it proves the handshake, as bytes read do.
    if said.tls_failure:
        return Arrival.REFUSED
    return Arrival.MUTUAL_TLS if said.received else Arrival.ABANDONED


def _outbound_arrival(said: _Line) -> Arrival:
    if said.upstream_tls_failure or _nowhere(said):
        return Arrival.REFUSED
    return Arrival.MUTUAL_TLS if said.upstream_peer else Arrival.UNTOUCHED


def _nowhere(said: _Line) -> str:
    """Why a connection was led nowhere; empty if it was led somewhere."""
    return next((words for flag, words in _LED_NOWHERE.items() if flag in (said.flags or "").split(",")), "")


def _failure(said: _Line, arrival: Arrival) -> str:
    if said.direction == accesslog.OUTBOUND:
        return said.upstream_tls_failure or _nowhere(said)
    if arrival is not Arrival.REFUSED:
        return ""
    if (said.chain or "").startswith("refused_"):
        return "plaintext, and only mutual TLS is allowed"
    if said.status is not None:
        return f"the tunnel was answered {said.status}"
    if not said.tls_failure:
        return "neither TLS nor plaintext that any filter chain takes"
    return next((words for mark, words in _FAILURES if mark in said.tls_failure), said.tls_failure)


def _other_end(said: _Line) -> str | None:
    return said.peer if said.direction == accesslog.INBOUND else said.upstream_peer


def _seconds(text: str) -> float:
    return float(text) if _SECONDS.match(text) else 0.0


def _counter(name: str) -> tuple[int | None, Arrival] | None:
    if match := _TCP_COUNTER.match(name):
        label = match[2]
        return (None if label == inbound.ANY else int(label), _CHAIN_ARRIVALS[match[1]])
    if match := _TLS_COUNTER.match(name):
        arrival = Arrival.MUTUAL_TLS if match[2] == "handshake" else Arrival.REFUSED
        return (int(match[1]) if match[1] else None, arrival)
    return None
