"""What bytes and errors mean: from what a connection showed to an outcome with evidence. Pure.

Being refused is concluded only from a refusal (an alert, a close, a reset), never from silence; that the application
saw the TLS only from an answer that is not TLS, or from a TLS server that is not of this mesh.
"""

from __future__ import annotations

import json
import ssl

import msgspec

from peerauth.probe.kinds import Outcome, RefusedBy

ECHO_TLS_MARKER = b"peerauth-echo: saw TLS ClientHello"
"""How the echo application says that a client's TLS reached it."""

_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})  # X509_V_ERR_*: no chain to a root that is trusted here


class Seen(msgspec.Struct, frozen=True):
    """An outcome and how it is known."""

    outcome: Outcome
    evidence: str
    how: RefusedBy | None = None


def answered(data: bytes, *, through: str) -> Seen:
    """Bytes came back from the application; `through` says by which way."""
    return Seen(Outcome.ACCEPTED, f"{_who(data)} answered {through}")


def closed(when: str) -> Seen:
    """The connection was ended in an orderly way, without a byte."""
    return Seen(Outcome.REFUSED, f"closed without a byte {when}", RefusedBy.CLOSED)


def reset(when: str) -> Seen:
    """The connection was reset."""
    return Seen(Outcome.REFUSED, f"reset {when}", RefusedBy.RESET)


def silent(when: str) -> Seen:
    """Nothing came within the time given."""
    return Seen(Outcome.NO_ANSWER, f"no answer {when}")


def not_tls(first: bytes) -> Seen:
    """The answer to a ClientHello was not TLS: the application itself saw it."""
    if ECHO_TLS_MARKER.startswith(first[: len(ECHO_TLS_MARKER)]):
        return Seen(Outcome.PASSED_THROUGH, "the echo application says that it saw the TLS ClientHello")
    return Seen(Outcome.PASSED_THROUGH, f"the answer to the TLS ClientHello was plaintext: {_quoted(first)}")


def tls_failed(error: ssl.SSLError, *, when: str) -> Seen:
    """TLS failed with a TLS peer."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _UNKNOWN_AUTHORITY:
            said = "a TLS server that is not of this mesh answered: the application's own TLS"
            return Seen(Outcome.PASSED_THROUGH, f"{said} ({error.verify_message})")
        return Seen(Outcome.UNVERIFIED, f"the server's certificate is not valid: {error.verify_message}")
    reason = error.reason or str(error)
    _, is_alert, name = reason.partition("ALERT_")
    if is_alert:
        return Seen(Outcome.REFUSED, f"TLS alert {name.lower()} {when}", RefusedBy.ALERT)
    return Seen(Outcome.UNVERIFIED, f"TLS failed {when}: {reason}")


def _who(data: bytes) -> str:
    status, _, body = data.partition(b"\r\n\r\n")
    try:
        said = json.loads(body)
        return f"{said['workload']} port {said['port']}"
    except (ValueError, KeyError, TypeError):
        first_line = status.split(b"\n", 1)[0]
        return f"the application ({_quoted(first_line)})"


def _quoted(data: bytes) -> str:
    text = data[:48].decode("latin-1")
    return repr(text)[:80]
