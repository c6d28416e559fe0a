"""Tests of policy/ find nothing remembered from each other."""

from __future__ import annotations

import pytest

from peerauth.policy import capture, membership


@pytest.fixture(autouse=True)
def afresh() -> None:
    """What is cached by content hides from a test that it does not reach the code that it is about."""
    membership._membership.cache_clear()
    capture._captured.cache_clear()
