"""Edits of the documents, taken into a running mesh: what can be is put in force, and the rest is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from peerauth.errors import PlatformError
from peerauth.model.diagnostic import Diagnostic, Severity
from peerauth.model.mesh import meshes_of
from peerauth.model.world import MeshObject
from peerauth.runtime.control_plane import Applied
from peerauth.runtime.local_mesh import LocalMesh
from peerauth.sources.watching import Watching


class Listener(Protocol):
    """Who is told of edits; the same words as those of `up`'s narrator."""

    def refused(self, diagnostics: Sequence[Diagnostic]) -> None: ...
    def trouble(self, diagnostics: Sequence[Diagnostic]) -> None: ...
    def mended(self, sentence: str) -> None: ...
    def changed(self, mesh: LocalMesh, applied: Applied) -> None: ...


async def take_edits(watching: Watching, mesh: LocalMesh, *, tell: Listener, publish: Callable[[], None]) -> None:
    """Follows the documents until cancelled. `publish` is called when the mesh has become another."""

    def accept(objects: Iterable[MeshObject]) -> list[Diagnostic]:
        return _unchangeable(objects, running=mesh.authority.trust_domain)

    async for news in watching.news(accept=accept):
        if faults := [each for each in news.held if each.severity is Severity.ERROR]:
            tell.refused(faults)
        if notes := [each for each in (*news.held, *news.noted) if each.severity is not Severity.ERROR]:
            tell.trouble(notes)
        for path in news.mended:
            tell.mended(f"{path} is followed again")
        if news.objects is not None:
            await _take(news.objects, mesh, tell=tell, publish=publish)


async def _take(objects: Sequence[MeshObject], mesh: LocalMesh, *, tell: Listener, publish: Callable[[], None]) -> None:
    """What this machine cannot do of an edit is told, and tried again with the next one; the run goes on."""
    try:
        applied = await mesh.load(objects)
    except PlatformError as error:
        tell.trouble([Diagnostic("machine", Severity.ERROR, error.message, hint=error.hint)])
    else:
        publish()
        tell.changed(mesh, applied)


def trust_domain_of(objects: Iterable[MeshObject]) -> str:
    """The trust domain that documents say."""
    meshes = meshes_of(objects)
    return meshes.of(meshes.default).trust_domain


def _unchangeable(objects: Iterable[MeshObject], *, running: str) -> list[Diagnostic]:
    """Every certificate in use is of one trust domain; another one is another mesh."""
    wanted = trust_domain_of(objects)
    if wanted == running:
        return []
    message = f"the trust domain cannot change to {wanted!r} while the mesh runs"
    return [Diagnostic("trust-domain-change", Severity.ERROR, message, hint="stop `peerauth up` and start it anew")]
