"""The harness of the dialogues: it must notice what a test does not mention."""

from __future__ import annotations

import pytest

from judges.playbook import Playbook, end_all, request, response
from peerauth.dataplane.type_urls import LISTENER
from peerauth.xds.wire import CloseCode, Variant


def test_an_answer_that_nobody_expected_fails_the_test_that_it_comes_in() -> None:
    dialogue = Playbook(Variant.DELTA, {LISTENER: {"a": b"1"}})
    dialogue >> request(LISTENER)
    with pytest.raises(AssertionError, match="not expected"):
        end_all()


def test_a_stream_that_is_closed_unexpectedly_fails_it_too() -> None:
    dialogue = Playbook(Variant.DELTA, {})
    dialogue >> request(LISTENER, node="someone else")
    with pytest.raises(AssertionError, match="closed, not expected"):
        end_all()


def test_what_was_expected_is_fine_and_is_asked_for_once() -> None:
    dialogue = Playbook(Variant.DELTA, {LISTENER: {"a": b"1"}})
    dialogue >> request(LISTENER) << response(LISTENER, {"a": b"1"})
    refused = Playbook(Variant.DELTA, {})
    refused >> request(LISTENER, node="someone else")
    assert refused.closed is CloseCode.PERMISSION_DENIED
    end_all()
    end_all()
