"""Connections as the mesh's proxies have seen them, and the words for what becomes of one at the server's side.

Values only: `telemetry` reads them from what proxies write, `policy.reception` says which are to be expected.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from peerauth.identity.spiffe import SpiffeId


class Arrival(StrEnum):
    """As what a connection arrived: what the server's side made of it (or, outbound, as what it went on).

    PLAINTEXT: let in outside the mesh's mutual TLS; a sidecar has seen that it is no TLS, ambient does not look.
    PASSTHROUGH_TLS: TLS that is not the mesh's, for the application. MUTUAL_TLS: ended by the proxy, the client's
    certificate verified. UNTOUCHED: handed to the application as it is, so no one looked. ABANDONED: the client left
    before it was known what it wanted, or during the handshake; never to be expected. UNREACHABLE: no one is there to
    take it; never seen by a proxy.
    """

    PLAINTEXT = "plaintext"
    PASSTHROUGH_TLS = "passthrough_tls"
    MUTUAL_TLS = "mutual_tls"
    UNTOUCHED = "untouched"
    REFUSED = "refused"
    ABANDONED = "abandoned"
    UNREACHABLE = "unreachable"


class Event(StrEnum):
    """START: the application was reached. END: the connection is over; each connection has one, whatever happened."""

    START = "start"
    END = "end"


class Why(msgspec.Struct, frozen=True):
    """The deciding reason of the port's mode: `policy` is `namespace/name`, empty where no policy speaks."""

    mode: str = ""
    level: str = ""
    policy: str = ""


class ConnectionSeen(msgspec.Struct, frozen=True):
    """One connection, or one HBONE tunnel (`tunnel`: then there is also the connection around it), as logged.

    `port` is the workload's port that was dialled; None if it cannot be told. `peer` is the verified identity of the
    other end: the client, or for an outbound connection the server.
    `failure` says in words why it was refused or failed. `started` is in seconds since the epoch; sizes are bytes.
    """

    workload: str
    direction: str
    event: Event
    arrival: Arrival
    port: int | None
    source: str
    tunnel: bool = False
    chain: str = ""
    peer: SpiffeId | None = None
    why: Why | None = None
    failure: str = ""
    flags: str = ""
    server_name: str = ""
    received: int = 0
    sent: int = 0
    started: float = 0.0
    duration_ms: int = 0
