"""What is on demand, as dialogues: asked for once and never again, kept, answered, pushed, and removed at once."""

from __future__ import annotations

from unittest import mock

import pytest

from judges.playbook import Playbook, Says, ack, change, nack, offer, request, response, subscribe
from peerauth.dataplane.type_urls import CLUSTER, ENDPOINT, LISTENER, SECRET
from peerauth.xds import on_demand
from peerauth.xds.wire import RecordForgotten, SecondChance, Variant

POD, OTHER, SERVICE = "dst|10.0.0.7:8080", "dst|10.0.0.8:8080", "dst|10.96.0.1:80"


def running() -> Playbook:
    """A client with a cluster and a listener of its own, and with nothing that is on demand."""
    playbook = Playbook(Variant.DELTA, {CLUSTER: {"own": b"0"}, LISTENER: {"l": b"old"}})
    playbook >> request(CLUSTER) << response(CLUSTER, {"own": b"0"}) >> ack(CLUSTER)
    return playbook >> request(LISTENER) << response(LISTENER, {"l": b"old"}) >> ack(LISTENER)


def has(playbook: Playbook, **bodies: bytes) -> Playbook:
    """The client has asked for destinations by the address and has them."""
    for address, body in bodies.items():
        name = f"dst|{address}"
        playbook >> offer(CLUSTER, {name: body}) >> subscribe(CLUSTER, name)
        playbook << response(CLUSTER, {name: body}) >> ack(CLUSTER)
    return playbook


# --- a name is asked for once (trap 1) -------------------------------------------------------------------------------


def test_a_name_that_is_there_is_answered_and_then_only_its_changes() -> None:
    playbook = running() >> offer(CLUSTER, {POD: b"1"})
    playbook.quiet() >> subscribe(CLUSTER, POD) << response(CLUSTER, {POD: b"1"}) >> ack(CLUSTER)
    (playbook >> offer(CLUSTER, {POD: b"1"})).quiet()
    playbook >> offer(CLUSTER, {POD: b"2", OTHER: b"of another"}) << response(CLUSTER, {POD: b"2"}) >> ack(CLUSTER)


def test_a_missing_name_is_answered_so_and_pushed_when_it_appears_however_often_it_goes() -> None:
    playbook = running() >> subscribe(CLUSTER, POD) << response(CLUSTER, removed=[POD]) >> ack(CLUSTER)
    for body in (b"1", b"2"):
        playbook >> offer(CLUSTER, {POD: body}) << response(CLUSTER, {POD: body}) >> ack(CLUSTER)
        playbook >> offer(CLUSTER, {POD: None}) << response(CLUSTER, removed=[POD]) >> ack(CLUSTER)


def test_each_of_many_names_asked_for_while_an_answer_is_on_its_way_is_answered() -> None:
    playbook = running() >> offer(CLUSTER, {POD: b"1"}) >> subscribe(CLUSTER, POD) << response(CLUSTER, {POD: b"1"})
    playbook >> subscribe(CLUSTER, OTHER) >> subscribe(CLUSTER, SERVICE)
    playbook.quiet() >> ack(CLUSTER) << response(CLUSTER, removed=[OTHER, SERVICE])


def test_what_appears_while_its_absence_is_on_its_way_is_sent_after_it() -> None:
    playbook = running() >> subscribe(CLUSTER, POD) << response(CLUSTER, removed=[POD]) >> offer(CLUSTER, {POD: b"1"})
    playbook.quiet() >> ack(CLUSTER) << response(CLUSTER, {POD: b"1"})


def test_what_goes_while_it_is_on_its_way_is_removed_after_it() -> None:
    playbook = running() >> offer(CLUSTER, {POD: b"1"}) >> subscribe(CLUSTER, POD) << response(CLUSTER, {POD: b"1"})
    playbook >> offer(CLUSTER, {POD: None})
    playbook.quiet() >> ack(CLUSTER) << response(CLUSTER, removed=[POD])


def test_what_was_refused_is_kept_out_until_it_changes_or_time_has_passed_and_what_was_there_stays() -> None:
    playbook = has(running(), **{"10.0.0.7:8080": b"1"})
    playbook >> offer(CLUSTER, {POD: b"bad"}) << response(CLUSTER, {POD: b"bad"}) >> nack(CLUSTER, "no")
    playbook.quiet() >> SecondChance() << response(CLUSTER, {POD: b"bad"}) >> nack(CLUSTER, "no")
    playbook.quiet() >> offer(CLUSTER, {POD: b"2"}) << response(CLUSTER, {POD: b"2"}) >> ack(CLUSTER)


def test_a_destination_that_is_refused_is_removed_all_the_same_when_it_is_gone() -> None:
    playbook = has(running(), **{"10.0.0.7:8080": b"plain"})
    playbook >> offer(CLUSTER, {POD: b"bad"}) << response(CLUSTER, {POD: b"bad"}) >> nack(CLUSTER, "no")
    playbook >> offer(CLUSTER, {POD: None}) << response(CLUSTER, removed=[POD])


def test_that_nothing_is_there_is_answered_again_when_it_was_refused_with_another_destination() -> None:
    playbook = running() >> offer(CLUSTER, {POD: b"bad"}) >> subscribe(CLUSTER, POD, OTHER)
    playbook << response(CLUSTER, {POD: b"bad"}, removed=[OTHER]) >> nack(CLUSTER, "no")
    playbook << response(CLUSTER, removed=[OTHER]) >> ack(CLUSTER)
    playbook << response(CLUSTER, {POD: b"bad"}) >> nack(CLUSTER, "no")


# --- what comes back is told differences (trap 3) --------------------------------------------------------------------


def come_back(held: dict[str, bytes], *asked: str) -> Says:
    """What Envoy says of clusters on a new stream: everything, all names ever asked, versions of what it has."""
    return request(CLUSTER, "*", *asked, held={"own": b"0"} | held)


def test_who_comes_back_unchanged_is_sent_nothing_and_hears_of_later_changes() -> None:
    playbook = Playbook(Variant.DELTA, {CLUSTER: {"own": b"0"}})
    playbook >> offer(CLUSTER, {POD: b"1"})
    (playbook >> come_back({POD: b"1"}, POD)).quiet()
    playbook >> offer(CLUSTER, {POD: b"2"}) << response(CLUSTER, {POD: b"2"})


def test_who_comes_back_is_sent_what_differs_what_it_lacks_and_at_once_what_is_gone() -> None:
    playbook = Playbook(Variant.DELTA, {CLUSTER: {"own": b"0"}, LISTENER: {"l": b"new"}})
    playbook >> offer(CLUSTER, {POD: b"2", SERVICE: b"3"})
    playbook >> come_back({POD: b"1", OTHER: b"gone"}, POD, OTHER, SERVICE)
    playbook << response(CLUSTER, {POD: b"2", SERVICE: b"3"}, removed=[OTHER])


def test_a_destination_that_is_claimed_but_not_asked_for_is_taken_away() -> None:
    playbook = Playbook(Variant.DELTA, {CLUSTER: {"own": b"0"}})
    playbook >> offer(CLUSTER, {POD: b"1"}) >> come_back({POD: b"1"}) << response(CLUSTER, removed=[POD])


# --- the wildcard and the other variant (trap 4) ---------------------------------------------------------------------


def test_the_wildcard_never_gets_what_is_on_demand() -> None:
    playbook = Playbook(Variant.DELTA, {CLUSTER: {"own": b"0"}}) >> offer(CLUSTER, {POD: b"1"})
    playbook >> request(CLUSTER) << response(CLUSTER, {"own": b"0"}) >> ack(CLUSTER)
    (playbook >> offer(CLUSTER, {POD: b"2"})).quiet()
    playbook >> subscribe(CLUSTER, "*")
    playbook.quiet()
    assert not playbook.source.asked


def test_state_of_the_world_never_gets_it_even_by_its_name() -> None:
    playbook = Playbook(Variant.STATE, {CLUSTER: {"own": b"own=0"}}) >> offer(CLUSTER, {POD: b"1"})
    playbook >> request(CLUSTER, "*", POD) << response(CLUSTER, {"own": b"own=0"}) >> ack(CLUSTER, "*", POD)
    (playbook >> offer(CLUSTER, {POD: b"2"})).quiet()


def test_a_name_that_is_dropped_under_the_wildcard_is_taken_away_since_that_does_not_cover_it() -> None:
    playbook = has(running(), **{"10.0.0.7:8080": b"1"})
    playbook >> subscribe(CLUSTER, unsubscribe=[POD]) << response(CLUSTER, removed=[POD]) >> ack(CLUSTER)
    assert not playbook.source.asked
    (playbook >> offer(CLUSTER, {POD: b"2"})).quiet()


# --- outside of the order between types ------------------------------------------------------------------------------


def test_a_new_destination_holds_no_listener_back() -> None:
    playbook = running() >> offer(CLUSTER, {POD: b"1"}) >> subscribe(CLUSTER, POD) << response(CLUSTER, {POD: b"1"})
    playbook >> change(LISTENER, {"l": b"strict"}) << response(LISTENER, {"l": b"strict"})


def test_a_new_cluster_holds_the_listener_back_also_beside_a_destination() -> None:
    playbook = running() >> offer(CLUSTER, {POD: b"1"})
    playbook.together(change(LISTENER, {"l": b"to c"}), change(CLUSTER, {"own": b"0", "c": b"0"}))
    playbook << response(CLUSTER, {"c": b"0"}) >> subscribe(CLUSTER, POD)
    playbook.quiet() >> ack(CLUSTER) << response(CLUSTER, {POD: b"1"}) << response(LISTENER, {"l": b"to c"})


def test_a_destination_is_removed_while_a_listener_is_refused_or_unacknowledged() -> None:
    playbook = has(running(), **{"10.0.0.7:8080": b"1", "10.0.0.8:8080": b"2"})
    playbook >> change(LISTENER, {"l": b"bad"}) << response(LISTENER, {"l": b"bad"})
    playbook >> offer(CLUSTER, {POD: None}) << response(CLUSTER, removed=[POD]) >> ack(CLUSTER)
    playbook >> nack(LISTENER, "no") >> offer(CLUSTER, {OTHER: None}) << response(CLUSTER, removed=[OTHER])


def test_a_destination_on_its_way_or_refused_keeps_nothing_that_is_to_be_removed_after_clusters() -> None:
    playbook = running() >> change(SECRET, {"s": b"key"})
    playbook >> request(SECRET, "s") << response(SECRET, {"s": b"key"}) >> ack(SECRET)
    playbook >> offer(CLUSTER, {POD: b"bad"}) >> subscribe(CLUSTER, POD) << response(CLUSTER, {POD: b"bad"})
    playbook >> nack(CLUSTER, "no") >> change(SECRET, {}) << response(SECRET, removed=["s"])


def test_a_destination_that_changed_on_its_way_is_not_lost_while_others_look_whether_clusters_are_settled() -> None:
    playbook = running() >> change(SECRET, {"s": b"key"})
    playbook >> request(SECRET, "s") << response(SECRET, {"s": b"key"}) >> ack(SECRET)
    playbook >> offer(CLUSTER, {POD: b"1"}) >> subscribe(CLUSTER, POD) << response(CLUSTER, {POD: b"1"})
    playbook >> offer(CLUSTER, {POD: None}) >> change(SECRET, {}) << response(SECRET, removed=["s"])
    playbook >> ack(CLUSTER) << response(CLUSTER, removed=[POD])


def test_a_removal_that_was_refused_with_another_destination_is_tried_again_whatever_listeners_do() -> None:
    playbook = has(running(), **{"10.0.0.7:8080": b"1", "10.0.0.8:8080": b"2"})
    playbook >> change(LISTENER, {"l": b"bad"}) << response(LISTENER, {"l": b"bad"}) >> nack(LISTENER, "no")
    playbook >> offer(CLUSTER, {POD: None, OTHER: b"bad"})
    playbook << response(CLUSTER, {OTHER: b"bad"}, removed=[POD]) >> nack(CLUSTER, "no")
    playbook << response(CLUSTER, removed=[POD]) >> ack(CLUSTER) << response(CLUSTER, {OTHER: b"bad"})


# --- endpoints of the same name (trap 8) -----------------------------------------------------------------------------


def test_endpoints_follow_their_cluster_and_are_let_go_with_it() -> None:
    playbook = has(running(), **{"10.96.0.1:80": b"eds"}) >> offer(ENDPOINT, {SERVICE: b"e1"})
    playbook >> request(ENDPOINT, SERVICE) << response(ENDPOINT, {SERVICE: b"e1"}) >> ack(ENDPOINT)
    playbook >> offer(ENDPOINT, {SERVICE: b"e2"}) << response(ENDPOINT, {SERVICE: b"e2"}) >> ack(ENDPOINT)
    playbook >> offer(CLUSTER, {SERVICE: None}) << response(CLUSTER, removed=[SERVICE]) >> ack(CLUSTER)
    playbook >> subscribe(ENDPOINT, unsubscribe=[SERVICE])
    (playbook >> offer(ENDPOINT, {SERVICE: b"e3"})).quiet()
    assert playbook.source.asked == {SERVICE}, "the name of the cluster stays asked for"


def test_a_cluster_whose_endpoints_are_new_holds_nobody_back() -> None:
    playbook = running() >> offer(CLUSTER, {SERVICE: b"eds"}) >> offer(ENDPOINT, {SERVICE: b"e1"})
    playbook >> subscribe(CLUSTER, SERVICE) << response(CLUSTER, {SERVICE: b"eds"})
    playbook >> request(ENDPOINT, SERVICE) << response(ENDPOINT, {SERVICE: b"e1"})
    playbook >> change(LISTENER, {"l": b"new"}) << response(LISTENER, {"l": b"new"})


# --- names are bounded (trap 6) --------------------------------------------------------------------------------------


@pytest.fixture
def _only_three() -> object:
    with mock.patch.object(on_demand, "MOST_ASKED", 3):
        yield


def scanned(playbook: Playbook, *numbers: int) -> Playbook:
    """Addresses that nobody has are asked for one after another."""
    for number in numbers:
        name = f"dst|10.9.9.{number}:80"
        playbook >> subscribe(CLUSTER, name) << response(CLUSTER, removed=[name]) >> ack(CLUSTER)
    return playbook


def forgotten(playbook: Playbook) -> int:
    return sum(each.names for each in playbook.records if isinstance(each, RecordForgotten))


@pytest.mark.usefixtures("_only_three")
def test_a_scan_is_answered_and_forgets_what_is_missing_for_longest_and_nothing_that_is_there() -> None:
    playbook = scanned(has(running(), **{"10.0.0.7:8080": b"1"}), *range(1, 6))
    assert playbook.source.asked == {POD, "dst|10.9.9.4:80", "dst|10.9.9.5:80"}
    assert forgotten(playbook) == 3
    (playbook >> offer(CLUSTER, {"dst|10.9.9.1:80": b"late"})).quiet()
    playbook >> offer(CLUSTER, {"dst|10.9.9.4:80": b"kept"}) << response(CLUSTER, {"dst|10.9.9.4:80": b"kept"})
    playbook >> ack(CLUSTER) >> offer(CLUSTER, {POD: b"2"}) << response(CLUSTER, {POD: b"2"}) >> ack(CLUSTER)


@pytest.mark.usefixtures("_only_three")
def test_what_went_missing_last_is_kept_longest() -> None:
    playbook = scanned(has(running(), **{"10.0.0.7:8080": b"1"}), 1, 2)
    playbook >> offer(CLUSTER, {POD: None}) << response(CLUSTER, removed=[POD]) >> ack(CLUSTER)
    scanned(playbook, 3, 4)
    playbook >> offer(CLUSTER, {POD: b"2"}) << response(CLUSTER, {POD: b"2"}) >> ack(CLUSTER)


@pytest.mark.usefixtures("_only_three")
def test_where_all_that_is_kept_is_there_a_further_name_is_missing_though_it_exists() -> None:
    playbook = has(running(), **{f"10.0.0.{number}:80": b"1" for number in range(3)}) >> offer(CLUSTER, {POD: b"1"})
    playbook >> subscribe(CLUSTER, POD) << response(CLUSTER, removed=[POD]) >> ack(CLUSTER)
    (playbook >> offer(CLUSTER, {POD: b"2"})).quiet()
    assert (forgotten(playbook), len(playbook.source.asked)) == (1, 3)


@pytest.mark.usefixtures("_only_three")
def test_the_endpoints_of_a_name_that_is_kept_are_no_further_name() -> None:
    playbook = has(running(), **{f"10.0.0.{number}:80": b"1" for number in range(2)}, **{"10.96.0.1:80": b"eds"})
    playbook >> offer(ENDPOINT, {SERVICE: b"e1"})
    playbook >> request(ENDPOINT, SERVICE) << response(ENDPOINT, {SERVICE: b"e1"})
    assert forgotten(playbook) == 0


@pytest.mark.usefixtures("_only_three")
def test_who_comes_back_with_more_names_than_are_kept_keeps_those_that_are_there() -> None:
    playbook = Playbook(Variant.DELTA, {CLUSTER: {"own": b"0"}}) >> offer(CLUSTER, {POD: b"1"})
    scan = [f"dst|10.9.9.{number}:80" for number in range(5)]
    playbook >> come_back({POD: b"1"}, *scan, POD) << response(CLUSTER, removed=scan) >> ack(CLUSTER)
    playbook >> offer(CLUSTER, {POD: b"2"}) << response(CLUSTER, {POD: b"2"})


# --- who else has the source -----------------------------------------------------------------------------------------


def test_what_one_stream_asked_for_ends_with_it() -> None:
    playbook = has(running(), **{"10.0.0.7:8080": b"1"})
    playbook.hang_up()
    assert not playbook.source.asked


def test_a_source_that_comes_while_the_stream_is_open_is_asked_for_all_that_the_client_has_named() -> None:
    playbook = has(running(), **{"10.0.0.7:8080": b"1"}) >> subscribe(CLUSTER, OTHER)
    playbook << response(CLUSTER, removed=[OTHER]) >> ack(CLUSTER)
    playbook.turn_to(None) << response(CLUSTER, removed=[POD]) >> ack(CLUSTER)
    assert not playbook.source.asked
    playbook.source.put({(CLUSTER, OTHER): b"now"})
    playbook.turn_to(playbook.source) << response(CLUSTER, {POD: b"1", OTHER: b"now"})
