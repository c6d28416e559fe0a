"""What each mode must do with each kind of client, and when an attempt proves it."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.model.connections import Arrival
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode
from peerauth.policy.reception import ClientKind, reception
from peerauth.probe import Attempt, Outcome, RefusedBy, expectation, judge, judge_port

PORT = 8080


def server(mode: EffectiveMode, on: Dataplane = Dataplane.SIDECAR) -> Decision:
    return Decision(on, mode)


@pytest.mark.parametrize(("kind", "mode", "on"), [*product(ClientKind, EffectiveMode, Dataplane)])
def test_what_a_client_is_shown_follows_from_as_what_it_arrives(
    kind: ClientKind, mode: EffectiveMode, on: Dataplane
) -> None:
    """Who is not refused reaches the application: through the mesh's TLS, in plaintext, or with TLS of its own."""
    received = reception(kind, server(mode, on), PORT)
    expected = expectation(kind, server(mode, on), PORT)
    assert expected.why == received.why
    shown = {
        Arrival.REFUSED: Outcome.REFUSED,
        Arrival.UNREACHABLE: Outcome.UNREACHABLE,
        Arrival.MUTUAL_TLS: Outcome.ACCEPTED,
    }
    own = Outcome.ACCEPTED if kind is ClientKind.PLAINTEXT else Outcome.PASSED_THROUGH
    assert expected.outcome is shown.get(received.arrival, own)


attempts = st.builds(
    Attempt,
    kind=st.sampled_from(ClientKind),
    outcome=st.sampled_from(Outcome),
    evidence=st.just("what was seen"),
    how=st.none() | st.sampled_from(RefusedBy),
)


@given(attempt=attempts, mode=st.sampled_from(EffectiveMode))
def test_silence_is_never_a_refusal_and_every_verdict_quotes_its_evidence(
    attempt: Attempt, mode: EffectiveMode
) -> None:
    expected = expectation(attempt.kind, server(mode), PORT)
    verdict = judge(expected, attempt)
    assert verdict.ok is (attempt.outcome is expected.outcome)
    assert attempt.evidence in verdict.sentence
    if attempt.outcome in {Outcome.NO_ANSWER, Outcome.UNREACHABLE, Outcome.UNVERIFIED}:
        assert not verdict.ok
        assert "proves nothing" in verdict.sentence


def refused(kind: ClientKind, how: RefusedBy) -> Attempt:
    return Attempt(kind, Outcome.REFUSED, "refused", how=how)


@pytest.mark.parametrize(
    ("how", "proven"), [(RefusedBy.ALERT, True), (RefusedBy.CLOSED, False), (RefusedBy.RESET, False)]
)
def test_a_bare_close_proves_nothing_while_no_client_reached_the_application(how: RefusedBy, proven: bool) -> None:
    alone = judge_port(server(EffectiveMode.STRICT), PORT, [refused(ClientKind.TLS, how)])
    assert [verdict.ok for verdict in alone] == [proven]
    control = Attempt(ClientKind.MTLS, Outcome.ACCEPTED, "answered")
    together = judge_port(server(EffectiveMode.STRICT), PORT, [refused(ClientKind.TLS, how), control])
    assert [verdict.ok for verdict in together] == [True, True]


@pytest.mark.parametrize("dataplane", [Dataplane.SIDECAR, Dataplane.AMBIENT])
@pytest.mark.parametrize("mode", EffectiveMode)
def test_all_attempts_on_a_port_are_held_against_its_mode_and_its_data_plane(
    mode: EffectiveMode, dataplane: Dataplane
) -> None:
    attempts = [Attempt(kind, Outcome.ACCEPTED, "answered") for kind in ClientKind]
    verdicts = judge_port(server(mode, dataplane), PORT, attempts)
    assert [verdict.attempt for verdict in verdicts] == attempts
    expected = [expectation(kind, server(mode, dataplane), PORT) for kind in ClientKind]
    assert [verdict.expected for verdict in verdicts] == expected
    assert [verdict.ok for verdict in verdicts] == [wanted.outcome is Outcome.ACCEPTED for wanted in expected]


def test_a_verdict_without_proof_keeps_what_was_seen_and_what_was_wanted() -> None:
    seen = refused(ClientKind.PLAINTEXT, RefusedBy.CLOSED)
    (verdict,) = judge_port(server(EffectiveMode.STRICT), PORT, [seen])
    assert (verdict.attempt, verdict.expected) == (
        seen,
        expectation(ClientKind.PLAINTEXT, server(EffectiveMode.STRICT), PORT),
    )
    assert "proves nothing" in verdict.sentence


def test_what_was_wrong_anyway_is_told_as_wrong_when_no_client_reached_the_application() -> None:
    silent = Attempt(ClientKind.MTLS, Outcome.NO_ANSWER, "nothing within 3 s")
    for seen in (silent, refused(ClientKind.MTLS, RefusedBy.CLOSED)):
        (verdict,) = judge_port(server(EffectiveMode.STRICT), PORT, [seen])
        assert verdict == judge(expectation(ClientKind.MTLS, server(EffectiveMode.STRICT), PORT), seen)
