"""Follows paths: what they say now, and again whenever it changes.

Driven by the kernel's events, not by polling. Folders of named files are watched, not the files themselves, because
editors replace a file by renaming another over it. The first event is acted on at once; only what follows on its heels
(the other half of a rename, the next file of a checkout) is waited for.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Sequence

from watchfiles._rust_notify import RustNotify

from peerauth.errors import SourceError
from peerauth.model.meta import Origin
from peerauth.model.schema import DEFAULT_NAMESPACE, Checked
from peerauth.model.schema.faults import UNREADABLE
from peerauth.sources.files import Loaded, collect, read_bytes
from peerauth.sources.reader import read_stream
from peerauth.sources.tree import STANDARD_INPUT, files_of

HEELS_MS = 10
"""A change that comes within this of the last one is taken together with it..."""
LONGEST_WAIT_MS = 200
"""...but never more than this after the first."""


async def watch(paths: Sequence[str], *, default_namespace: str = DEFAULT_NAMESPACE) -> AsyncIterator[Loaded]:
    """What `paths` say: at once, and after every change of what they say. Never ends by itself.

    A path that cannot be read is a fault among the diagnostics, not an exception: it may come back. Standard input is
    not followed. Nothing is lost between two values: a folder is watched before it is read.
    """
    followed = [path for path in paths if path != STANDARD_INPUT]
    shelf = _Shelf(default_namespace)
    stop = threading.Event()
    watched: tuple[str, ...] = ()
    notify = RustNotify([], False, False, 0, False, True)
    try:
        while True:
            while (folders := _folders(followed)) != watched:
                notify, watched = RustNotify(list(folders), False, False, 0, False, True), folders
            before = shelf.digests
            loaded = await asyncio.to_thread(shelf.load, followed)
            if before != shelf.digests:
                yield loaded
            await asyncio.to_thread(notify.watch, LONGEST_WAIT_MS, HEELS_MS, 0, stop)
    finally:
        stop.set()  # the thread that waits for events ends by itself; it must not be closed under its feet


def _folders(paths: Sequence[str]) -> tuple[str, ...]:
    """The folders whose events concern the paths; for one that does not exist yet, the nearest that does."""
    found: set[str] = set()
    for path in paths:
        folder = os.path.abspath(path)
        if os.path.isdir(folder):
            found.update(below for below, _, _ in os.walk(folder))
            continue
        folder = os.path.dirname(folder)
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        found.add(folder)
    return tuple(sorted(found))


class _Shelf:
    """Files as they were read last: one whose bytes are the same is not parsed again."""

    def __init__(self, default_namespace: str) -> None:
        self.default_namespace = default_namespace
        self.digests: dict[str, bytes] | None = None
        self._checked: dict[str, tuple[Checked, ...]] = {}

    def load(self, paths: Sequence[str]) -> Loaded:
        digests: dict[str, bytes] = {}
        checked: dict[str, tuple[Checked, ...]] = {}
        try:
            for name in files_of(paths):
                data = read_bytes(name)
                digests[name] = hashlib.blake2b(data, digest_size=16).digest()
                if self.digests and self.digests.get(name) == digests[name]:
                    checked[name] = self._checked[name]
                else:
                    checked[name] = tuple(read_stream(data, file=name, default_namespace=self.default_namespace))
        except SourceError as error:
            self.digests = {"": str(error).encode()}
            return Loaded(diagnostics=(UNREADABLE.at(Origin(), message=error.message, hint=error.hint),))
        self.digests, self._checked = digests, checked
        return collect(document for name in checked for document in checked[name])
