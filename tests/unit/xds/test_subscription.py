"""Who asked for what: the rules of names and wildcards in both variants."""

from __future__ import annotations

import pytest

from peerauth.xds.subscription import Subscription, SubscriptionChange


@pytest.mark.parametrize("legacy", [True, False])
def test_only_some_types_take_an_empty_first_request_for_everything(legacy: bool) -> None:
    state, delta = Subscription(legacy_wildcard=legacy), Subscription(legacy_wildcard=legacy)
    state.replace([])
    delta.adjust(subscribe=[], unsubscribe=[])
    assert state.covers("x") is legacy
    assert delta.covers("x") is legacy


def test_state_replaces_the_subscription() -> None:
    subscription = Subscription(legacy_wildcard=True)
    subscription.replace(["a", "b"])
    change = subscription.replace(["b", "c"])
    assert change == SubscriptionChange(asked=frozenset("c"), dropped=frozenset("a"))
    assert [subscription.covers(name) for name in "abc"] == [False, True, True]


def test_state_names_end_the_legacy_wildcard_and_emptiness_does_not_bring_it_back() -> None:
    subscription = Subscription(legacy_wildcard=True)
    subscription.replace([])
    assert subscription.replace(["a"]).wildcard_ended
    subscription.replace([])
    assert not subscription.covers("a")


def test_state_star_is_a_wildcard_beside_names() -> None:
    subscription = Subscription(legacy_wildcard=False)
    assert subscription.replace(["*", "a"]).wildcard_began
    assert subscription.names == {"a"}
    assert subscription.covers("x")


def test_delta_names_do_not_end_the_legacy_wildcard_but_unsubscribing_star_does() -> None:
    subscription = Subscription(legacy_wildcard=True)
    subscription.adjust(subscribe=[], unsubscribe=[])
    subscription.adjust(subscribe=["a"], unsubscribe=[])
    assert subscription.covers("x")
    assert subscription.adjust(subscribe=[], unsubscribe=["*"]).wildcard_ended
    assert subscription.covers("a")
    assert not subscription.covers("x")


def test_delta_emptiness_means_everything_only_at_first() -> None:
    subscription = Subscription(legacy_wildcard=True)
    subscription.adjust(subscribe=["a"], unsubscribe=[])
    subscription.adjust(subscribe=[], unsubscribe=["a"])
    subscription.adjust(subscribe=[], unsubscribe=[])
    assert not subscription.covers("a")


def test_delta_repeating_a_name_is_asking_again() -> None:
    subscription = Subscription(legacy_wildcard=True)
    subscription.adjust(subscribe=["a"], unsubscribe=[])
    assert subscription.adjust(subscribe=["a"], unsubscribe=[]).asked == {"a"}


def test_delta_a_name_in_both_lists_ends_unsubscribed() -> None:
    subscription = Subscription(legacy_wildcard=True)
    change = subscription.adjust(subscribe=["*", "a"], unsubscribe=["*", "a"])
    assert change == SubscriptionChange(dropped=frozenset("a"))
    assert not subscription.covers("a")
