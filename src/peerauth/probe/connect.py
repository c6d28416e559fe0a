"""One attempt of the probe: really connect as a kind of client, speak, and say what was seen.

The first flight is an HTTP request, long enough for protocol detection to decide (under five bytes hang); bytes that
arrive before it are an answer too (server-first protocols). TLS 1.3 servers reject a client certificate after the
client's handshake is complete, so acceptance is known only from bytes that come back.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import ssl
import time
from collections.abc import Callable

import msgspec

from peerauth.policy.reception import TUNNELS, ClientKind
from peerauth.probe import hbone, reading
from peerauth.probe.credentials import Credentials, client_context, spiffe_identity
from peerauth.probe.kinds import OF_ANOTHER_DOMAIN, Attempt, Outcome
from peerauth.probe.reading import Seen
from peerauth.probe.tls import TcpStream, TlsStream

SocketFactory = Callable[[int], socket.socket]
"""Makes a TCP socket of an address family (AF_INET, AF_INET6); in another network namespace if need be."""

HBONE_PORT = 15008
ISTIO_ALPN = "istio"
_SETTLE_SECONDS = 0.2
"""After the first bytes of an answer: how long to wait for more, only to quote it better."""

_ALPN = {
    ClientKind.ISTIO_ALPN_NO_CERT: (ISTIO_ALPN,),
    ClientKind.MTLS: (ISTIO_ALPN,),
    ClientKind.OTHER_CA: (ISTIO_ALPN,),
    ClientKind.OTHER_DOMAIN: (ISTIO_ALPN,),
    **dict.fromkeys(TUNNELS, ("h2",)),
}


class ProbeTarget(msgspec.Struct, frozen=True):
    """Where to connect: an IP address and the application's port; HBONE goes to `hbone_port` of the same address."""

    address: str
    port: int
    hbone_port: int = HBONE_PORT

    @property
    def authority(self) -> str:
        """The application's address and port, as a tunnel's `:authority`."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


async def attempt(
    target: ProbeTarget,
    kind: ClientKind,
    credentials: Credentials,
    *,
    sockets: SocketFactory | None = None,
    connect_seconds: float = 2.0,
    answer_seconds: float = 3.0,
) -> Attempt:
    """Connect once as `kind`; every outcome is a value.

    Raises ValueError if the kind's certificate was not given or cannot be used.
    """
    context = None if kind is ClientKind.PLAINTEXT else _context(kind, credentials)
    started = time.monotonic()
    server = ""
    opened = await _open(target, kind, sockets=sockets, seconds=connect_seconds)
    if isinstance(opened, Seen):
        seen = opened
    else:
        stream = TcpStream(opened)
        with opened:
            if context is None:
                seen = await _plaintext(stream, target, seconds=answer_seconds)
            else:
                tls = TlsStream(stream, context)
                seen = await _over_tls(tls, stream, target, kind, seconds=answer_seconds)
                server = spiffe_identity(tls.certificate)
    seconds = time.monotonic() - started
    return Attempt(kind, seen.outcome, seen.evidence, how=seen.how, server=server, seconds=seconds)


def _context(kind: ClientKind, credentials: Credentials) -> ssl.SSLContext:
    certificates = {
        ClientKind.MTLS: credentials.mesh,
        ClientKind.MTLS_NO_ALPN: credentials.mesh,
        ClientKind.HBONE: credentials.mesh,
        ClientKind.OTHER_CA: credentials.other_ca,
        ClientKind.HBONE_OTHER_CA: credentials.other_ca,
        **dict.fromkeys(OF_ANOTHER_DOMAIN, credentials.other_domain),
    }
    if kind in OF_ANOTHER_DOMAIN and credentials.other_domain is None:
        raise ValueError("no certificate of another trust domain was given")
    minimum = ssl.TLSVersion.TLSv1_3 if kind in TUNNELS else ssl.TLSVersion.TLSv1_2
    return client_context(certificates.get(kind), roots=credentials.roots, alpn=_ALPN.get(kind, ()), minimum=minimum)


async def _open(
    target: ProbeTarget, kind: ClientKind, *, sockets: SocketFactory | None, seconds: float
) -> socket.socket | Seen:
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    port = target.hbone_port if kind in TUNNELS else target.port
    made = sockets(family) if sockets is not None else socket.socket(family, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(made, (target.address, port))
    except TimeoutError:
        made.close()
        return Seen(Outcome.UNREACHABLE, f"no connection to {target.address} port {port} within {seconds:g} s")
    except OSError as error:
        made.close()
        why = os.strerror(error.errno) if error.errno else str(error)
        return Seen(Outcome.UNREACHABLE, f"no connection to {target.address} port {port}: {why}")
    except BaseException:
        made.close()
        raise
    return made


def _request(target: ProbeTarget) -> bytes:
    return (
        f"GET /peerauth-probe/{secrets.token_hex(8)} HTTP/1.1\r\nHost: {target.authority}\r\n"
        "User-Agent: peerauth-probe\r\nConnection: close\r\n\r\n"
    ).encode()


async def _plaintext(stream: TcpStream, target: ProbeTarget, *, seconds: float) -> Seen:
    when = "to plaintext"
    try:
        async with asyncio.timeout(seconds):
            await stream.send(_request(target))
            data = await stream.receive()
    except TimeoutError:
        return reading.silent(f"{when} within {seconds:g} s")
    except OSError:
        return reading.reset(when)
    return reading.answered(data + await _rest(stream), through="in plaintext") if data else reading.closed(when)


async def _over_tls(
    tls: TlsStream, stream: TcpStream, target: ProbeTarget, kind: ClientKind, *, seconds: float
) -> Seen:
    try:
        async with asyncio.timeout(seconds):
            await tls.handshake()
            if kind in TUNNELS:
                return await hbone.converse(tls, authority=target.authority, request=_request(target))
            await tls.send(_request(target))
            data = await tls.receive()
    except (OSError, TimeoutError) as error:
        return _failure(error, tls, stream, seconds=seconds)
    if not data:
        return reading.closed("after the TLS handshake")
    return reading.answered(data + await _rest(tls), through=f"through {_described(kind)} that the mesh terminated")


def _failure(error: OSError, tls: TlsStream, stream: TcpStream, *, seconds: float) -> Seen:
    when = "after the TLS handshake" if tls.established else "during the TLS handshake"
    if not tls.established and not stream.looks_like_tls():
        return reading.not_tls(stream.first)
    if isinstance(error, TimeoutError):
        return reading.silent(f"{when} within {seconds:g} s")
    # An end without a word: which of the two it is, depends on the version of OpenSSL.
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return reading.closed(when)
    return reading.tls_failed(error, when=when) if isinstance(error, ssl.SSLError) else reading.reset(when)


def _described(kind: ClientKind) -> str:
    return "TLS without a certificate" if kind in {ClientKind.TLS, ClientKind.ISTIO_ALPN_NO_CERT} else "mutual TLS"


async def _rest(stream: TcpStream | TlsStream) -> bytes:
    """What else the answer holds; for the evidence only, so how it ends does not matter."""
    rest = b""
    try:
        async with asyncio.timeout(_SETTLE_SECONDS):
            while len(rest) < 1 << 16 and (more := await stream.receive()):
                rest += more
    except (OSError, TimeoutError):
        pass
    return rest
