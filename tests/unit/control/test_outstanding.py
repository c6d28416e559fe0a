"""Who has answered for what: a proxy's time, what ends it, and who must not be ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from peerauth.aio import spawn
from peerauth.control.outstanding import PATIENCE_SECONDS, Behind, CaughtUp, Outstanding
from peerauth.dataplane.type_urls import CLUSTER, LISTENER
from peerauth.xds.cache import ResourceCache
from peerauth.xds.wire import ProxyKey
from rigs.bounded import idle, soon
from rigs.destinations import Source
from rigs.standins import Clock, Process, Proxies

FINANCE, WEB = ProxyKey("finance"), ProxyKey("web")
CLOSES = ("port 8080 PERMISSIVE -> STRICT",)


class Bed:
    """A cache, who reads it, and what is outstanding; `said` is what was told of proxies that are behind."""

    def __init__(self) -> None:
        self.cache = ResourceCache()
        self.source = Source()
        self.proxies = Proxies(self.cache)
        self.clock = Clock()
        self.outstanding = Outstanding(self.cache, self.proxies, processes=self.proxies.process, sleep=self.clock.sleep)
        self.said: list[Behind | CaughtUp] = []
        self.outstanding.follow(self.said.append)

    def put(self, proxy: ProxyKey, body: bytes | None, *, name: str = "inbound", closes: tuple[str, ...] = ()) -> None:
        """A listener for a proxy, or none, and that it was told."""
        bodies, removed = ({}, [name]) if body is None else ({name: body}, [])
        self.outstanding.tell(
            proxy, {LISTENER: self.cache.update(proxy, LISTENER, bodies, removed=removed)}, closes=closes
        )

    def put_on_demand(self, body: bytes | None, *, name: str = "dst|10.0.0.7:80") -> None:
        """Another destination for who has asked for it, or none, and that they were told."""
        self.source.put({(CLUSTER, name): body})
        for proxy, news in self.cache.changed(self.source, [name]).items():
            self.outstanding.tell(proxy, news, closes=CLOSES)

    async def start(self, *proxies: ProxyKey) -> None:
        """Proxies with a process each that have a listener."""
        for number, proxy in enumerate(proxies, start=1):
            self.proxies.processes[proxy] = Process(number)
            self.cache.on_demand(proxy, self.source)
            self.proxies.connect(proxy)
            self.put(proxy, b"open")
        await idle()
        self.outstanding.take_acknowledged()

    def ends(self, proxy: ProxyKey = FINANCE) -> int:
        return self.proxies.processes[proxy].ends

    async def answered(self, proxy: ProxyKey) -> None:
        await soon(f"{proxy} has answered, or is out of time", self.outstanding.answered([proxy]))


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    made = Bed()
    async with asyncio.TaskGroup() as group:
        running = spawn(group, made.outstanding.run(), name="outstanding")
        await made.start(FINANCE, WEB)
        yield made
        running.cancel()


async def test_who_acknowledges_in_time_is_waited_for_and_counted(bed: Bed) -> None:
    bed.proxies.still.add(FINANCE)
    bed.put(FINANCE, b"closed", closes=CLOSES)
    await bed.clock.passes(PATIENCE_SECONDS - 0.1)
    assert bed.outstanding.waited_for() == (FINANCE,)
    assert bed.outstanding.take_acknowledged() == frozenset()
    bed.proxies.go_on(FINANCE)
    await bed.answered(FINANCE)
    await bed.clock.passes(2 * PATIENCE_SECONDS)
    assert bed.outstanding.take_acknowledged() == {FINANCE}
    assert (bed.said, bed.ends()) == ([], 0)


async def test_who_stands_still_is_named_once_and_ended_if_it_was_to_close_something(bed: Bed) -> None:
    bed.proxies.still.update({FINANCE, WEB})
    bed.put(FINANCE, b"closed", closes=CLOSES)
    bed.put(WEB, b"other")
    await bed.clock.passes(3 * PATIENCE_SECONDS)
    assert bed.said == [
        Behind(FINANCE, ("inbound",), CLOSES, refused=False, ended=True),
        Behind(WEB, ("inbound",), (), refused=False, ended=False),
    ]
    assert (bed.ends(FINANCE), bed.ends(WEB)) == (1, 0)


async def test_nobody_waits_for_who_is_out_of_time_even_if_it_is_told_more(bed: Bed) -> None:
    bed.proxies.still.add(WEB)
    bed.put(WEB, b"other")
    await bed.clock.passes(PATIENCE_SECONDS)
    bed.put(WEB, b"and another", name="egress")
    await bed.answered(WEB)
    assert bed.outstanding.waited_for() == ()
    bed.proxies.go_on(WEB)
    assert bed.said[1:] == [CaughtUp(WEB)]
    assert bed.outstanding.take_acknowledged() == frozenset(), "told by its name, not counted as well"


async def test_time_in_which_nothing_of_ours_ran_does_not_count(bed: Bed) -> None:
    """However late the clock wakes us: what a proxy said meanwhile lies there unread."""
    bed.proxies.still.add(FINANCE)
    bed.put(FINANCE, b"closed", closes=CLOSES)
    await idle()
    bed.clock.now += 10 * PATIENCE_SECONDS
    await bed.clock.passes(0.1)
    assert bed.outstanding.waited_for() == (FINANCE,)
    assert bed.said == []


async def test_a_process_without_a_stream_is_no_better_than_one_that_stands_still(bed: Bed) -> None:
    bed.proxies.disconnect(FINANCE)
    bed.put(FINANCE, b"closed", closes=CLOSES)
    await bed.clock.passes(PATIENCE_SECONDS)
    assert bed.said == [Behind(FINANCE, ("inbound",), CLOSES, refused=False, ended=True)]


async def test_a_process_that_was_started_after_it_was_told_is_left_alone(bed: Bed) -> None:
    """It has had nothing older; that it is slow opens nothing."""
    bed.proxies.disconnect(FINANCE)
    bed.proxies.processes[FINANCE].live = False
    bed.put(FINANCE, b"closed", closes=CLOSES)
    await bed.clock.passes(2 * PATIENCE_SECONDS)
    assert bed.said == [], "there is nobody"
    bed.proxies.processes[FINANCE] = Process(99)
    bed.proxies.still.add(FINANCE)
    await bed.clock.passes(2 * PATIENCE_SECONDS)
    assert [each.ended for each in bed.said if isinstance(each, Behind)] == [False]
    bed.proxies.still.clear()
    bed.proxies.connect(FINANCE)
    await bed.answered(FINANCE)
    assert bed.said[1:] == [CaughtUp(FINANCE)]


async def test_an_ended_proxy_is_back_when_its_new_process_has_all_and_what_was_removed_is_not_waited_for(
    bed: Bed,
) -> None:
    bed.put(FINANCE, b"there", name="gone")
    await bed.answered(FINANCE)
    bed.proxies.still.add(FINANCE)
    bed.put(FINANCE, b"closed", closes=CLOSES)
    bed.put(FINANCE, None, name="gone", closes=CLOSES)
    await bed.clock.passes(PATIENCE_SECONDS)
    assert bed.ends() == 1
    bed.proxies.disconnect(FINANCE)
    bed.proxies.processes[FINANCE] = Process(99)
    bed.proxies.still.clear()
    bed.proxies.connect(FINANCE)
    await bed.answered(FINANCE)
    assert bed.said[1:] == [CaughtUp(FINANCE)]
    await bed.clock.passes(2 * PATIENCE_SECONDS)
    assert len(bed.said) == 2


async def test_who_refuses_what_closes_something_it_has_is_ended_and_who_never_had_it_is_not(bed: Bed) -> None:
    bed.proxies.refusing.update({FINANCE, WEB})
    bed.put(FINANCE, b"closed", closes=CLOSES)
    bed.put(WEB, b"new", name="another", closes=CLOSES)
    await bed.answered(FINANCE)
    await bed.answered(WEB)
    assert bed.said == [Behind(FINANCE, ("inbound",), CLOSES, refused=True, ended=True)]
    assert (bed.ends(FINANCE), bed.ends(WEB)) == (1, 0)
    assert bed.outstanding.take_acknowledged() == frozenset()


async def test_who_refuses_what_closes_nothing_is_not_ended(bed: Bed) -> None:
    bed.proxies.refusing.add(FINANCE)
    bed.put(FINANCE, b"other")
    await bed.answered(FINANCE)
    assert (bed.said, bed.ends()) == ([], 0)


async def test_a_change_that_is_taken_back_before_it_was_sent_leaves_nothing_to_wait_for(bed: Bed) -> None:
    bed.proxies.still.add(FINANCE)
    bed.put(FINANCE, b"closed", closes=CLOSES)
    bed.put(FINANCE, b"open")
    assert bed.outstanding.waited_for() == ()
    assert bed.outstanding.take_acknowledged() == frozenset(), "nobody has said anything"


async def test_who_takes_what_was_taken_back_meanwhile_is_waited_for_again(bed: Bed) -> None:
    """It has opened since; what closes it again is on its way."""
    bed.put(FINANCE, b"closed")
    await bed.answered(FINANCE)
    bed.proxies.still.add(FINANCE)
    bed.put(FINANCE, b"open")
    bed.put(FINANCE, b"closed", closes=CLOSES)
    assert bed.outstanding.waited_for() == ()
    bed.proxies.took(FINANCE, LISTENER, "inbound", b"open")
    assert bed.outstanding.waited_for() == (FINANCE,)
    await bed.clock.passes(PATIENCE_SECONDS)
    assert bed.ends() == 1


async def test_who_takes_one_change_after_another_does_not_stand_still(bed: Bed) -> None:
    bed.proxies.still.add(FINANCE)
    bed.put(FINANCE, b"first", closes=CLOSES)
    await bed.clock.passes(PATIENCE_SECONDS - 1)
    bed.put(FINANCE, b"second")
    bed.proxies.took(FINANCE, LISTENER, "inbound", b"first")
    await bed.clock.passes(PATIENCE_SECONDS - 1)
    assert bed.outstanding.waited_for() == (FINANCE,)
    await bed.clock.passes(1)
    assert bed.ends() == 1


async def test_who_refuses_when_it_goes_on_has_not_caught_up(bed: Bed) -> None:
    bed.proxies.still.add(WEB)
    bed.put(WEB, b"other")
    await bed.clock.passes(PATIENCE_SECONDS)
    bed.proxies.refusing.add(WEB)
    bed.proxies.go_on(WEB)
    assert [type(each) for each in bed.said] == [Behind]


async def test_a_client_s_cluster_that_is_late_ends_nobody_even_in_a_change_that_closes_something(bed: Bed) -> None:
    bed.proxies.still.add(FINANCE)
    changed = bed.cache.update(FINANCE, CLUSTER, {"outbound": b"1"})
    bed.outstanding.tell(FINANCE, {CLUSTER: changed}, closes=CLOSES)
    await bed.clock.passes(PATIENCE_SECONDS)
    assert [each.ended for each in bed.said if isinstance(each, Behind)] == [False]


async def test_nothing_is_expected_of_who_is_gone_for_good(bed: Bed) -> None:
    bed.put(FINANCE, b"other")
    await bed.answered(FINANCE)
    bed.proxies.still.add(FINANCE)
    bed.put(FINANCE, b"closed", closes=CLOSES)
    async with asyncio.TaskGroup() as group:
        waits = spawn(group, bed.answered(FINANCE), name="waits")
        await idle()
        assert not waits.done()
        bed.outstanding.forget(FINANCE)
    await bed.clock.passes(2 * PATIENCE_SECONDS)
    assert (bed.said, bed.ends(), len(bed.outstanding.take_acknowledged())) == ([], 0, 0)


async def asked_and_still(bed: Bed) -> None:
    """FINANCE has a destination that it asked for, and stands still while it is told of another."""
    bed.put_on_demand(b"plain")
    bed.proxies.ask(FINANCE, CLUSTER, "dst|10.0.0.7:80")
    bed.proxies.still.add(FINANCE)
    bed.put_on_demand(b"mutual TLS")
    assert bed.outstanding.waited_for() == (FINANCE,), "and not WEB, which never asked"


async def test_who_asked_for_a_destination_is_waited_for_until_it_has_the_new_one(bed: Bed) -> None:
    await asked_and_still(bed)
    bed.proxies.go_on(FINANCE)
    await bed.answered(FINANCE)
    bed.put_on_demand(None)
    await bed.answered(FINANCE)
    await bed.clock.passes(2 * PATIENCE_SECONDS)
    assert bed.outstanding.take_acknowledged() == {FINANCE}
    assert (bed.said, bed.ends()) == ([], 0)


async def test_a_process_that_comes_back_with_a_destination_is_waited_for_from_the_start_of_its_stream(
    bed: Bed,
) -> None:
    await asked_and_still(bed)
    bed.proxies.disconnect(FINANCE)
    assert bed.outstanding.waited_for() == (FINANCE,), "it goes on with what it has"
    bed.proxies.connect(FINANCE, holds=True)
    assert bed.outstanding.waited_for() == (FINANCE,), "it has yet to say what it has"
    await idle()
    assert bed.outstanding.waited_for() == (FINANCE,)
    bed.proxies.go_on(FINANCE)
    bed.proxies.take(FINANCE, CLUSTER)
    await bed.answered(FINANCE)
    assert bed.said == []


async def test_nobody_waits_for_a_process_that_never_asked_for_the_destination_and_it_is_neither_named_nor_ended(
    bed: Bed,
) -> None:
    await asked_and_still(bed)
    bed.proxies.disconnect(FINANCE)
    bed.proxies.processes[FINANCE] = Process(99)
    bed.proxies.connect(FINANCE)
    await idle()
    assert bed.outstanding.waited_for() == ()
    await bed.clock.passes(2 * PATIENCE_SECONDS)
    assert (bed.said, bed.ends()) == ([], 0)


async def test_a_destination_that_a_new_process_asks_for_again_is_acknowledged_like_any_other(bed: Bed) -> None:
    await asked_and_still(bed)
    bed.proxies.disconnect(FINANCE)
    bed.proxies.processes[FINANCE] = Process(99)
    bed.proxies.connect(FINANCE)
    bed.proxies.still.clear()
    await idle()
    bed.proxies.ask(FINANCE, CLUSTER, "dst|10.0.0.7:80")
    bed.put_on_demand(b"HBONE")
    await bed.answered(FINANCE)
    assert bed.said == []
