"""When a workload certificate is asked for, renewed and asked for again. A state machine of values: no clock, no I/O.

    no certificate --issued--> held until `attempt_at` --issued--> held ...
          |  ^                       |  ^
          failed (backoff)           failed (backoff; the old certificate stays in use)

Renewals are spread evenly over 0.5 to 0.8 of a certificate's life, so that workloads which started together do not
come back together. No sequence of outcomes makes a tight loop: whatever dates a certificate carries, the next attempt
is at least `SHORTEST_WAIT` away. (A certificate that by this machine's clock begins in the future, or has ended on
arrival, is how disagreeing clocks look from here.)
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

RENEW_FROM = 0.5
RENEW_TO = 0.8
FIRST_RETRY = timedelta(seconds=1)
LONGEST_RETRY = timedelta(seconds=150)
# The share of a retry's delay that jitter may take away.
RETRY_JITTER = 0.2
SHORTEST_WAIT = FIRST_RETRY * (1 - RETRY_JITTER)
# A sleep is measured on a clock that stands still while a machine is suspended; waking now and then to look at the
# wall clock means that a resumed machine renews within a minute.
LONGEST_PAUSE = timedelta(seconds=60)
# 2**8 seconds is beyond LONGEST_RETRY; without a bound the power overflows after days of failures.
_MAX_DOUBLINGS = 8


class Rotation(msgspec.Struct, frozen=True):
    """Where one certificate stands: the next attempt, when the one held ends (None: none yet), failures in a row."""

    attempt_at: datetime
    ends: datetime | None = None
    failures: int = 0

    def issued(self, *, not_before: datetime, not_after: datetime, now: datetime, jitter: float) -> Rotation:
        """After a certificate arrived; `jitter` is uniform in [0, 1).

        Its life is counted from its arrival (or from `not_before`, if that is still to come), because authorities
        backdate: half of a one-minute certificate that was backdated by two minutes would lie in the past.
        """
        if now >= not_after:
            return self.failed(now=now, jitter=jitter)
        begins = max(now, not_before)
        share = RENEW_FROM + (RENEW_TO - RENEW_FROM) * jitter
        due = begins + (not_after - begins) * share
        return Rotation(attempt_at=max(due, now + SHORTEST_WAIT), ends=not_after)

    def failed(self, *, now: datetime, jitter: float) -> Rotation:
        """After an attempt that brought no usable certificate; `jitter` is uniform in [0, 1)."""
        delay = min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(self.failures, _MAX_DOUBLINGS))
        if self.ends is not None and now < self.ends:
            # While there is something to lose, try again before it is lost.
            delay = min(delay, (self.ends - now) / 2)
        delay = max(SHORTEST_WAIT, delay * (1 - RETRY_JITTER * jitter))
        return Rotation(attempt_at=now + delay, ends=self.ends, failures=self.failures + 1)

    def pause(self, now: datetime) -> float:
        """Seconds to sleep before looking at the clock again; 0 when the attempt is due."""
        wait = min(self.attempt_at - now, LONGEST_PAUSE)
        return max(0.0, wait.total_seconds())
