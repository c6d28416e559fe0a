"""The exceptions of peerauth: few, with fields, for what is not an expected outcome.

Expected outcomes are values: a decision, a diagnostic, a refused resource. An exception here means that an operation
could not be carried out; its message says the fact, the likely cause where it is known, and the next step.
"""

from __future__ import annotations


class PeerAuthError(Exception):
    """Base of every error that peerauth raises on purpose; the command line prints it without a traceback.

    `message` states the fact; `hint` is the next step for the person who reads it, or empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message if not hint else f"{message}\n  hint: {hint}")
        self.message = message
        self.hint = hint


class IdentityError(PeerAuthError):
    """A key, certificate, request or SPIFFE identity that cannot be used; `message` says which and why."""


class SourceError(PeerAuthError):
    """Input that cannot be read at all: a missing file, broken UTF-8, a document over a limit."""


class ProxyError(PeerAuthError):
    """A proxy that could not be started or did not become ready; `message` carries what it said last."""


class PlatformError(PeerAuthError):
    """The machine lacks what was asked of it: root, network namespaces, nftables, a free address."""


class LockedError(PlatformError):
    """Another process holds what is needed; trying again may help."""
