"""Edits of the documents, taken into a running mesh: what can be is put in force, and the rest is said."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from peerauth.errors import PlatformError
from peerauth.local.mesh import LocalMesh
from peerauth.model.diagnostic import Diagnostic, Severity
from peerauth.model.mesh import MeshConfig
from peerauth.model.source import News
from peerauth.model.world import Reset, World
from peerauth.policy.index import DecisionChange


class Listener(Protocol):
    """Who is told of edits; the same words as those of `up`'s narrator."""

    def refused(self, diagnostics: Sequence[Diagnostic]) -> None: ...
    def trouble(self, diagnostics: Sequence[Diagnostic]) -> None: ...
    def mended(self, sentence: str) -> None: ...
    def changed(self, decisions: Sequence[DecisionChange]) -> None: ...


async def take_edits(
    news: AsyncIterator[News], mesh: LocalMesh, *, tell: Listener, publish: Callable[[], None]
) -> None:
    """Follows a source until cancelled. `publish` is called when the mesh has become another."""
    decided: list[DecisionChange] = []
    mesh.control_plane.follow(lambda step, orders: decided.extend(step.decisions))
    async for each in news:
        if faults := [fault for fault in each.held if fault.severity is Severity.ERROR]:
            tell.refused(faults)
        if notes := [note for note in (*each.held, *each.noted) if note.severity is not Severity.ERROR]:
            tell.trouble(notes)
        for name in each.mended:
            tell.mended(f"{name} is followed again")
        if each.changes:
            await _take(each.changes, mesh, tell=tell, publish=publish)
            tell.changed(tuple(decided))
            decided.clear()


async def _take(changes: Sequence[Reset], mesh: LocalMesh, *, tell: Listener, publish: Callable[[], None]) -> None:
    """What this machine cannot do of an edit is told, and tried again with the next one; the run goes on."""
    try:
        await mesh.apply(*changes)
    except PlatformError as error:
        tell.trouble([Diagnostic("machine", Severity.ERROR, error.message, hint=error.hint)])
    else:
        publish()


def stays_one_mesh(running: MeshConfig, wanted: World) -> list[Diagnostic]:
    """Why a running mesh cannot be changed to a world: every certificate in use is of one trust domain."""
    if wanted.mesh.trust_domain == running.trust_domain:
        return []
    message = f"the trust domain cannot change to {wanted.mesh.trust_domain!r} while the mesh runs"
    return [Diagnostic("trust-domain-change", Severity.ERROR, message, hint="stop `peerauth up` and start it anew")]
