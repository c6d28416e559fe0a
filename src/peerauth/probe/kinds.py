"""What an attempt to connect as a kind of client may show, and what the policy says it must show.

Pure. `expectation` says what a port must do with a kind of client, as `policy.reception` has it; `judge` and
`judge_port` compare it with what was observed. A hang or an unreachable address is never
a refusal: it proves nothing, and the verdict says so. A connection closed without a byte is a refusal only when the
same port answered another client: otherwise the application may simply be down.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from peerauth.model.connections import Arrival
from peerauth.policy.decision import Decision
from peerauth.policy.reception import ClientKind, reception

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


class RefusedBy(StrEnum):
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
    how: RefusedBy | None = None
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


_INCONCLUSIVE = {
    Outcome.NO_ANSWER: "a silent connection is neither accepted nor refused, so this proves nothing",
    Outcome.UNREACHABLE: "what cannot be reached proves nothing about the policy",
    Outcome.UNVERIFIED: "whose TLS this is cannot be said, so this proves nothing",
}


def expectation(kind: ClientKind, server: Decision, port: int) -> Expectation:
    """What a port must do with this kind of client, by what was decided about it."""
    received = reception(kind, server, port)
    return Expectation(outcome_of(kind, received.arrival), received.why)


def outcome_of(kind: ClientKind, arrival: Arrival) -> Outcome:
    """What a client of this kind is shown when it arrives as that: TLS that no proxy ends is the application's."""
    match arrival:
        case Arrival.REFUSED:
            return Outcome.REFUSED
        case Arrival.UNREACHABLE:
            return Outcome.UNREACHABLE
        case Arrival.MUTUAL_TLS:
            return Outcome.ACCEPTED
        case _:
            return Outcome.ACCEPTED if kind is ClientKind.PLAINTEXT else Outcome.PASSED_THROUGH


def judge(expected: Expectation, attempt: Attempt) -> ProbeVerdict:
    """Compare one attempt, on its own, with what the policy says."""
    seen = attempt.outcome
    if seen is expected.outcome:
        return ProbeVerdict(attempt, expected, True, f"{seen}, as it must be ({expected.why}): {attempt.evidence}")
    doubt = f"; {_INCONCLUSIVE[seen]}" if seen in _INCONCLUSIVE else ""
    sentence = f"{seen}, but must be {expected.outcome} ({expected.why}): {attempt.evidence}{doubt}"
    return ProbeVerdict(attempt, expected, False, sentence)


def judge_port(server: Decision, port: int, attempts: Sequence[Attempt]) -> tuple[ProbeVerdict, ...]:
    """Judge all attempts on one port together: a bare close counts as a refusal only if the application is there."""
    alive = any(attempt.outcome in {Outcome.ACCEPTED, Outcome.PASSED_THROUGH} for attempt in attempts)
    verdicts = (judge(expectation(attempt.kind, server, port), attempt) for attempt in attempts)
    return tuple(verdict if alive else _without_control(verdict) for verdict in verdicts)


def _without_control(verdict: ProbeVerdict) -> ProbeVerdict:
    attempt = verdict.attempt
    if not verdict.ok or attempt.outcome is not Outcome.REFUSED or attempt.how is RefusedBy.ALERT:
        return verdict
    sentence = f"{attempt.evidence}; but no client reached the application, which may be down, so this proves nothing"
    return ProbeVerdict(attempt, verdict.expected, False, sentence)
