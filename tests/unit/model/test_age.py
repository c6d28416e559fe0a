"""Who is older: the order that decides between two of a kind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from peerauth.model.meta import Meta, age_of

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def test_missing_is_oldest_then_time_then_name_then_namespace() -> None:
    expected = [
        Meta("z", "z"),
        Meta("b", "b", created=NOON - timedelta(seconds=1)),
        Meta("a", "b", created=NOON),
        Meta("b", "a", created=NOON),
        Meta("b", "b", created=NOON),
    ]
    assert sorted(set(expected), key=age_of) == expected


def test_an_instant_is_one_whatever_zone_it_is_written_in_and_without_a_zone_it_is_utc() -> None:
    berlin = NOON.astimezone(timezone(timedelta(hours=2)))
    assert age_of(Meta("a", created=NOON)) == age_of(Meta("a", created=berlin))
    assert age_of(Meta("a", created=NOON)) == age_of(Meta("a", created=NOON.replace(tzinfo=None)))
