"""What each mode must do with each kind of client, and when an attempt proves it."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.policy.decision import Dataplane, EffectiveMode
from peerauth.probe import Attempt, ClientKind, Outcome, Refusal, expectation, judge, judge_port

A, P, R, U = Outcome.ACCEPTED, Outcome.PASSED_THROUGH, Outcome.REFUSED, Outcome.UNREACHABLE

# The table of the proxies' behaviour, client by client: STRICT, PERMISSIVE, DISABLE.
SIDECAR = {
    ClientKind.PLAINTEXT: (R, A, A),
    ClientKind.TLS: (R, P, P),
    ClientKind.ISTIO_ALPN_NO_CERT: (R, R, P),
    ClientKind.MTLS: (A, A, P),
    ClientKind.MTLS_NO_ALPN: (A, P, P),
    ClientKind.OTHER_CA: (R, R, P),
    ClientKind.OTHER_DOMAIN: (R, R, P),
    ClientKind.HBONE: (A, A, A),
    ClientKind.HBONE_NO_CERT: (R, R, R),
    ClientKind.HBONE_OTHER_CA: (R, R, R),
    ClientKind.HBONE_OTHER_DOMAIN: (R, R, R),
}
MODES = (EffectiveMode.STRICT, EffectiveMode.PERMISSIVE, EffectiveMode.DISABLE)


def test_the_table_covers_every_kind() -> None:
    assert set(SIDECAR) == set(ClientKind)


@pytest.mark.parametrize(("kind", "mode"), [*product(ClientKind, MODES)])
def test_a_sidecar(kind: ClientKind, mode: EffectiveMode) -> None:
    assert expectation(mode, kind).outcome is SIDECAR[kind][MODES.index(mode)]


@pytest.mark.parametrize("mode", MODES)
def test_ambient_admits_the_tunnel_always_and_the_rest_unless_strict(mode: EffectiveMode) -> None:
    for kind in ClientKind:
        seen = expectation(mode, kind, dataplane=Dataplane.AMBIENT).outcome
        if kind is ClientKind.HBONE:
            assert seen is A
        elif kind.value.startswith("hbone-") or mode is EffectiveMode.STRICT:
            assert seen is R
        else:
            assert seen is (A if kind is ClientKind.PLAINTEXT else P)


@pytest.mark.parametrize(("kind", "mode"), [*product(ClientKind, MODES)])
def test_outside_the_mesh_nothing_is_enforced(kind: ClientKind, mode: EffectiveMode) -> None:
    tunnel = kind.value.startswith("hbone")
    plain = kind is ClientKind.PLAINTEXT
    assert expectation(mode, kind, dataplane=Dataplane.NONE).outcome is (U if tunnel else A if plain else P)


attempts = st.builds(
    Attempt,
    kind=st.sampled_from(ClientKind),
    outcome=st.sampled_from(Outcome),
    evidence=st.just("what was seen"),
    how=st.none() | st.sampled_from(Refusal),
)


@given(attempt=attempts, mode=st.sampled_from(EffectiveMode))
def test_silence_is_never_a_refusal_and_every_verdict_quotes_its_evidence(
    attempt: Attempt, mode: EffectiveMode
) -> None:
    verdict = judge(expectation(mode, attempt.kind), attempt)
    assert verdict.ok is (attempt.outcome is expectation(mode, attempt.kind).outcome)
    assert attempt.evidence in verdict.sentence
    if attempt.outcome in {Outcome.NO_ANSWER, Outcome.UNREACHABLE, Outcome.UNVERIFIED}:
        assert not verdict.ok
        assert "proves nothing" in verdict.sentence


def refused(kind: ClientKind, how: Refusal) -> Attempt:
    return Attempt(kind, Outcome.REFUSED, "refused", how=how)


@pytest.mark.parametrize(("how", "proven"), [(Refusal.ALERT, True), (Refusal.CLOSED, False), (Refusal.RESET, False)])
def test_a_bare_close_proves_nothing_while_no_client_reached_the_application(how: Refusal, proven: bool) -> None:
    alone = judge_port(EffectiveMode.STRICT, [refused(ClientKind.TLS, how)])
    assert [verdict.ok for verdict in alone] == [proven]
    control = Attempt(ClientKind.MTLS, Outcome.ACCEPTED, "answered")
    together = judge_port(EffectiveMode.STRICT, [refused(ClientKind.TLS, how), control])
    assert [verdict.ok for verdict in together] == [True, True]


@pytest.mark.parametrize("dataplane", [Dataplane.SIDECAR, Dataplane.AMBIENT])
@pytest.mark.parametrize("mode", EffectiveMode)
def test_all_attempts_on_a_port_are_held_against_its_mode_and_its_data_plane(
    mode: EffectiveMode, dataplane: Dataplane
) -> None:
    attempts = [Attempt(kind, Outcome.ACCEPTED, "answered") for kind in ClientKind]
    verdicts = judge_port(mode, attempts, dataplane=dataplane)
    assert [verdict.attempt for verdict in verdicts] == attempts
    expected = [expectation(mode, kind, dataplane=dataplane) for kind in ClientKind]
    assert [verdict.expected for verdict in verdicts] == expected
    assert [verdict.ok for verdict in verdicts] == [wanted.outcome is Outcome.ACCEPTED for wanted in expected]


def test_a_verdict_without_proof_keeps_what_was_seen_and_what_was_wanted() -> None:
    seen = refused(ClientKind.PLAINTEXT, Refusal.CLOSED)
    (verdict,) = judge_port(EffectiveMode.STRICT, [seen])
    assert (verdict.attempt, verdict.expected) == (seen, expectation(EffectiveMode.STRICT, ClientKind.PLAINTEXT))
    assert "proves nothing" in verdict.sentence


def test_what_was_wrong_anyway_is_told_as_wrong_when_no_client_reached_the_application() -> None:
    silent = Attempt(ClientKind.MTLS, Outcome.NO_ANSWER, "nothing within 3 s")
    for seen in (silent, refused(ClientKind.MTLS, Refusal.CLOSED)):
        (verdict,) = judge_port(EffectiveMode.STRICT, [seen])
        assert verdict == judge(expectation(EffectiveMode.STRICT, ClientKind.MTLS), seen)
