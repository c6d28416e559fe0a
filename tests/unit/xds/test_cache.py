"""Who is told what about whose resources."""

from __future__ import annotations

import gc
from collections.abc import Collection, Mapping

from peerauth.dataplane.type_urls import CLUSTER, ENDPOINT, LISTENER, TypeUrl
from peerauth.xds.cache import ResourceCache, StreamView
from peerauth.xds.wire import ProxyKey
from rigs.destinations import Source

FINANCE, WEB = ProxyKey("finance"), ProxyKey("web")


def names(view: StreamView) -> Mapping[TypeUrl, Collection[str]]:
    news = view.drain()
    assert news is not None
    return news.names


class Wakeups:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def test_only_the_touched_proxy_is_woken_and_told_the_names() -> None:
    cache, finance, web = ResourceCache(), Wakeups(), Wakeups()
    news, others = cache.open(FINANCE, finance), cache.open(WEB, web)
    assert cache.set(FINANCE, LISTENER, {"a": b"1", "b": b"2"}) == {"a", "b"}
    assert (finance.count, web.count) == (1, 0)
    assert names(news) == {LISTENER: {"a", "b"}}
    assert others.drain() is None


def test_equal_bytes_wake_nobody() -> None:
    cache, wakeups = ResourceCache(), Wakeups()
    cache.set(FINANCE, LISTENER, {"a": b"1"})
    cache.open(FINANCE, wakeups)
    assert cache.set(FINANCE, LISTENER, {"a": bytes(bytearray(b"1"))}) == frozenset()
    assert wakeups.count == 0


def test_news_add_up_until_they_are_drained_and_wake_once() -> None:
    cache, wakeups = ResourceCache(), Wakeups()
    news = cache.open(FINANCE, wakeups)
    cache.set(FINANCE, LISTENER, {"a": b"1"})
    cache.set(FINANCE, LISTENER, {"b": b"1"})
    cache.update(FINANCE, CLUSTER, {"c": b"1"})
    assert wakeups.count == 1
    assert names(news) == {LISTENER: {"a", "b"}, CLUSTER: {"c"}}
    cache.update(FINANCE, CLUSTER, {}, removed=["c", "unknown"])
    assert (wakeups.count, names(news)) == (2, {CLUSTER: {"c"}})


def test_a_closed_watch_hears_nothing() -> None:
    cache, wakeups = ResourceCache(), Wakeups()
    cache.open(FINANCE, wakeups).close()
    cache.set(FINANCE, LISTENER, {"a": b"1"})
    assert wakeups.count == 0


def test_equal_resources_of_many_proxies_are_one_object_while_anyone_has_them() -> None:
    cache = ResourceCache()
    for proxy in (FINANCE, WEB):
        cache.set(proxy, LISTENER, {"a": bytes(bytearray(b"the same"))})
    assert cache.view(FINANCE).get(LISTENER, "a") is cache.view(WEB).get(LISTENER, "a")
    for proxy in (FINANCE, WEB):
        cache.remove(proxy)
    gc.collect()
    assert not cache._shared


def test_replacing_takes_away_what_is_not_named() -> None:
    cache = ResourceCache()
    cache.replace(FINANCE, {LISTENER: {"a": b"1"}, CLUSTER: {"c": b"1"}})
    cache.replace(FINANCE, {LISTENER: {"b": b"2"}})
    assert set(cache.versions(FINANCE, LISTENER)) == {"b"}
    assert cache.versions(FINANCE, CLUSTER) == {}


def test_a_removed_proxy_with_an_open_stream_is_told_that_all_is_gone() -> None:
    cache = ResourceCache()
    cache.set(FINANCE, LISTENER, {"a": b"1"})
    news = cache.open(FINANCE, Wakeups())
    cache.remove(FINANCE)
    cache.set(FINANCE, LISTENER, {"b": b"1"})
    assert names(news) == {LISTENER: {"a", "b"}}


# --- on demand -------------------------------------------------------------------------------------------------------

POD = "dst|10.0.0.7:8080"


def test_a_change_on_demand_wakes_and_costs_who_asked_whoever_else_shares_the_source() -> None:
    cache, source = ResourceCache(), Source()
    source.put({(CLUSTER, POD): b"1", (ENDPOINT, POD): b"e"})
    streams: list[tuple[StreamView, Wakeups]] = []
    for number in range(2000):
        proxy, wakeups = ProxyKey(f"p{number}"), Wakeups()
        cache.on_demand(proxy, source)
        streams.append((cache.open(proxy, wakeups), wakeups))
    for number in (7, 8):
        streams[number][0].ask(CLUSTER, [POD])
    streams[8][0].ask(ENDPOINT, [POD])
    source.put({(CLUSTER, POD): b"2"})
    source.looked = 0
    asked = {ProxyKey("p7"): {CLUSTER: {POD}}, ProxyKey("p8"): {CLUSTER: {POD}}}
    assert cache.changed(source, [POD, "dst|10.0.0.8:8080"]) == asked
    assert source.looked == 2, "once for each type of what is asked for, however many ask"
    assert [number for number, (_, wakeups) in enumerate(streams) if wakeups.count] == [7, 8]
    assert streams[7][0].get(CLUSTER, POD) is streams[8][0].get(CLUSTER, POD)


def test_equal_bytes_on_demand_wake_nobody() -> None:
    cache, source, wakeups = ResourceCache(), Source(), Wakeups()
    source.put({(CLUSTER, POD): b"1"})
    cache.on_demand(FINANCE, source)
    cache.open(FINANCE, wakeups).ask(CLUSTER, [POD])
    source.put({(CLUSTER, POD): bytes(bytearray(b"1"))})
    assert cache.changed(source, [POD]) == {}
    assert wakeups.count == 0


def test_each_of_a_proxy_s_streams_asks_for_itself_and_the_last_one_ends_it() -> None:
    cache, source = ResourceCache(), Source()
    source.put({(CLUSTER, POD): b"1"})
    cache.on_demand(FINANCE, source)
    first, second = (cache.open(FINANCE, lambda: None) for _ in range(2))
    first.ask(CLUSTER, [POD])
    assert (second.get(CLUSTER, POD), cache.view(FINANCE).get(CLUSTER, POD)) == (None, first.get(CLUSTER, POD))
    source.put({(CLUSTER, POD): b"2"})
    cache.changed(source, [POD])
    assert (names(first), second.drain()) == ({CLUSTER: {POD}}, None)
    second.ask(CLUSTER, [POD])
    first.close()
    assert source.asked == {POD}
    assert list(cache.versions(FINANCE, CLUSTER)) == [POD]
    second.close()
    assert not source.asked
    assert cache.view(FINANCE).get(CLUSTER, POD) is None


def test_it_is_known_of_a_name_whether_a_stream_asked_or_has_yet_to_say() -> None:
    cache, source = ResourceCache(), Source()
    cache.on_demand(FINANCE, source)
    view = cache.view(FINANCE)
    assert not view.asks(POD)
    stream = cache.open(FINANCE, lambda: None)
    assert view.asks(POD), "it has not said anything"
    stream.ask(CLUSTER, ())
    assert not view.asks(POD)
    stream.ask(CLUSTER, [POD])
    assert view.asks(POD)
    assert view.get(CLUSTER, POD) is None
    assert not view.is_on_demand(LISTENER, POD)
    assert not view.is_on_demand(CLUSTER, "inbound")


def test_a_removed_proxy_with_an_open_stream_is_told_that_what_it_asked_for_is_gone() -> None:
    cache, source = ResourceCache(), Source()
    source.put({(CLUSTER, POD): b"1"})
    cache.on_demand(FINANCE, source)
    stream = cache.open(FINANCE, lambda: None)
    stream.ask(CLUSTER, [POD])
    cache.remove(FINANCE)
    assert (names(stream), stream.get(CLUSTER, POD), source.asked) == ({CLUSTER: {POD}}, None, set())
    assert cache.changed(source, [POD]) == {}
