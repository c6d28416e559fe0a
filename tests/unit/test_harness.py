"""The suite's own settings: a failure is told within the time that a test has."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import engine

SECONDS_AN_EXAMPLE = 2.0


def test_a_property_that_fails_slowly_is_told_before_its_test_has_to_stop(
    monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    """By a clock of its own. What bounds the making smaller is none of Hypothesis' public settings (conftest.py): this
    is how we learn that it has become another one."""
    passed = 0.0
    clock = SimpleNamespace(**vars(time) | {"perf_counter": lambda: passed})
    monkeypatch.setattr(f"{engine.__name__}.time", clock)

    @settings(database=None, derandomize=True)
    @given(st.lists(st.integers(min_value=0), min_size=50, max_size=50))
    def fails_slowly(numbers: list[int]) -> None:
        nonlocal passed
        passed += SECONDS_AN_EXAMPLE
        assert sum(numbers) < 0, "the sum is not negative"

    with pytest.raises(AssertionError, match="the sum is not negative"):
        fails_slowly()
    assert passed < float(pytestconfig.getini("timeout"))
