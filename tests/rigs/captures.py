"""Marks for tests that run a mesh on this machine in one way of capture or in both."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from peerauth.model.placement import Capture
from rigs.mesh_on_this_machine import NO_ROOT

Test = TypeVar("Test", bound=Callable[..., object])

needs_root = [pytest.mark.root, pytest.mark.skipif(bool(NO_ROOT), reason=NO_ROOT or "supported")]
both_captures = pytest.mark.parametrize(
    "capture", [Capture.EXPLICIT, pytest.param(Capture.TRANSPARENT, marks=needs_root)]
)


def transparent_only(test: Test) -> Test:
    """For tests of what only redirection can show."""
    for mark in needs_root:
        test = mark(test)
    return test
