"""What the dialogue with ztunnel has of its own: asking by address, the node's own workloads, who it says it is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from judges.playbook import PROXY, Playbook, Says, ack, change, nack, request, response, subscribe
from peerauth.dataplane.type_urls import ADDRESS, AUTHORIZATION, TypeUrl
from peerauth.xds.dialect import ZTUNNEL
from peerauth.xds.wire import CloseCode, ProxyKey, Variant, speaks_for

POD, OTHER, SERVICE = "c//Pod/foo/a", "c//Pod/foo/b", "foo/bank.foo.svc.cluster.local"


class Relations:
    """What goes with a name; `PROXY` is the client itself."""

    def __init__(self, **_: object) -> None:
        self.names: dict[str, set[str]] = {"/10.0.0.1": {POD}, "/10.96.0.1": {SERVICE, POD}, SERVICE: {POD}}

    def __call__(self, type_url: TypeUrl, name: str) -> Collection[str]:
        return self.names.get(name, ()) if type_url == ADDRESS else ()


@pytest.fixture
def relations() -> Relations:
    return Relations()


@pytest.fixture
def playbook(relations: Relations) -> Playbook:
    made = Playbook(Variant.DELTA, {ADDRESS: {POD: b"1", OTHER: b"2", SERVICE: b"3"}}, dialect=ZTUNNEL)
    made.cache.relate(PROXY, relations)
    return made


def on_demand(**held: bytes) -> Says:
    return replace(request(ADDRESS, "*", held=held), unsubscribe=["*"])


def test_who_asks_by_address_gets_the_resource_under_its_name_and_is_released_by_the_removal(
    playbook: Playbook,
) -> None:
    (playbook >> on_demand()).quiet()
    playbook >> subscribe(ADDRESS, "/10.0.0.1")
    playbook << response(ADDRESS, {POD: b"1"}, removed=["/10.0.0.1"])


def test_an_address_that_nobody_has_is_answered_too(playbook: Playbook) -> None:
    playbook >> on_demand() >> subscribe(ADDRESS, "/10.9.9.9") << response(ADDRESS, removed=["/10.9.9.9"])


def test_a_service_brings_its_workloads_and_later_ones_follow(playbook: Playbook, relations: Relations) -> None:
    playbook >> on_demand() >> subscribe(ADDRESS, "/10.96.0.1")
    playbook << response(ADDRESS, {SERVICE: b"3", POD: b"1"}, removed=["/10.96.0.1"]) >> ack(ADDRESS)
    relations.names["/10.96.0.1"] = {SERVICE, POD, OTHER}
    playbook >> change(ADDRESS, {POD: b"1", OTHER: b"new", SERVICE: b"3"})
    playbook << response(ADDRESS, {OTHER: b"new"})


def test_the_answer_to_an_address_waits_for_the_policies_as_a_whole(playbook: Playbook) -> None:
    playbook.cache.set(PROXY, AUTHORIZATION, {"strict": b"p"})
    (playbook >> on_demand() >> subscribe(ADDRESS, "/10.0.0.1")).quiet()
    playbook >> request(AUTHORIZATION) << response(AUTHORIZATION, {"strict": b"p"})
    playbook.quiet() >> ack(AUTHORIZATION)
    playbook << response(ADDRESS, {POD: b"1"}, removed=["/10.0.0.1"])


def test_the_nodes_own_workloads_come_unasked_and_so_do_new_ones(playbook: Playbook, relations: Relations) -> None:
    relations.names[PROXY] = {POD}
    playbook >> on_demand() << response(ADDRESS, {POD: b"1"}) >> ack(ADDRESS)
    relations.names[PROXY] = {POD, OTHER}
    (playbook >> change(ADDRESS, {POD: b"1", OTHER: b"new", SERVICE: b"3"}) << response(ADDRESS, {OTHER: b"new"}))


def test_demands_are_resumed_with_what_goes_with_them(playbook: Playbook) -> None:
    playbook >> on_demand(**{POD: b"old", "/10.0.0.1": b"", "gone": b"x"})
    playbook << response(ADDRESS, {POD: b"1"}, removed=["/10.0.0.1", "gone"])


def test_who_wants_everything_gets_no_company(playbook: Playbook, relations: Relations) -> None:
    relations.names[PROXY] = {"unknown"}
    playbook >> request(ADDRESS) << response(ADDRESS, {POD: b"1", OTHER: b"2", SERVICE: b"3"})


def test_a_client_that_resumes_policies_first_loses_none_before_its_addresses(playbook: Playbook) -> None:
    (playbook >> request(AUTHORIZATION, held={"old": b"p"})).quiet()
    playbook >> request(ADDRESS, held={POD: b"names old"})
    playbook << response(ADDRESS, {POD: b"1", OTHER: b"2", SERVICE: b"3"})
    playbook.quiet() >> ack(ADDRESS) << response(AUTHORIZATION, removed=["old"])


def test_policies_that_an_address_still_names_stay_while_the_new_address_is_refused(playbook: Playbook) -> None:
    playbook.cache.set(PROXY, ADDRESS, {POD: b"names old"})
    playbook.cache.set(PROXY, AUTHORIZATION, {"old": b"p"})
    playbook >> request(ADDRESS) >> request(AUTHORIZATION) << response(AUTHORIZATION, {"old": b"p"})
    playbook >> ack(AUTHORIZATION) << response(ADDRESS, {POD: b"names old"}) >> ack(ADDRESS)
    playbook.together(change(AUTHORIZATION, {}), change(ADDRESS, {POD: b"bad"}))
    playbook << response(ADDRESS, {POD: b"bad"})
    (playbook >> nack(ADDRESS, "no")).quiet()


def test_a_ztunnel_may_call_itself_by_its_pod_and_nobody_else_may_call_itself_a_ztunnel() -> None:
    proxy = ProxyKey("ztunnel~n1")
    assert speaks_for("ztunnel~10.0.0.1~ztunnel-x.istio-system~istio-system.svc.cluster.local", proxy)
    assert not speaks_for("sidecar~10.0.0.1~a.foo~foo.svc", proxy)
    assert not speaks_for("ztunnel~10.0.0.1~a.foo~foo.svc", ProxyKey("sidecar~a"))
    playbook = Playbook(Variant.DELTA, {}, dialect=ZTUNNEL)
    playbook >> request(ADDRESS, node="ztunnel~x")
    assert playbook.closed is CloseCode.PERMISSION_DENIED
