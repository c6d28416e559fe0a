"""What ztunnel saw, read from its log: one line for each connection, when it is over.

A line without a verified identity of the client is a plaintext connection: over HBONE there always is one. It does not
say which policy decided. Handshakes that failed have lines without a workload, which say nothing here.

Source: ztunnel's access log as JSON (LOG_FORMAT=json), observed.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from peerauth.identity.spiffe import SpiffeId
from peerauth.model.connections import Arrival, ConnectionSeen, Event
from peerauth.telemetry.fields import identity_in, port_in

SCOPE = "access"
COMPLETE = "connection complete"
_REJECTED = "policy rejection"
"""In the error of a connection that a policy refused; one that was let in and cut by a later policy has another."""


class _Line(msgspec.Struct):
    scope: str
    message: str
    time: datetime
    direction: str
    duration: str = "0ms"
    source: str = msgspec.field(name="src.addr", default="")
    client: str = msgspec.field(name="src.identity", default="")
    address: str = msgspec.field(name="dst.addr", default="")
    authority: str = msgspec.field(name="dst.hbone_addr", default="")
    server: str = msgspec.field(name="dst.identity", default="")
    workload: str = msgspec.field(name="dst.workload", default="")
    namespace: str = msgspec.field(name="dst.namespace", default="")
    local_workload: str = msgspec.field(name="src.workload", default="")
    local_namespace: str = msgspec.field(name="src.namespace", default="")
    sent: int = msgspec.field(name="bytes_sent", default=0)
    received: int = msgspec.field(name="bytes_recv", default=0)
    error: str = ""


def parse_access(line: bytes) -> ConnectionSeen | None:
    """One line of ztunnel's output; None if it does not tell of a workload's connection that is over."""
    try:
        said = msgspec.json.decode(line, type=_Line)
    except msgspec.DecodeError:
        return None
    inbound = said.direction == "inbound"
    name = said.workload if inbound else said.local_workload
    if (said.scope, said.message) != (SCOPE, COMPLETE) or not name:
        return None
    peer = identity_in(said.client if inbound else said.server)
    milliseconds = _milliseconds(said.duration)
    return ConnectionSeen(
        workload=f"{said.namespace if inbound else said.local_namespace}/{name}",
        direction=said.direction,
        event=Event.END,
        arrival=_arrival(said, peer),
        port=port_in(said.authority or said.address),
        source=said.source,
        tunnel=bool(said.authority),
        peer=peer,
        failure=said.error,
        received=said.received,
        sent=said.sent,
        started=said.time.timestamp() - milliseconds / 1000,
        duration_ms=milliseconds,
    )


def _arrival(said: _Line, peer: SpiffeId | None) -> Arrival:
    if _REJECTED in said.error:
        return Arrival.REFUSED
    if said.error and not said.sent and not said.received:
        return Arrival.ABANDONED  # the application was not reached, or nobody said anything
    return Arrival.MUTUAL_TLS if peer is not None else Arrival.PLAINTEXT


def _milliseconds(duration: str) -> int:
    number = duration.removesuffix("ms")
    return int(number) if number.isascii() and number.isdigit() else 0
