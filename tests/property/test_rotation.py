"""The rotation state machine under any dates, outcomes and jitter."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from peerauth.identity.rotation import (
    FIRST_RETRY,
    LONGEST_PAUSE,
    LONGEST_RETRY,
    RENEW_FROM,
    RENEW_TO,
    SHORTEST_WAIT,
    Rotation,
)
from samples.pki import NOW

jitters = st.floats(0, 1, exclude_max=True)
lifetimes = st.timedeltas(timedelta(seconds=10), timedelta(days=90))
skews = st.timedeltas(timedelta(days=-400), timedelta(days=400))
fresh = Rotation(attempt_at=NOW)


@given(lifetime=lifetimes, backdate=st.timedeltas(timedelta(), timedelta(minutes=5)), jitter=jitters)
def test_renewal_lies_between_half_and_eight_tenths_of_the_life_ahead(
    lifetime: timedelta, backdate: timedelta, jitter: float
) -> None:
    held = fresh.issued(not_before=NOW - backdate, not_after=NOW + lifetime, now=NOW, jitter=jitter)
    slack = timedelta(milliseconds=1)
    assert NOW + lifetime * RENEW_FROM - slack <= held.attempt_at <= NOW + lifetime * RENEW_TO + slack
    assert held.ends == NOW + lifetime
    assert held.failures == 0


def test_renewals_are_spread_evenly() -> None:
    """Equal steps of jitter are equal steps of time: uniform in, uniform out."""
    points = [
        fresh.issued(not_before=NOW, not_after=NOW + timedelta(hours=24), now=NOW, jitter=step / 10).attempt_at
        for step in range(10)
    ]
    assert {b - a for a, b in pairwise(points)} == {timedelta(hours=24) * 0.3 / 10}


outcomes = st.one_of(
    st.none(),  # a failure
    st.tuples(skews, lifetimes),  # a certificate whose dates may have nothing to do with this clock
)


@given(steps=st.lists(st.tuples(outcomes, jitters), max_size=30))
def test_no_sequence_of_outcomes_makes_a_tight_loop_or_waits_beyond_the_end(
    steps: list[tuple[tuple[timedelta, timedelta] | None, float]],
) -> None:
    state, now = fresh, NOW
    for outcome, jitter in steps:
        now = max(now, state.attempt_at)
        if outcome is None:
            state = state.failed(now=now, jitter=jitter)
            assert state.attempt_at - now <= LONGEST_RETRY
        else:
            begins = now + outcome[0]
            ends = begins + outcome[1]
            state = state.issued(not_before=begins, not_after=ends, now=now, jitter=jitter)
            assert now >= ends or state.attempt_at < ends
        assert state.attempt_at - now >= SHORTEST_WAIT


@given(age=st.timedeltas(timedelta(), timedelta(days=400)), failures=st.integers(0, 30), jitter=jitters)
def test_a_certificate_that_has_ended_on_arrival_counts_as_a_failure(
    age: timedelta, failures: int, jitter: float
) -> None:
    """An authority with a wrong clock is asked as seldom as one that is away."""
    state = Rotation(attempt_at=NOW, ends=NOW + timedelta(hours=1), failures=failures)
    after = state.issued(not_before=NOW - age - timedelta(hours=1), not_after=NOW - age, now=NOW, jitter=jitter)
    assert after == state.failed(now=NOW, jitter=jitter)


@given(life=st.timedeltas(timedelta(milliseconds=1), timedelta(seconds=1)), jitter=jitters)
def test_a_certificate_of_a_moment_does_not_make_a_tight_loop(life: timedelta, jitter: float) -> None:
    held = fresh.issued(not_before=NOW, not_after=NOW + life, now=NOW, jitter=jitter)
    assert held.attempt_at - NOW >= SHORTEST_WAIT


@given(early=st.timedeltas(timedelta(seconds=1), timedelta(days=400)), lifetime=lifetimes, jitter=jitters)
def test_a_certificate_of_the_future_is_renewed_within_its_own_life(
    early: timedelta, lifetime: timedelta, jitter: float
) -> None:
    begins = NOW + early
    held = fresh.issued(not_before=begins, not_after=begins + lifetime, now=NOW, jitter=jitter)
    assert begins + lifetime * 0.49 < held.attempt_at < begins + lifetime * 0.81


@given(jitter=jitters, failures=st.integers(0, 100_000))
def test_retries_double_to_their_ceiling_and_no_further(jitter: float, failures: int) -> None:
    state = Rotation(attempt_at=NOW, failures=failures).failed(now=NOW, jitter=jitter)
    full = min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(failures, 20))
    assert full * 0.8 <= state.attempt_at - NOW <= full
    assert state.failures == failures + 1


@given(left=st.timedeltas(timedelta(seconds=3), timedelta(hours=1)), failures=st.integers(0, 30), jitter=jitters)
def test_while_the_old_certificate_lives_the_next_retry_is_before_its_end(
    left: timedelta, failures: int, jitter: float
) -> None:
    state = Rotation(attempt_at=NOW, ends=NOW + left, failures=failures).failed(now=NOW, jitter=jitter)
    assert state.attempt_at < NOW + left
    assert state.ends == NOW + left


def test_after_success_the_backoff_starts_anew() -> None:
    state = fresh
    for _ in range(10):
        state = state.failed(now=NOW, jitter=0.5)
    held = state.issued(not_before=NOW, not_after=NOW + timedelta(hours=1), now=NOW, jitter=0.5)
    assert held.failed(now=NOW, jitter=0.0).attempt_at == NOW + FIRST_RETRY


@given(offset=st.timedeltas(timedelta(days=-2), timedelta(days=2)))
def test_a_pause_ends_at_the_attempt_or_earlier_to_look_at_the_clock(offset: timedelta) -> None:
    now: datetime = NOW + offset
    pause = Rotation(attempt_at=NOW).pause(now)
    assert 0 <= pause <= LONGEST_PAUSE.total_seconds()
    assert (pause == 0) == (now >= NOW)
    assert now + timedelta(seconds=pause) <= max(now, NOW)
