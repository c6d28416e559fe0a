"""What the logs of all proxies have in common: addresses with ports, and names that a handshake has verified."""

from __future__ import annotations

from peerauth.errors import IdentityError
from peerauth.identity.spiffe import SpiffeId

_MOST_DIGITS = 5


def port_in(address: str | None) -> int | None:
    """The port of `ADDRESS:PORT`; None if there is none that could be."""
    digits = (address or "").rpartition(":")[2]
    # A tunnel's authority is what a client wrote: thousands of digits are no number for Python.
    written = digits.isascii() and digits.isdecimal() and len(digits) <= _MOST_DIGITS
    return int(digits) if written and int(digits) < 1 << 16 else None


def identity_in(name: str | None) -> SpiffeId | None:
    """The identity that a certificate named; None if it named none."""
    try:
        return SpiffeId.parse(name or "")
    except IdentityError:
        return None
