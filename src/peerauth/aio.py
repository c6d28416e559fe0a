"""The one place where tasks are started.

Every task has a name (it shows in tracebacks and in `asyncio.all_tasks()`), an owner (a task group that awaits it and
cancels it when a sibling fails) and therefore an end. Linting bans the other ways of starting one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def spawn(group: asyncio.TaskGroup, coro: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Starts `coro` as a task of `group`; the group waits for it, and its failure cancels the group."""
    return group.create_task(coro, name=name)
