"""What a run needs of the disk, looked after while it runs: its folder and sockets, what it tells others, its logs.

Others remove files (what cleans up /tmp), and disks fill up. What was in force stays in force meanwhile, for it lies in
the proxies' memory; here it is said, once, and made good as soon as that can be done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from peerauth.errors import PlatformError
from peerauth.local.instance import Instance
from peerauth.local.mesh import LocalMesh
from peerauth.model.diagnostic import Diagnostic, Severity

LOOK_SECONDS = 2.0
TRY_AGAIN = 2
"""Looks between two attempts to do what could not be done of an edit."""


class Listener(Protocol):
    """Who is told. Nothing of it may raise or wait."""

    def trouble(self, diagnostics: Sequence[Diagnostic]) -> None:
        """What this machine does not do."""

    def mended(self, sentence: str) -> None:
        """That is over."""


class Upkeep:
    """`publish` writes what is told to other processes, unless it is there, and may raise OSError; `finished` is called
    when the mesh has become another by a second attempt.
    """

    def __init__(
        self,
        instance: Instance,
        mesh: LocalMesh,
        listener: Listener,
        *,
        publish: Callable[[], None],
        finished: Callable[[], None],
    ) -> None:
        self._instance = instance
        self._mesh = mesh
        self._listener = listener
        self._publish = publish
        self._finished = finished
        self._faults: dict[str, str] = {}
        self._looks = 0

    async def run(self) -> None:
        """Looks every so often, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Says what is wrong that was not before, and what no longer is; mends what it can."""
        found = dict([*await self._folder(), *self._told_to_others(), *self._logs()])
        before, self._faults = self._faults, found
        for what in found.keys() - before.keys():
            self._trouble(what, found[what])
        for what in before.keys() - found.keys():
            self._listener.mended(f"{what}: as it should be again")
        self._looks += 1
        if self._looks % TRY_AGAIN == 0:
            await self._try_again()

    async def _folder(self) -> list[tuple[str, str]]:
        what = f"the run's folder, {self._instance.folder}"
        try:
            if self._instance.restore():
                self._trouble(what, "another program has removed it", hint="let what cleans up there leave it alone")
                await self._mesh.restore()
                self._listener.mended(f"{what}: it is there again, with its sockets")
            else:
                await self._mesh.restore()
        except PlatformError as error:
            return [(what, f"{error.message}; proxies that have to connect anew cannot")]
        return []

    def _told_to_others(self) -> Iterator[tuple[str, str]]:
        try:
            self._publish()
        except OSError as error:
            yield "what `peerauth probe` finds of this run", f"it cannot be written: {error.strerror}"

    def _logs(self) -> Iterator[tuple[str, str]]:
        folders: dict[Path, str] = {}
        for supervisor in self._mesh.supervisors():
            if fault := supervisor.log_fault():
                folders.setdefault(supervisor.launch.log.parent.parent, fault)
        for folder, fault in folders.items():
            yield f"the proxies' logs in {folder}", f"they cannot be written: {fault}"

    async def _try_again(self) -> None:
        """Why it could not be done was said when it could not."""
        try:
            done = await self._mesh.finish()
        except PlatformError:
            return
        if done:
            self._finished()
            self._listener.mended("what this machine could not do of the documents is done")

    def _trouble(self, what: str, fault: str, *, hint: str = "free space there; it is tried again") -> None:
        message = f"{what}: {fault}; what is in force stays in force"
        self._listener.trouble([Diagnostic("machine", Severity.ERROR, message, hint=hint)])
