"""One attempt of the probe: really connect as a kind of client, speak, and say what was seen.

The first flight is an HTTP request with a nonce, long enough for protocol detection to decide (under five bytes
hang); bytes that arrive before it are an answer too (server-first protocols). TLS 1.3 servers reject a client
certificate after the client's handshake is complete, so acceptance is known only from bytes that come back.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import msgspec

from peerauth.probe.credentials import Credentials
from peerauth.probe.kinds import Attempt, ClientKind

SocketFactory = Callable[[int], socket.socket]
"""Makes a TCP socket of an address family (AF_INET, AF_INET6); in another network namespace if need be."""

HBONE_PORT = 15008


class ProbeTarget(msgspec.Struct, frozen=True):
    """Where to connect: an IP address and the application's port; HBONE goes to `hbone_port` of the same address."""

    address: str
    port: int
    hbone_port: int = HBONE_PORT


async def attempt(
    target: ProbeTarget,
    kind: ClientKind,
    credentials: Credentials,
    *,
    sockets: SocketFactory | None = None,
    connect_seconds: float = 2.0,
    answer_seconds: float = 3.0,
) -> Attempt:
    """Connect once as `kind`; every outcome is a value. Raises ValueError if the kind's certificate was not given."""
    raise NotImplementedError
