"""Paths that are followed, for tests: what is in force, what was said, and every state that was on the way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from judges.standing import Standing
from peerauth.model.changes import MeshObject, Reset
from peerauth.model.diagnostic import Diagnostic
from peerauth.model.inventory import Namespace
from peerauth.model.peerauth import Mode, PeerAuthentication
from peerauth.model.source import News
from peerauth.sources.following import Accept
from peerauth.sources.watching import Paths

AT_MOST_S = 20


class Followed:
    """What following some paths brought so far. `states` has every list of objects that was in force, in order, and
    `changes` what brought them.
    """

    def __init__(self) -> None:
        self._standing = Standing()
        self.states: list[tuple[MeshObject, ...]] = []
        self.changes: list[tuple[Reset, ...]] = []
        self.held: list[Diagnostic] = []
        self.mended: list[str] = []
        self.noted: list[Diagnostic] = []
        self._news = asyncio.Condition()

    def take(self, news: News) -> None:
        self.held += news.held
        self.mended += news.mended
        self.noted += news.noted
        if news.changes or not self.states:
            self._standing.take(news.changes)
            self.states.append(self._standing.objects)
            self.changes.append(news.changes)

    async def listen(self, source: AsyncIterator[News]) -> None:
        async for news in source:
            self.take(news)
            async with self._news:
                self._news.notify_all()

    async def until(self, true: Callable[[], bool]) -> None:
        """Returns once this holds; fails with what there is instead."""
        try:
            async with asyncio.timeout(AT_MOST_S), self._news:
                await self._news.wait_for(true)
        except TimeoutError:
            raise AssertionError(f"{self.names()} {self.modes()}, held {self.held}") from None

    async def until_names(self, *names: str) -> None:
        await self.until(lambda: self.names() == list(names))

    async def until_held(self, code: str) -> Diagnostic:
        await self.until(lambda: any(each.code == code for each in self.held))
        return next(each for each in self.held if each.code == code)

    def names(self) -> list[str]:
        """The namespaces that are in force, by the files that say them."""
        found = [found.meta for found in self.states[-1] if isinstance(found, Namespace)]
        return [meta.name for meta in sorted(found, key=lambda meta: meta.origin)]

    def modes(self) -> dict[str, Mode]:
        """The policies that are in force."""
        return modes_of(self.states[-1])


def modes_of(objects: Sequence[MeshObject]) -> dict[str, Mode]:
    return {found.meta.full_name: found.mode for found in objects if isinstance(found, PeerAuthentication)}


@contextlib.asynccontextmanager
async def followed(*paths: Path | str, accept: Accept = lambda mesh, world: ()) -> AsyncIterator[Followed]:
    """Follows paths until left."""
    news = Paths([str(path) for path in paths], accept=accept).changes()
    found = Followed()
    found.take(await anext(news))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(found.listen(news))
        yield found
        task.cancel()


async def first_of(*paths: Path | str) -> News:
    """What paths say at first."""
    news = Paths([str(path) for path in paths]).changes()
    try:
        return await anext(news)
    finally:
        await news.aclose()  # type: ignore[attr-defined]
