"""State-of-the-world discovery as dialogues. Bodies are `name=content`, as the variant has no names around them."""

from __future__ import annotations

import pytest

from judges.playbook import Playbook, ack, change, nack, request, response, subscribe
from peerauth.dataplane.type_urls import CLUSTER, LISTENER, SECRET, TypeUrl
from peerauth.xds.wire import RecordAck, RecordNack, Variant


def bodies(**contents: str) -> dict[str, bytes]:
    return {name: f"{name}={content}".encode() for name, content in contents.items()}


def state(view: dict[TypeUrl, dict[str, bytes]] | None = None) -> Playbook:
    return Playbook(Variant.STATE, view or {})


def test_an_answer_lists_everything_there_is() -> None:
    playbook = state({LISTENER: bodies(a="1", b="2")})
    playbook >> request(LISTENER) << response(LISTENER, bodies(a="1", b="2")) >> ack(LISTENER)
    playbook >> change(LISTENER, bodies(a="1", b="3")) << response(LISTENER, bodies(a="1", b="3")) >> ack(LISTENER)
    playbook >> change(LISTENER, bodies(b="3")) << response(LISTENER, bodies(b="3")) >> ack(LISTENER)
    assert isinstance(playbook.records[-1], RecordAck)
    assert playbook.records[-1].versions == {"a": ""}


def test_nothing_is_an_answer_to_a_wildcard_but_not_to_a_name() -> None:
    playbook = state()
    playbook >> request(LISTENER) << response(LISTENER) >> ack(LISTENER) >> request(SECRET, "default")
    playbook.quiet() >> change(SECRET, bodies(default="key")) << response(SECRET, bodies(default="key"))


def test_a_client_that_has_this_very_set_is_sent_nothing() -> None:
    before = state({LISTENER: bodies(a="1")})
    before >> request(LISTENER) << response(LISTENER, bodies(a="1"))
    playbook = state({LISTENER: bodies(a="1")})
    (playbook >> request(LISTENER, version=before.versions[LISTENER])).quiet()
    playbook >> change(LISTENER, bodies(a="1", b="2")) << response(LISTENER, bodies(a="1", b="2"))


def test_a_client_that_has_another_set_is_sent_this_one() -> None:
    state({LISTENER: bodies(a="1")}) >> request(LISTENER, version="old") << response(LISTENER, bodies(a="1"))


def test_new_names_are_answered_with_all_names() -> None:
    playbook = state({SECRET: bodies(a="1", b="2")})
    playbook >> request(SECRET, "a") << response(SECRET, bodies(a="1")) >> ack(SECRET, "a")
    playbook.quiet() >> subscribe(SECRET, "a", "b") << response(SECRET, bodies(a="1", b="2"))
    playbook >> ack(SECRET, "a", "b")
    playbook.quiet() >> subscribe(SECRET, "b")
    playbook.quiet() >> change(SECRET, bodies(a="3", b="4")) << response(SECRET, bodies(b="4"))


def test_an_acknowledgement_may_change_the_names() -> None:
    playbook = state({SECRET: bodies(a="1", b="2")})
    playbook >> request(SECRET, "a") << response(SECRET, bodies(a="1")) >> ack(SECRET, "a", "b")
    playbook << response(SECRET, bodies(a="1", b="2"))


def test_a_repeated_request_is_answered_again() -> None:
    playbook = state({SECRET: bodies(a="1")})
    playbook >> request(SECRET, "a") << response(SECRET, bodies(a="1")) >> ack(SECRET, "a")
    playbook >> subscribe(SECRET, "a") << response(SECRET, bodies(a="1")) >> ack(SECRET, "a")
    playbook.quiet()


def test_a_stale_request_is_ignored_with_the_names_in_it() -> None:
    playbook = state({SECRET: bodies(a="1", b="2")})
    playbook >> request(SECRET, "a") << response(SECRET, bodies(a="1")) >> ack(SECRET, "a", "b", nonce="0")
    playbook.quiet() >> ack(SECRET, "a")
    (playbook >> ack(SECRET, "a", "b", nonce="0")).quiet()


def test_an_empty_request_after_names_is_no_wildcard() -> None:
    playbook = state({LISTENER: bodies(a="1", b="2")})
    playbook >> request(LISTENER, "a") << response(LISTENER, bodies(a="1")) >> ack(LISTENER)
    playbook.quiet() >> change(LISTENER, bodies(a="3", b="4"))
    playbook.quiet()


def test_a_name_that_does_not_exist_is_missing_from_a_complete_answer() -> None:
    state({LISTENER: bodies(a="1")}) >> request(LISTENER, "none") << response(LISTENER)


def test_a_refused_listener_does_not_hold_the_others_back() -> None:
    playbook = state({LISTENER: bodies(a="1", b="1")})
    playbook >> request(LISTENER) << response(LISTENER, bodies(a="1", b="1")) >> ack(LISTENER)
    playbook >> change(LISTENER, bodies(a="bad", b="1")) << response(LISTENER, bodies(a="bad", b="1"))
    (playbook >> nack(LISTENER, "no")).quiet()
    # The answer has the last good `a` in it, as leaving it out would remove it.
    playbook >> change(LISTENER, bodies(a="bad", b="2")) << response(LISTENER, bodies(a="1", b="2")) >> ack(LISTENER)
    playbook << response(LISTENER, bodies(a="bad", b="2")) >> nack(LISTENER, "no")
    playbook.quiet()


def test_a_first_answer_that_is_refused_is_followed_only_by_a_whole_new_one() -> None:
    playbook = state({LISTENER: bodies(a="bad", b="1")})
    playbook >> request(LISTENER) << response(LISTENER, bodies(a="bad", b="1")) >> nack(LISTENER, "a is bad")
    playbook.quiet()
    assert isinstance(playbook.records[-1], RecordNack)
    playbook >> change(LISTENER, bodies(a="good", b="1")) << response(LISTENER, bodies(a="good", b="1"))


@pytest.mark.parametrize("now", [bodies(a="good", b="1"), bodies(b="1"), bodies(a="bad", b="1", c="1")])
def test_what_changes_while_a_first_answer_is_refused_is_followed_by_a_whole_new_one(now: dict[str, bytes]) -> None:
    playbook = state({LISTENER: bodies(a="bad", b="1")})
    playbook >> request(LISTENER) << response(LISTENER, bodies(a="bad", b="1")) >> change(LISTENER, now)
    playbook >> nack(LISTENER, "a is bad") << response(LISTENER, now)


def test_a_cluster_in_use_stays_in_the_set_until_its_listener_is_gone() -> None:
    playbook = state({CLUSTER: bodies(old="1"), LISTENER: bodies(l="old")})
    playbook >> request(CLUSTER) << response(CLUSTER, bodies(old="1")) >> ack(CLUSTER)
    playbook >> request(LISTENER) << response(LISTENER, bodies(l="old")) >> ack(LISTENER)
    playbook.together(change(CLUSTER, bodies(new="1")), change(LISTENER, bodies(l="new")))
    playbook << response(CLUSTER, bodies(new="1", old="1"))
    playbook.quiet() >> ack(CLUSTER) << response(LISTENER, bodies(l="new"))
    playbook.quiet() >> ack(LISTENER) << response(CLUSTER, bodies(new="1"))
