"""Follows paths: what they say at first, and every edit of it that can be taken.

Driven by the kernel's events; which edits are taken when is `following`'s. Watched are the folders whose members are
read, and every folder in which a part of a path, or of the way that a link leads, can be exchanged. A folder that is
another than the one that was watched by its name (device, inode) is watched anew. As events can be lost, every file
is compared with what it was every `COMPARE_SECONDS` as well.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from watchfiles._rust_notify import RustNotify

from peerauth.errors import SourceError
from peerauth.model.schema import DEFAULT_NAMESPACE
from peerauth.model.source import News
from peerauth.sources.following import WRITER_SECONDS, Accept, Following
from peerauth.sources.looking import Looker
from peerauth.sources.sighting import Look
from peerauth.sources.standardinput import read_standard_input
from peerauth.sources.tree import STANDARD_INPUT, Tree, tree_of

HEELS_MS = 10
"""A change that comes within this of the last one is taken together with it..."""
LONGEST_WAIT_MS = 200
"""...but never more than this after the first."""
COMPARE_SECONDS = 3.0
"""How often everything is compared, whether or not an event came."""
START_SECONDS = 5.0
"""How long a file that someone writes is waited for at first."""

Folders = Mapping[str, tuple[int, int]]
"""What is watched: names of folders, and which folders they were."""


class Paths:
    """Paths that are followed, as a `Source`. Standard input is among them as a file that is read once.

    `accept` says why a running mesh cannot be changed to what they say; `tell` is told what the first value waits for.
    """

    def __init__(
        self,
        paths: Sequence[str],
        *,
        default_namespace: str = DEFAULT_NAMESPACE,
        accept: Accept = lambda mesh, world: (),
        tell: Callable[[str], None] = lambda sentence: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = tuple(paths)
        self._default_namespace = default_namespace
        self._accept = accept
        self._tell = tell
        self._clock = clock
        self._looker = Looker(default_namespace=default_namespace)
        self._tree = Tree()
        self._watched: Folders = {}
        self._notify = _notify_of(())

    async def changes(self) -> AsyncIterator[News]:
        """What the paths say when no file of them is being written, then every edit that can be taken.

        `held` of the first are all faults, of the others those for which an edit is not taken. Never ends by itself.
        Nothing is lost between two values: a folder is watched before it is read. Raises SourceError for a path that
        cannot be read, and for a file that stays open for writing.
        """
        look = await self._first_look()
        following = Following(accept=self._accept)
        yield await asyncio.to_thread(lambda: following.begin(look, now=self._clock()))
        stop = threading.Event()
        try:
            while True:
                now = self._clock()
                news = await asyncio.to_thread(lambda: following.see(self._look(), now=self._clock()))
                if news:
                    yield news
                until = min(now + COMPARE_SECONDS, following.again or now + COMPARE_SECONDS)
                await asyncio.to_thread(self._wait, until, stop)
        finally:
            stop.set()  # the thread that waits for events ends by itself; it must not be closed under its feet

    async def _first_look(self) -> Look:
        """All files, when none of them is being written. Raises SourceError like `changes`."""
        if STANDARD_INPUT in self._paths:
            given = await read_standard_input()
            self._looker = Looker(default_namespace=self._default_namespace, standard_input=given)
        until = self._clock() + START_SECONDS
        waited_for = ""
        while True:
            look = await asyncio.to_thread(self._look)
            for unreadable in self._tree.unreadable:
                raise unreadable.error
            writing = [name for name, found in look.files.items() if found.in_writing]
            writing += [fault.origin.file for fault in look.unreadable.values()]
            if not writing:
                return look
            if self._clock() > until:
                name = writing[0]
                message = f"{name} is open for writing by some process, so that it may not be whole"
                raise SourceError(message, hint=f"start again when it is closed; fuser -v {name} says who has it open")
            if waited_for != writing[0]:
                waited_for = writing[0]
                self._tell(f"waiting for {waited_for}, which is open for writing")
            await asyncio.sleep(WRITER_SECONDS)

    def _look(self) -> Look:
        while True:
            self._tree = tree_of(self._paths)
            folders = _folders_of(self._tree)
            if folders == self._watched:
                return self._looker.look(self._tree)
            self._notify, self._watched = _notify_of(folders), folders

    def _wait(self, until: float, stop: threading.Event) -> None:
        """Returns when something has changed, or at a time, or soon after `stop` was set."""
        while (left := until - self._clock()) > 0:
            events = self._notify.watch(LONGEST_WAIT_MS, HEELS_MS, max(1, int(left * 1000)), stop)
            if not isinstance(events, set):
                return
            if any(self._concerns(path) for _, path in events):
                return

    def _concerns(self, path: str) -> bool:
        """Whether what happened to a name can be another input: it may be in a folder of which one name matters."""
        return path in self._tree.names or os.path.dirname(path) in self._tree.folders or path in self._watched


def _folders_of(tree: Tree) -> Folders:
    """The folders to watch, and which ones they are; those that do not exist have a parent that is watched."""
    found: dict[str, tuple[int, int]] = {}
    for folder in sorted({*tree.folders, *map(os.path.dirname, tree.names)}):
        try:
            status = os.stat(folder)
        except OSError:
            continue
        found[folder] = (status.st_dev, status.st_ino)
    return found


def _notify_of(folders: Sequence[str] | Folders) -> RustNotify:
    """Watches folders; where the system has no more watches to give, `COMPARE_SECONDS` have to do."""
    try:
        return RustNotify(list(folders), False, False, 0, False, True)
    except OSError:
        return RustNotify([], False, False, 0, False, True)
