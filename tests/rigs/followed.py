"""Paths that are followed, for tests: what is in force, what was said, and every state that was on the way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from peerauth.model.changes import MeshObject
from peerauth.model.diagnostic import Diagnostic
from peerauth.model.inventory import Namespace
from peerauth.model.peerauth import Mode, PeerAuthentication
from peerauth.sources.following import Accept
from peerauth.sources.watching import Watching

AT_MOST_S = 20


class Followed:
    """What following some paths brought so far. `states` has every list of objects that was in force, in order."""

    def __init__(self, objects: tuple[MeshObject, ...]) -> None:
        self.states = [objects]
        self.held: list[Diagnostic] = []
        self.mended: list[str] = []
        self.noted: list[Diagnostic] = []
        self._news = asyncio.Condition()

    async def listen(self, watching: Watching, accept: Accept) -> None:
        async for news in watching.news(accept=accept):
            self.held += news.held
            self.mended += news.mended
            self.noted += news.noted
            if news.objects is not None:
                self.states.append(news.objects)
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
        """The namespaces that are in force."""
        return [found.meta.name for found in self.states[-1] if isinstance(found, Namespace)]

    def modes(self) -> dict[str, Mode]:
        """The policies that are in force."""
        return modes_of(self.states[-1])


def modes_of(objects: Sequence[MeshObject]) -> dict[str, Mode]:
    return {found.meta.full_name: found.mode for found in objects if isinstance(found, PeerAuthentication)}


@contextlib.asynccontextmanager
async def followed(*paths: Path | str, accept: Accept = lambda objects: ()) -> AsyncIterator[Followed]:
    """Follows paths until left."""
    watching = Watching([str(path) for path in paths])
    found = Followed((await watching.first()).objects)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(found.listen(watching, accept))
        yield found
        task.cancel()
