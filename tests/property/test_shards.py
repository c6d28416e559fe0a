"""The pieces of a large Service: bounded, all of it and nothing twice, even, and as good as untouched by one change."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.outbound import Transport
from peerauth.policy.shards import MOST_ENDPOINTS, Sharded

Where = tuple[str, int]
services = st.integers(0, 2**32 - 1).flatmap(
    lambda first: st.lists(st.integers(first, first + 900), min_size=1, max_size=500, unique=True)
)
"""Endpoints of neighbouring addresses, as pods have them."""


def of(numbers: list[int]) -> Sharded:
    return Sharded(end(number) for number in numbers)


def end(number: int) -> DestinationEndpoint:
    return DestinationEndpoint(address(number), 8080, Transport.PLAINTEXT)


def address(number: int) -> str:
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def pieces(service: Sharded, label: str = "") -> dict[str, frozenset[Where]]:
    """Every piece that a client gets to by asking for what it was led to."""
    return {found: places for found, places, _ in _led(service, label, Fraction(1))}


def chances(service: Sharded, label: str = "") -> dict[Where, Fraction]:
    """How likely a connection goes to each endpoint."""
    found: dict[Where, Fraction] = {}
    for _, places, chance in _led(service, label, Fraction(1)):
        for place in places:
            found[place] = found.get(place, Fraction(0)) + chance / len(places)
    return found


def _led(service: Sharded, label: str, chance: Fraction) -> Iterator[tuple[str, frozenset[Where], Fraction]]:
    endpoints, shards = service.below(label)
    assert not (endpoints and shards)
    if not shards:
        yield label, frozenset((each.address, each.port) for each in endpoints), chance
    for shard in shards:
        assert shard.label.startswith(label)
        assert len(shard.label) > len(label), "it would lead in a circle"
        yield from _led(service, shard.label, chance * shard.weight / sum(each.weight for each in shards))


@settings(deadline=None)
@given(services)
def test_no_piece_is_large_and_together_they_are_the_service_each_endpoint_as_likely_as_any(numbers: list[int]) -> None:
    service = of(numbers)
    found = pieces(service)
    assert max(map(len, found.values())) <= MOST_ENDPOINTS
    assert sorted(place for places in found.values() for place in places) == sorted((address(n), 8080) for n in numbers)
    assert set(chances(service).values()) == {Fraction(1, len(numbers))}
    assert (len(found) == 1) == (len(numbers) <= MOST_ENDPOINTS)


@settings(deadline=None)
@given(services, st.randoms(use_true_random=False))
def test_what_is_in_a_piece_hangs_on_nothing_but_the_endpoints(numbers: list[int], random: Random) -> None:
    shuffled = random.sample(numbers, len(numbers))
    assert of(shuffled).below("") == of(numbers).below("")
    assert pieces(of(shuffled)) == pieces(of(numbers))


@settings(deadline=None)
@given(services, st.data())
def test_one_endpoint_more_touches_the_piece_that_it_is_in_and_the_weights(
    numbers: list[int], data: st.DataObject
) -> None:
    new = data.draw(st.sampled_from(numbers))
    before, after = pieces(of([n for n in numbers if n != new])), pieces(of(numbers))
    (label,) = (label for label, places in after.items() if (address(new), 8080) in places)
    differ = {each for each in before.keys() | after.keys() if before.get(each) != after.get(each)}
    parted = {each for each in differ if each != label}
    assert len(parted) <= 2, "a piece that has become two"
    assert all(each[:-1] == label[:-1] or label.startswith(each) for each in parted) or not label


@settings(deadline=None)
@given(services, st.text("01", max_size=5))
def test_an_old_label_leads_to_what_is_below_it(numbers: list[int], label: str) -> None:
    """A client may know a piece that is in several by now, or that is part of a larger one again."""
    service = of(numbers)
    below = {place for places in pieces(service, label).values() for place in places}
    others = [text for text in _labels(len(label)) if text != label]
    beside = {place for text in others for places in pieces(service, text).values() for place in places}
    assert below | beside == {(address(n), 8080) for n in numbers}
    assert not below & beside
    assert len(set(chances(service, label).values())) <= 1


def _labels(length: int) -> list[str]:
    return [f"{number:0{length}b}" if length else "" for number in range(2**length)]


@settings(deadline=None)
@given(services)
def test_endpoints_of_a_piece_ascend(numbers: list[int]) -> None:
    service = of(numbers)
    for label in pieces(service):
        found = [(each.address, each.port) for each in service.below(label)[0]]
        assert found == sorted(found)
