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
    HBONE_OTHER_CA = "hbone-other-ca"
    HBONE_OTHER_DOMAIN = "hbone-other-domain"


TUNNELS = frozenset(
    {ClientKind.HBONE, ClientKind.HBONE_NO_CERT, ClientKind.HBONE_OTHER_CA, ClientKind.HBONE_OTHER_DOMAIN}
)
"""The kinds that open a tunnel on the HBONE port instead of dialling the application's."""
OF_ANOTHER_DOMAIN = frozenset({ClientKind.OTHER_DOMAIN, ClientKind.HBONE_OTHER_DOMAIN})
"""The kinds that need a certificate of another trust domain."""


class Outcome(StrEnum):
    """What became of one attempt.

    ACCEPTED: the application answered, in plaintext or through mutual TLS that the mesh's proxy terminated.
    PASSED_THROUGH: the application itself saw the client's TLS. REFUSED: closed, reset, a TLS alert or an HTTP status.
    NO_ANSWER: connected, and then nothing within the time given. UNREACHABLE: no connection at all. UNVERIFIED: TLS of
    which it cannot be said whose it is (a certificate of the mesh that has ended, a protocol error).
    """

    ACCEPTED = "accepted"
    PASSED_THROUGH = "passed-through"
    REFUSED = "refused"
    NO_ANSWER = "no-answer"
    UNREACHABLE = "unreachable"
    UNVERIFIED = "unverified"


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


_MESH_CERTIFICATE = frozenset({ClientKind.MTLS, ClientKind.MTLS_NO_ALPN})
_ISTIO_ALPN = frozenset({ClientKind.MTLS, ClientKind.ISTIO_ALPN_NO_CERT, ClientKind.OTHER_CA, ClientKind.OTHER_DOMAIN})
_INCONCLUSIVE = {
    Outcome.NO_ANSWER: "a silent connection is neither accepted nor refused, so this proves nothing",
    Outcome.UNREACHABLE: "what cannot be reached proves nothing about the policy",
    Outcome.UNVERIFIED: "whose TLS this is cannot be said, so this proves nothing",
}


def expectation(mode: EffectiveMode, kind: ClientKind, *, dataplane: Dataplane = Dataplane.SIDECAR) -> Expectation:
    """What a port in this effective mode must do with this kind of client."""
    if kind in TUNNELS:
        return _of_tunnel(kind, dataplane)
    if not dataplane.enforces:
        return _untouched(kind, "nothing is enforced here")
    if dataplane is Dataplane.AMBIENT:
        if mode is EffectiveMode.STRICT:
            return Expectation(Outcome.REFUSED, "STRICT in ambient admits HBONE only")
        return _untouched(kind, "ambient passes on whatever is not HBONE")
    return _of_sidecar(mode, kind)


def _of_sidecar(mode: EffectiveMode, kind: ClientKind) -> Expectation:
    if mode is EffectiveMode.DISABLE:
        return _untouched(kind, "DISABLE hands bytes to the application as they are")
    if mode is EffectiveMode.PERMISSIVE and kind not in _ISTIO_ALPN:
        return _untouched(kind, "PERMISSIVE terminates only TLS with Istio's ALPN")
    if kind in _MESH_CERTIFICATE:
        return Expectation(Outcome.ACCEPTED, f"{mode} admits a certificate of this mesh")
    return Expectation(Outcome.REFUSED, f"{mode} {_WHY_REFUSED[kind]}")


_WHY_REFUSED = {
    ClientKind.PLAINTEXT: "admits mutual TLS only",
    ClientKind.TLS: "admits no TLS without a client certificate",
    ClientKind.ISTIO_ALPN_NO_CERT: "terminates Istio's ALPN and requires a client certificate",
    ClientKind.OTHER_CA: "admits no certificate of another authority",
    ClientKind.OTHER_DOMAIN: "admits no certificate of another trust domain",
}


_WHY_NO_TUNNEL = {
    ClientKind.HBONE_NO_CERT: "requires a client certificate",
    ClientKind.HBONE_OTHER_CA: "admits no certificate of another authority",
    ClientKind.HBONE_OTHER_DOMAIN: "admits no certificate of another trust domain",
}


def _of_tunnel(kind: ClientKind, dataplane: Dataplane) -> Expectation:
    if not dataplane.enforces:
        return Expectation(Outcome.UNREACHABLE, "nothing terminates HBONE here")
    if kind is ClientKind.HBONE:
        return Expectation(Outcome.ACCEPTED, "HBONE with a certificate of this mesh is accepted in every mode")
    return Expectation(Outcome.REFUSED, f"HBONE {_WHY_NO_TUNNEL[kind]} in every mode")


def _untouched(kind: ClientKind, why: str) -> Expectation:
    return Expectation(Outcome.ACCEPTED if kind is ClientKind.PLAINTEXT else Outcome.PASSED_THROUGH, why)


def judge(expected: Expectation, attempt: Attempt) -> ProbeVerdict:
    """Compare one attempt, on its own, with what the policy says."""
    seen = attempt.outcome
    if seen is expected.outcome:
        return ProbeVerdict(attempt, expected, True, f"{seen}, as it must be ({expected.why}): {attempt.evidence}")
    doubt = f"; {_INCONCLUSIVE[seen]}" if seen in _INCONCLUSIVE else ""
    sentence = f"{seen}, but must be {expected.outcome} ({expected.why}): {attempt.evidence}{doubt}"
    return ProbeVerdict(attempt, expected, False, sentence)


def judge_port(
    mode: EffectiveMode, attempts: Sequence[Attempt], *, dataplane: Dataplane = Dataplane.SIDECAR
) -> tuple[ProbeVerdict, ...]:
    """Judge all attempts on one port together: a bare close counts as a refusal only if the application is there."""
    alive = any(attempt.outcome in {Outcome.ACCEPTED, Outcome.PASSED_THROUGH} for attempt in attempts)
    verdicts = (judge(expectation(mode, attempt.kind, dataplane=dataplane), attempt) for attempt in attempts)
    return tuple(verdict if alive else _without_control(verdict) for verdict in verdicts)


def _without_control(verdict: ProbeVerdict) -> ProbeVerdict:
    attempt = verdict.attempt
    if not verdict.ok or attempt.outcome is not Outcome.REFUSED or attempt.how is Refusal.ALERT:
        return verdict
    sentence = f"{attempt.evidence}; but no client reached the application, which may be down, so this proves nothing"
    return ProbeVerdict(attempt, verdict.expected, False, sentence)
