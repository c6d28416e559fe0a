"""HBONE as a client: HTTP/2 CONNECT over TLS that is already established, then bytes through the tunnel.

The response's status is the proxy's word; only bytes that come back through the tunnel are the application's.
"""

from __future__ import annotations

import contextlib

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from peerauth.probe.kinds import Outcome, RefusedBy
from peerauth.probe.reading import Seen, answered, closed
from peerauth.probe.tls import TlsStream


async def converse(stream: TlsStream, *, authority: str, request: bytes) -> Seen:
    """Open a tunnel to `authority` (address:port), send `request`, and say what came back.

    Raises what the stream raises; a peer that does not speak HTTP/2 is UNVERIFIED.
    """
    # A CONNECT request has no :path and no :scheme, which the library's checks insist on.
    config = h2.config.H2Configuration(client_side=True, validate_outbound_headers=False)
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    tunnel = connection.get_next_available_stream_id()
    connection.send_headers(tunnel, [(":method", "CONNECT"), (":authority", authority)])
    await stream.send(connection.data_to_send())
    opened = False
    while data := await stream.receive():
        if data.startswith(b"HTTP/1"):  # to the library, the beginning of a very long frame
            return Seen(Outcome.UNVERIFIED, "the peer answers CONNECT in HTTP/1")
        try:
            events = connection.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            return Seen(Outcome.UNVERIFIED, f"the peer does not speak HTTP/2: {error}")
        for event in events:
            if isinstance(event, h2.events.ResponseReceived) and _status(event) == "200":
                opened = True
                with contextlib.suppress(h2.exceptions.ProtocolError):  # over already; the next events say how
                    connection.send_data(tunnel, request)
            elif seen := _conclusion(event, opened=opened):
                return seen
        await stream.send(connection.data_to_send())
    return closed("after the tunnel was opened" if opened else "after the TLS handshake")


def _status(event: h2.events.ResponseReceived) -> str:
    for name, value in event.headers or []:
        if name in {b":status", ":status"}:
            return value.decode() if isinstance(value, bytes) else value
    return ""


def _conclusion(event: h2.events.Event, *, opened: bool) -> Seen | None:
    if isinstance(event, h2.events.DataReceived) and event.data and opened:
        return answered(event.data, through="through the tunnel")
    if isinstance(event, h2.events.ResponseReceived):
        return Seen(Outcome.REFUSED, f"HTTP status {_status(event)} to CONNECT", RefusedBy.STATUS)
    if isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
        code = h2.errors.ErrorCodes(event.error_code).name if event.error_code in set(h2.errors.ErrorCodes) else "?"
        return Seen(Outcome.REFUSED, f"HTTP/2 {type(event).__name__} {code}", RefusedBy.STATUS)
    if isinstance(event, h2.events.StreamEnded):
        return closed("after the tunnel was opened")
    return None
