"""Who is told what about whose resources."""

from __future__ import annotations

import gc

from peerauth.dataplane.resources import CLUSTER, LISTENER
from peerauth.xds.cache import ResourceCache
from peerauth.xds.wire import ProxyKey

FINANCE, WEB = ProxyKey("finance"), ProxyKey("web")


class Wakeups:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def test_only_the_touched_proxy_is_woken_and_told_the_names() -> None:
    cache, finance, web = ResourceCache(), Wakeups(), Wakeups()
    news, others = cache.watch(FINANCE, finance), cache.watch(WEB, web)
    assert cache.set(FINANCE, LISTENER, {"a": b"1", "b": b"2"}) == {"a", "b"}
    assert (finance.count, web.count) == (1, 0)
    assert news.drain() == {LISTENER: {"a", "b"}}
    assert others.drain() == {}


def test_equal_bytes_wake_nobody() -> None:
    cache, wakeups = ResourceCache(), Wakeups()
    cache.set(FINANCE, LISTENER, {"a": b"1"})
    cache.watch(FINANCE, wakeups)
    assert cache.set(FINANCE, LISTENER, {"a": bytes(bytearray(b"1"))}) == frozenset()
    assert wakeups.count == 0


def test_news_add_up_until_they_are_drained_and_wake_once() -> None:
    cache, wakeups = ResourceCache(), Wakeups()
    news = cache.watch(FINANCE, wakeups)
    cache.set(FINANCE, LISTENER, {"a": b"1"})
    cache.set(FINANCE, LISTENER, {"b": b"1"})
    cache.update(FINANCE, CLUSTER, {"c": b"1"})
    assert wakeups.count == 1
    assert news.drain() == {LISTENER: {"a", "b"}, CLUSTER: {"c"}}
    cache.update(FINANCE, CLUSTER, {}, removed=["c", "unknown"])
    assert (wakeups.count, news.drain()) == (2, {CLUSTER: {"c"}})


def test_a_closed_watch_hears_nothing() -> None:
    cache, wakeups = ResourceCache(), Wakeups()
    cache.watch(FINANCE, wakeups).close()
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
    news = cache.watch(FINANCE, Wakeups())
    cache.remove(FINANCE)
    cache.set(FINANCE, LISTENER, {"b": b"1"})
    assert news.drain() == {LISTENER: {"a", "b"}}
