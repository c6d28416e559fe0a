"""Delta discovery as dialogues: what a client says, and what it must and must not be told."""

from __future__ import annotations

from dataclasses import replace

from judges.playbook import PROXY, Playbook, Says, ack, change, nack, request, response, subscribe, version_of
from peerauth.dataplane.type_urls import ADDRESS, AUTHORIZATION, CLUSTER, LISTENER, SECRET, TypeUrl
from peerauth.xds import wire
from peerauth.xds.dialect import ZTUNNEL
from peerauth.xds.wire import CloseCode, RecordAck, RecordHeld, RecordNack, SecondChance, Variant


def delta(view: dict[TypeUrl, dict[str, bytes]] | None = None) -> Playbook:
    return Playbook(Variant.DELTA, view or {})


def ztunnel(view: dict[TypeUrl, dict[str, bytes]]) -> Playbook:
    return Playbook(Variant.DELTA, view, dialect=ZTUNNEL)


def test_first_wildcard_request_gets_everything_and_the_ack_is_recorded() -> None:
    playbook = delta({LISTENER: {"a": b"1", "b": b"2"}})
    playbook >> request(LISTENER) << response(LISTENER, {"a": b"1", "b": b"2"}) >> ack(LISTENER)
    playbook.quiet()
    assert playbook.records[-1] == RecordAck(LISTENER, {"a": version_of(b"1"), "b": version_of(b"2")})


def test_a_client_that_waits_for_a_wildcard_is_answered_even_with_nothing() -> None:
    delta() >> request(LISTENER) << response(LISTENER) >> ack(LISTENER)


def test_an_empty_first_request_of_a_named_type_asks_for_nothing() -> None:
    (delta({SECRET: {"default": b"key"}}) >> request(SECRET)).quiet()


def test_unknown_names_are_answered_as_removed_and_sent_once_they_exist() -> None:
    playbook = delta({SECRET: {"default": b"key"}})
    playbook >> request(SECRET, "default", "ROOTCA") << response(SECRET, {"default": b"key"}, removed=["ROOTCA"])
    playbook >> ack(SECRET) >> change(SECRET, {"default": b"key", "ROOTCA": b"root", "other": b"not asked for"})
    playbook << response(SECRET, {"ROOTCA": b"root"})


def test_only_what_changed_is_sent() -> None:
    playbook = delta({LISTENER: {"a": b"1", "b": b"2"}})
    playbook >> request(LISTENER) << response(LISTENER, {"a": b"1", "b": b"2"}) >> ack(LISTENER)
    playbook >> change(LISTENER, {"a": b"1", "b": b"3"}) << response(LISTENER, {"b": b"3"}) >> ack(LISTENER)
    playbook >> change(LISTENER, {"a": b"1", "c": b"4"}) << response(LISTENER, {"c": b"4"}, removed=["b"])
    playbook >> ack(LISTENER)
    assert playbook.records[-1] == RecordAck(LISTENER, {"c": version_of(b"4"), "b": ""})


def test_a_slow_client_gets_only_the_latest_state() -> None:
    playbook = delta({LISTENER: {"a": b"1"}})
    playbook >> request(LISTENER) << response(LISTENER, {"a": b"1"})
    playbook >> change(LISTENER, {"a": b"2", "gone": b"x"}) >> change(LISTENER, {"a": b"3"})
    playbook.quiet() >> ack(LISTENER) << response(LISTENER, {"a": b"3"})


def test_a_change_that_was_taken_back_meanwhile_is_not_sent() -> None:
    playbook = delta({LISTENER: {"a": b"1"}})
    playbook >> request(LISTENER) << response(LISTENER, {"a": b"1"})
    playbook >> change(LISTENER, {"a": b"2"}) >> change(LISTENER, {"a": b"1"}) >> ack(LISTENER)
    playbook.quiet()


def test_a_stale_nonce_acknowledges_nothing() -> None:
    playbook = delta({LISTENER: {"a": b"1"}})
    playbook >> request(LISTENER) << response(LISTENER, {"a": b"1"}) >> change(LISTENER, {"a": b"2"})
    (playbook >> ack(LISTENER, nonce="77") >> nack(LISTENER, "no", nonce="78")).quiet()
    assert playbook.records == [RecordHeld(LISTENER, {})]
    playbook >> ack(LISTENER) << response(LISTENER, {"a": b"2"})


def test_a_refused_version_is_kept_with_its_message_and_not_sent_again_until_it_changes() -> None:
    playbook = delta({LISTENER: {"a": b"1"}})
    playbook >> request(LISTENER) << response(LISTENER, {"a": b"1"}) >> ack(LISTENER)
    playbook >> change(LISTENER, {"a": b"bad"}) << response(LISTENER, {"a": b"bad"}) >> nack(LISTENER, "unknown filter")
    playbook.quiet()
    refusal = wire.Refusal(13, "unknown filter")
    assert playbook.records[-1] == RecordNack(LISTENER, {"a": version_of(b"bad")}, refusal, isolated=True)
    playbook >> change(LISTENER, {"a": b"good"}) << response(LISTENER, {"a": b"good"}) >> ack(LISTENER)


def test_what_was_refused_alone_is_offered_again_when_time_has_passed_and_nothing_else_is() -> None:
    playbook = delta({LISTENER: {"a": b"port 80", "b": b"1"}})
    playbook >> request(LISTENER) << response(LISTENER, {"a": b"port 80", "b": b"1"}) >> nack(LISTENER, "in use")
    playbook << response(LISTENER, {"a": b"port 80"}) >> nack(LISTENER, "in use")
    playbook << response(LISTENER, {"b": b"1"}) >> ack(LISTENER)
    assert playbook.quiet().session.refused
    playbook >> SecondChance() << response(LISTENER, {"a": b"port 80"}) >> ack(LISTENER)
    assert not playbook.session.refused
    (playbook >> SecondChance()).quiet()


def test_of_many_refused_resources_some_at_a_time_are_offered_again_and_in_turn_all() -> None:
    names = {f"l{number:02}": b"bad" for number in range(40)}
    playbook = delta({LISTENER: names})
    playbook >> request(LISTENER)
    refuse_all(playbook)
    offered: list[set[str]] = []
    for _ in range(3):
        playbook >> SecondChance()
        offered.append(set(refuse_all(playbook)))
    assert [len(each) for each in offered] == [16, 16, 16]
    assert set.union(*offered) == names.keys()


def refuse_all(playbook: Playbook) -> dict[str, bytes]:
    """Refuses whatever comes until nothing does; returns the first answer."""
    first: dict[str, bytes] = {}
    while (answer := playbook.next_answer()) is not None:
        first = first or dict(answer.bodies)
        playbook >> nack(LISTENER, "no")
    return first


def test_going_back_to_what_the_client_kept_ends_a_refusal_without_sending() -> None:
    playbook = delta({LISTENER: {"a": b"1"}})
    playbook >> request(LISTENER) << response(LISTENER, {"a": b"1"}) >> ack(LISTENER)
    playbook >> change(LISTENER, {"a": b"bad"}) << response(LISTENER, {"a": b"bad"}) >> nack(LISTENER, "no")
    (playbook >> change(LISTENER, {"a": b"1"})).quiet()
    assert playbook.records[-1] == RecordAck(LISTENER, {"a": version_of(b"1")})


def test_one_bad_resource_among_many_holds_nothing_back() -> None:
    names = {"a": b"1", "b": b"bad", "c": b"3", "d": b"4"}
    playbook = delta({LISTENER: names})
    playbook >> request(LISTENER) << response(LISTENER, names) >> nack(LISTENER, "b is bad")
    playbook << response(LISTENER, {"a": b"1", "b": b"bad"}) >> nack(LISTENER, "b is bad")
    playbook << response(LISTENER, {"a": b"1"}) >> ack(LISTENER)
    playbook << response(LISTENER, {"b": b"bad"}) >> nack(LISTENER, "b is bad")
    playbook << response(LISTENER, {"c": b"3", "d": b"4"}) >> ack(LISTENER)
    playbook.quiet()
    isolated = [each for each in playbook.records if isinstance(each, RecordNack) and each.isolated]
    assert [tuple(each.versions) for each in isolated] == [("b",)]


def test_a_new_change_overtakes_the_search_for_the_culprit() -> None:
    playbook = delta({LISTENER: {"a": b"1", "b": b"bad"}})
    playbook >> request(LISTENER) << response(LISTENER, {"a": b"1", "b": b"bad"})
    playbook >> change(LISTENER, {"a": b"1", "b": b"bad", "c": b"urgent"}) >> nack(LISTENER, "no")
    playbook << response(LISTENER, {"c": b"urgent"}) >> ack(LISTENER) << response(LISTENER, {"a": b"1"})


def test_a_suspect_that_changes_is_a_suspect_no_more_and_goes_first() -> None:
    names = {"a": b"1", "b": b"2", "c": b"3", "d": b"bad"}
    playbook = delta({LISTENER: names})
    playbook >> request(LISTENER) << response(LISTENER, names) >> nack(LISTENER, "no")
    playbook << response(LISTENER, {"a": b"1", "b": b"2"}) >> change(LISTENER, names | {"d": b"strict"})
    playbook.quiet() >> ack(LISTENER) << response(LISTENER, {"d": b"strict"}) >> ack(LISTENER)
    playbook << response(LISTENER, {"c": b"3"}) >> ack(LISTENER)
    playbook.quiet()


def test_a_refused_resource_gets_another_chance_after_what_stood_in_its_way_is_gone() -> None:
    playbook = delta({LISTENER: {"a": b"port 80"}})
    playbook >> request(LISTENER) << response(LISTENER, {"a": b"port 80"}) >> ack(LISTENER)
    playbook >> change(LISTENER, {"a": b"port 80", "b": b"port 80"}) << response(LISTENER, {"b": b"port 80"})
    playbook >> nack(LISTENER, "duplicate address") >> change(LISTENER, {"b": b"port 80"})
    playbook << response(LISTENER, removed=["a"]) >> ack(LISTENER) << response(LISTENER, {"b": b"port 80"})
    playbook >> ack(LISTENER)


def test_a_client_that_comes_back_is_sent_only_the_difference() -> None:
    playbook = delta({LISTENER: {"same": b"1", "new": b"2", "other": b"3"}})
    playbook >> request(LISTENER, held={"same": b"1", "other": b"old", "gone": b"x"})
    playbook << response(LISTENER, {"new": b"2", "other": b"3"}, removed=["gone"])


def test_a_client_that_comes_back_unchanged_is_sent_nothing() -> None:
    playbook = delta({LISTENER: {"a": b"1"}, SECRET: {"default": b"key"}})
    (playbook >> request(LISTENER, held={"a": b"1"}) >> request(SECRET, "default", held={"default": b"key"})).quiet()
    assert playbook.records[0] == RecordHeld(LISTENER, {"a": version_of(b"1")})


def test_names_gone_while_the_client_was_away_are_removed() -> None:
    delta() >> request(SECRET, "default", held={"default": b"key"}) << response(SECRET, removed=["default"])


def test_subscribing_again_is_asking_again() -> None:
    playbook = delta({SECRET: {"default": b"key"}})
    playbook >> request(SECRET, "default") << response(SECRET, {"default": b"key"}) >> ack(SECRET)
    playbook >> subscribe(SECRET, "default") << response(SECRET, {"default": b"key"})


def test_a_dropped_name_is_not_sent_any_more() -> None:
    playbook = delta({SECRET: {"a": b"1", "b": b"2"}})
    playbook >> request(SECRET, "a", "b") << response(SECRET, {"a": b"1", "b": b"2"}) >> ack(SECRET)
    playbook >> subscribe(SECRET, unsubscribe=["a"]) >> change(SECRET, {"a": b"3", "b": b"4"})
    playbook << response(SECRET, {"b": b"4"})


def test_dropping_and_asking_while_an_answer_is_on_its_way_sends_it_again() -> None:
    playbook = delta({SECRET: {"a": b"1"}})
    playbook >> request(SECRET, "a") << response(SECRET, {"a": b"1"})
    playbook >> subscribe(SECRET, unsubscribe=["a"]) >> subscribe(SECRET, "a") >> ack(SECRET, nonce="1")
    playbook << response(SECRET, {"a": b"1"})


def test_leaving_and_taking_the_wildcard_while_an_answer_is_on_its_way_sends_it_again() -> None:
    playbook = delta({LISTENER: {"a": b"1"}})
    playbook >> request(LISTENER) << response(LISTENER, {"a": b"1"})
    playbook >> subscribe(LISTENER, unsubscribe=["*"]) >> subscribe(LISTENER, "*") >> ack(LISTENER)
    playbook << response(LISTENER, {"a": b"1"})


def test_what_a_client_dropped_is_not_counted_as_acknowledged() -> None:
    playbook = delta({SECRET: {"a": b"1"}})
    playbook >> request(SECRET, "a") << response(SECRET, {"a": b"1"}) >> ack(SECRET)
    playbook >> subscribe(SECRET, unsubscribe=["a"])
    assert playbook.records[-1] == RecordAck(SECRET, {"a": ""})


def test_a_name_dropped_under_a_wildcard_is_answered_because_the_client_cannot_know() -> None:
    playbook = delta({LISTENER: {"a": b"1"}})
    (
        playbook
        >> request(LISTENER, "*", "a", "none")
        << response(LISTENER, {"a": b"1"}, removed=["none"])
        >> ack(LISTENER)
    )
    playbook >> subscribe(LISTENER, unsubscribe=["a", "none"]) << response(LISTENER, {"a": b"1"}, removed=["none"])


def test_leaving_the_wildcard_keeps_the_names() -> None:
    playbook = delta({LISTENER: {"a": b"1", "b": b"2"}})
    playbook >> request(LISTENER, "*", "a") << response(LISTENER, {"a": b"1", "b": b"2"}) >> ack(LISTENER)
    playbook >> subscribe(LISTENER, unsubscribe=["*"]) >> change(LISTENER, {"a": b"3", "b": b"4"})
    playbook << response(LISTENER, {"a": b"3"}) >> ack(LISTENER)
    playbook >> subscribe(LISTENER, "*") << response(LISTENER, {"b": b"4"})


def test_star_subscribed_and_unsubscribed_at_once_is_no_wildcard() -> None:
    playbook = ztunnel({ADDRESS: {"pod": b"1"}})
    (playbook >> wildcardless()).quiet()
    playbook >> subscribe(ADDRESS, "pod") << response(ADDRESS, {"pod": b"1"})


def test_ztunnel_resumes_its_demands_by_listing_them_as_held() -> None:
    playbook = ztunnel({ADDRESS: {"pod": b"1", "other": b"2", "asked": b"3"}})
    playbook >> wildcardless(pod=b"old", gone=b"x", asked=b"")
    playbook << response(ADDRESS, {"pod": b"1", "asked": b"3"}, removed=["gone"])


def wildcardless(**held: bytes) -> Says:
    return replace(request(ADDRESS, "*", held=held), unsubscribe=["*"])


def test_additions_go_clusters_first_and_wait_for_each_acknowledgement() -> None:
    playbook = delta()
    playbook >> request(CLUSTER) << response(CLUSTER) >> ack(CLUSTER)
    playbook >> request(LISTENER) << response(LISTENER) >> ack(LISTENER)
    playbook.together(change(LISTENER, {"l": b"uses c"}), change(CLUSTER, {"c": b"1"}))
    playbook << response(CLUSTER, {"c": b"1"})
    playbook.quiet() >> ack(CLUSTER) << response(LISTENER, {"l": b"uses c"})


def test_a_cluster_is_removed_after_the_listener_that_used_it_is_gone() -> None:
    playbook = delta({CLUSTER: {"c": b"1"}, LISTENER: {"l": b"uses c"}})
    playbook >> request(CLUSTER) << response(CLUSTER, {"c": b"1"}) >> ack(CLUSTER)
    playbook >> request(LISTENER) << response(LISTENER, {"l": b"uses c"}) >> ack(LISTENER)
    playbook.together(change(CLUSTER, {}), change(LISTENER, {})) << response(LISTENER, removed=["l"])
    playbook.quiet() >> ack(LISTENER) << response(CLUSTER, removed=["c"])


def test_clusters_go_when_the_listener_that_was_refused_is_gone_before_its_refusal_is_heard() -> None:
    playbook = delta({CLUSTER: {"c": b"0"}, LISTENER: {"l": b"bad"}})
    playbook >> request(CLUSTER) << response(CLUSTER, {"c": b"0"}) >> ack(CLUSTER)
    playbook >> request(LISTENER) << response(LISTENER, {"l": b"bad"})
    playbook.together(change(CLUSTER, {}), change(LISTENER, {}))
    playbook >> nack(LISTENER, "no") << response(CLUSTER, removed=["c"])


def test_a_cluster_stays_while_the_listener_that_would_free_it_is_refused() -> None:
    playbook = delta({CLUSTER: {"c": b"1"}, LISTENER: {"l": b"uses c"}})
    playbook >> request(CLUSTER) << response(CLUSTER, {"c": b"1"}) >> ack(CLUSTER)
    playbook >> request(LISTENER) << response(LISTENER, {"l": b"uses c"}) >> ack(LISTENER)
    playbook.together(change(CLUSTER, {}), change(LISTENER, {"l": b"bad"})) << response(LISTENER, {"l": b"bad"})
    (playbook >> nack(LISTENER, "no")).quiet()
    playbook >> change(LISTENER, {"l": b"good"}) << response(LISTENER, {"l": b"good"}) >> ack(LISTENER)
    playbook << response(CLUSTER, removed=["c"])


def test_a_client_that_comes_back_loses_its_clusters_only_after_its_listeners() -> None:
    playbook = delta()
    (playbook >> request(CLUSTER, held={"c": b"1"})).quiet()
    playbook >> request(LISTENER, held={"l": b"uses c"}) << response(LISTENER, removed=["l"]) >> ack(LISTENER)
    playbook << response(CLUSTER, removed=["c"])


def test_what_is_asked_for_by_name_does_not_wait_for_other_types() -> None:
    playbook = delta({CLUSTER: {"c": b"1"}, SECRET: {"default": b"key"}})
    playbook >> request(CLUSTER) << response(CLUSTER, {"c": b"1"}) >> request(SECRET, "default")
    playbook << response(SECRET, {"default": b"key"})


def running(clusters: dict[str, bytes]) -> Playbook:
    """A client that has these clusters and one listener."""
    playbook = delta({CLUSTER: clusters, LISTENER: {"l": b"old"}})
    playbook >> request(CLUSTER) << response(CLUSTER, clusters) >> ack(CLUSTER)
    return playbook >> request(LISTENER) << response(LISTENER, {"l": b"old"}) >> ack(LISTENER)


def test_a_cluster_that_only_changes_does_not_hold_the_listener_back() -> None:
    playbook = running({"c": b"0"})
    playbook.together(change(CLUSTER, {"c": b"1"}), change(LISTENER, {"l": b"strict"}))
    playbook << response(CLUSTER, {"c": b"1"}) << response(LISTENER, {"l": b"strict"})
    playbook >> ack(CLUSTER) >> ack(LISTENER)
    playbook.quiet()


def test_a_listener_waits_for_a_cluster_that_the_client_is_losing_and_gets_again() -> None:
    playbook = running({"c": b"0", "d": b"0"})
    playbook >> change(CLUSTER, {"c": b"0"}) << response(CLUSTER, removed=["d"])
    playbook.together(change(CLUSTER, {"c": b"0", "d": b"0"}), change(LISTENER, {"l": b"to d"}))
    playbook.quiet() >> ack(CLUSTER) << response(CLUSTER, {"d": b"0"})
    playbook.quiet() >> ack(CLUSTER) << response(LISTENER, {"l": b"to d"})


def test_listeners_are_not_held_back_for_ever_by_restless_clusters() -> None:
    clusters = {"c0": b"0"}
    playbook = running(clusters)
    clusters = clusters | {"c1": b"0"}
    playbook >> change(CLUSTER, clusters) << response(CLUSTER, {"c1": b"0"}) >> change(LISTENER, {"l": b"strict"})
    for turn in range(2, 10):
        clusters = clusters | {f"c{turn}": b"0"}
        playbook >> change(CLUSTER, clusters)
        playbook.quiet() >> ack(CLUSTER) << response(CLUSTER, {f"c{turn}": b"0"})
    playbook << response(LISTENER, {"l": b"strict"})


def test_addresses_wait_for_the_policies_that_they_name() -> None:
    playbook = ztunnel({ADDRESS: {"pod": b"1"}, AUTHORIZATION: {"strict": b"2"}})
    (playbook >> request(ADDRESS)).quiet()
    playbook >> request(AUTHORIZATION) << response(AUTHORIZATION, {"strict": b"2"})
    playbook.quiet() >> ack(AUTHORIZATION) << response(ADDRESS, {"pod": b"1"})


def test_addresses_wait_while_a_policy_is_refused() -> None:
    playbook = ztunnel({ADDRESS: {"pod": b"1"}, AUTHORIZATION: {"strict": b"2"}})
    playbook >> request(ADDRESS) >> request(AUTHORIZATION)
    playbook << response(AUTHORIZATION, {"strict": b"2"}) >> nack(AUTHORIZATION, "bad CIDR")
    playbook.quiet() >> change(AUTHORIZATION, {"strict": b"3"}) << response(AUTHORIZATION, {"strict": b"3"})
    playbook >> ack(AUTHORIZATION) << response(ADDRESS, {"pod": b"1"})


def test_policies_are_removed_after_the_addresses_that_named_them() -> None:
    playbook = ztunnel({ADDRESS: {"pod": b"1"}, AUTHORIZATION: {"strict": b"2"}})
    playbook >> request(AUTHORIZATION) << response(AUTHORIZATION, {"strict": b"2"}) >> ack(AUTHORIZATION)
    playbook >> request(ADDRESS) << response(ADDRESS, {"pod": b"1"}) >> ack(ADDRESS)
    playbook.together(change(AUTHORIZATION, {}), change(ADDRESS, {"pod": b"3"}))
    playbook << response(ADDRESS, {"pod": b"3"})
    playbook.quiet() >> ack(ADDRESS) << response(AUTHORIZATION, removed=["strict"])


def test_a_node_that_claims_another_proxy_is_refused() -> None:
    playbook = delta({LISTENER: {"a": b"1"}})
    (playbook >> request(LISTENER, node="sidecar~someone.else")).quiet()
    assert playbook.closed is CloseCode.PERMISSION_DENIED
    (playbook >> request(LISTENER, node=PROXY)).quiet()


def test_only_the_first_message_says_who_the_client_is() -> None:
    playbook = delta()
    playbook >> request(CLUSTER, node=PROXY) << response(CLUSTER) >> ack(CLUSTER)
    playbook >> request(LISTENER, node="later") << response(LISTENER)
    assert playbook.closed is None


def test_bytes_that_are_no_request_close_the_stream() -> None:
    session = delta().session
    (close,) = session.receive(wire.RequestReceived(b"\xff\xff\xff"))
    assert isinstance(close, wire.Close)
    assert close.code is CloseCode.INVALID_ARGUMENT


def test_a_secret_stream_knows_its_type_and_no_other() -> None:
    playbook = Playbook(Variant.DELTA, {SECRET: {"default": b"key"}}, only=SECRET)
    first = request(TypeUrl(""), "default")
    playbook >> first << response(SECRET, {"default": b"key"})
    (playbook >> request(LISTENER)).quiet()
    assert playbook.closed is CloseCode.INVALID_ARGUMENT


def test_a_client_that_subscribes_without_end_is_cut_off() -> None:
    playbook = delta()
    for number in range(65):
        playbook >> request(TypeUrl(f"type.googleapis.com/t{number}"))
    assert playbook.closed is CloseCode.RESOURCE_EXHAUSTED
