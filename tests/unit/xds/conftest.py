"""What holds for every test of discovery."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from judges import playbook


@pytest.fixture(autouse=True)
def _nothing_is_left_unsaid() -> Iterator[None]:
    """A dialogue that ends in an answer notices one more."""
    yield
    playbook.end_all()
