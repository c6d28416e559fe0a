"""The kinds of client that the probe can be, what each attempt may show, and what the policy says it must show.

Pure: the table of DESIGN section 2 turned round, seen from the client. `expectation` says what a mode must do with a
kind of client; `judge` and `judge_port` compare it with what was observed. A hang or an unreachable address is never
a refusal: it proves nothing, and the verdict says so. A connection closed without a byte is a refusal only when the
same port answered another client: otherwise the application may simply be down.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from peerauth.policy.decision import Dataplane, EffectiveMode


class ClientKind(StrEnum):
    """As whom the probe connects. Istio's ALPN is what a PERMISSIVE port tells mesh clients by."""

    PLAINTEXT = "plaintext"
    TLS = "tls"
    ISTIO_ALPN_NO_CERT = "istio-alpn-no-cert"
    MTLS = "mtls"
    MTLS_NO_ALPN = "mtls-no-alpn"
    OTHER_CA = "other-ca"
    OTHER_DOMAIN = "other-domain"
    HBONE = "hbone"
    HBONE_NO_CERT = "hbone-no-cert"


class Outcome(StrEnum):
    """What became of one attempt.

    ACCEPTED: the application answered, in plaintext or through mutual TLS that the mesh's proxy terminated.
    PASSED_THROUGH: the application itself saw the client's TLS. REFUSED: closed, reset, a TLS alert or an HTTP status.
    NO_ANSWER: connected, and then nothing within the time given. UNREACHABLE: no connection at all.
    """

    ACCEPTED = "accepted"
    PASSED_THROUGH = "passed-through"
    REFUSED = "refused"
    NO_ANSWER = "no-answer"
    UNREACHABLE = "unreachable"


class Refusal(StrEnum):
    """How a connection was refused; only an ALERT is said by a TLS server in so many words."""

    ALERT = "alert"
    STATUS = "status"
    CLOSED = "closed"
    RESET = "reset"


class Attempt(msgspec.Struct, frozen=True):
    """One connection that was tried, and what was seen.

    `evidence` is a sentence for a person. `how` is set when REFUSED. `server` is the SPIFFE URI that the server
    proved, or empty. `seconds` is the attempt's duration.
    """

    kind: ClientKind
    outcome: Outcome
    evidence: str
    how: Refusal | None = None
    server: str = ""
    seconds: float = 0.0


class Expectation(msgspec.Struct, frozen=True):
    """What the policy demands of one kind of client, and why, in a sentence."""

    outcome: Outcome
    why: str


class ProbeVerdict(msgspec.Struct, frozen=True):
    """One attempt held against what the policy says; `ok` only if the attempt proves it."""

    attempt: Attempt
    expected: Expectation
    ok: bool
    sentence: str


def expectation(mode: EffectiveMode, kind: ClientKind, *, dataplane: Dataplane = Dataplane.SIDECAR) -> Expectation:
    """What a port in this effective mode must do with this kind of client."""
    raise NotImplementedError


def judge(expected: Expectation, attempt: Attempt) -> ProbeVerdict:
    """Compare one attempt, on its own, with what the policy says."""
    raise NotImplementedError


def judge_port(
    mode: EffectiveMode, attempts: Sequence[Attempt], *, dataplane: Dataplane = Dataplane.SIDECAR
) -> tuple[ProbeVerdict, ...]:
    """Judge all attempts on one port together: a bare close counts as a refusal only if the application is there."""
    raise NotImplementedError
