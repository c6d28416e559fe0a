"""Waiting that ends: in a sentence that says what did not happen, long before the test's own time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

AT_MOST_S = 10.0
TURNS = 100

T = TypeVar("T")


async def soon(what: str, happens: Awaitable[T]) -> T:
    """What `happens` gives. Fails with `what`, a clause such as "the proxy acknowledges", if it takes too long."""
    try:
        async with asyncio.timeout(AT_MOST_S):
            return await happens
    except TimeoutError:
        raise AssertionError(f"waited {AT_MOST_S:.0f} s in vain: {what}") from None


async def idle() -> None:
    """Lets everything run that can, to see what does *not* happen by itself: without sockets and clocks."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
