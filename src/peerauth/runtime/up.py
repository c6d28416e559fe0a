"""`peerauth up`: one run of the whole mesh on this machine, from documents to a proof.

It composes and says what happens through `Narrator`; what that looks like on a terminal is the command line's. A run
owns its instance: folder, addresses, namespaces and processes are gone when it ends, whichever way it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from peerauth.agent.outage import Outage
from peerauth.agent.supervisor import find_envoy
from peerauth.aio import spawn
from peerauth.ca.service import CertificateAuthority
from peerauth.errors import SourceError
from peerauth.identity.x509 import SVID_LIFETIME, Issuer
from peerauth.local.flows import FlowReport, prove_flows
from peerauth.local.instance import Instance, claim
from peerauth.local.mesh import LocalMesh
from peerauth.local.networks import LoopbackNetwork, NamespaceNetwork
from peerauth.local.proof import PortReport, ports_to_prove, probe_credentials, prove
from peerauth.local.running_mesh import RunningMesh, describe, publish
from peerauth.model.connections import ConnectionSeen
from peerauth.model.diagnostic import Diagnostic, Severity
from peerauth.model.mesh import meshes_of
from peerauth.model.placement import Capture
from peerauth.model.source import News, Source
from peerauth.policy.index import DecisionChange
from peerauth.probe import Credentials
from peerauth.runtime.answers import Answers
from peerauth.runtime.authority import AuthorityFolder, follow_authority, now
from peerauth.runtime.edits import stays_one_mesh, take_edits
from peerauth.runtime.settings import Settings
from peerauth.runtime.upkeep import Upkeep
from peerauth.sources.watching import Paths
from peerauth.telemetry.accesslog import AccessLog
from peerauth.view import MeshView


class Options(msgspec.Struct, frozen=True):
    """What the command line asks for. `authority` is a folder of PEM files that plugs an authority in, or None.

    `ztunnel` is a binary to serve ambient workloads, or None for an Envoy. `certificate_lifetime` is that of the
    workloads' certificates.
    """

    paths: tuple[str, ...]
    capture: Capture = Capture.EXPLICIT
    applications: bool = False
    once: bool = False
    authority: Path | None = None
    certificate_lifetime: timedelta = SVID_LIFETIME
    ztunnel: Path | None = None


class Narrator(Protocol):
    """What a run tells of itself, in order. Nothing of it may raise or wait."""

    def progress(self, sentence: str) -> None:
        """What is being done now."""

    def refused(self, diagnostics: Sequence[Diagnostic]) -> None:
        """Documents that cannot be used; what was in force stays in force."""

    def trouble(self, diagnostics: Sequence[Diagnostic]) -> None:
        """What this machine or a proxy would not do of documents that can be used."""

    def mended(self, sentence: str) -> None:
        """A proxy has taken what it refused or did not answer for before, or need not take it any more."""

    def started(self, view: MeshView) -> None:
        """Every proxy is ready; from now on `view` tells what the mesh does."""

    def seen(self, connection: ConnectionSeen) -> None:
        """A connection reached its application, or was refused."""

    def changed(self, decisions: Sequence[DecisionChange]) -> None:
        """An edit was taken in that decides this; what proxies do of it is said when they have acknowledged it."""

    def acknowledged(self, proxies: int) -> None:
        """So many proxies have acknowledged all they were told, and nobody is waited for."""

    def proved(self, reports: Sequence[PortReport], flows: Sequence[FlowReport]) -> None:
        """What `--once` found, of the servers' side and of the clients'."""

    def ended(self) -> None:
        """The run is over, whichever way it ended."""


async def up(options: Options, *, settings: Settings, narrator: Narrator) -> bool:
    """Runs the mesh until cancelled, or with `once` until everything was probed.

    Returns whether all was as the policy says. Raises SourceError when the first documents have errors, PlatformError
    and ProxyError when this machine cannot do what was asked.
    """
    source: Source = Paths(options.paths, accept=stays_one_mesh, tell=narrator.progress)
    news = source.changes()
    first = await anext(news)
    narrator.refused(first.held)
    if has_errors(first.held):
        raise SourceError("the documents have errors: nothing was started", hint="peerauth check says how to mend them")
    meshes = meshes_of(obj for change in first.changes for obj in change.objects)
    trust_domain = meshes.of(meshes.default).trust_domain
    path = options.authority or settings.state / "ca" / trust_domain
    authority = AuthorityFolder(path, trust_domain, plugged_in=options.authority is not None)
    issuer = await authority.open()
    log = AccessLog()
    with claim(settings.sockets) as instance, contextlib.ExitStack() as listening:
        mesh = LocalMesh(
            NamespaceNetwork() if options.capture is Capture.TRANSPARENT else LoopbackNetwork(instance.number),
            authority=_authority(issuer, trust_domain=trust_domain, lifetime=options.certificate_lifetime),
            folder=instance.folder,
            envoy=find_envoy(),
            with_applications=options.applications,
            ztunnel=options.ztunnel,
            on_line=log.feed,
            on_outage=partial(_tell_outage, narrator),
        )
        listening.enter_context(log.heard_by(mesh.view.connected))
        answers = Answers(mesh, narrator)
        run = _Run(*(mesh, options, narrator), instance=instance, authority=authority, issuer=issuer, answers=answers)
        async with mesh.running():
            narrator.progress("starting the proxies")
            await mesh.apply(*first.changes)
            await mesh.ready()
            run.tell()
            answers.tell_refusals()
            with log.heard_by(narrator.seen), contextlib.ExitStack() as stack:
                narrator.started(mesh.view)
                stack.callback(narrator.ended)
                if not options.once:
                    return await run.follow(news)
            presented = probe_credentials(issuer, trust_domain=trust_domain, now=now(), serial=secrets.randbits(120))
            return await _prove_all(mesh, presented, narrator=narrator, log=log)


class _Run:
    """What goes on after the start: edits come in, other processes are told."""

    def __init__(
        self,
        mesh: LocalMesh,
        options: Options,
        narrator: Narrator,
        *,
        instance: Instance,
        authority: AuthorityFolder,
        issuer: Issuer,
        answers: Answers,
    ) -> None:
        self._mesh = mesh
        self._options = options
        self._narrator = narrator
        self._instance = instance
        self._told: RunningMesh | None = None
        self._authority = authority
        self._issuer = issuer
        self._answers = answers

    def tell(self) -> None:
        """Says what runs to other processes; where the disk refuses, `Upkeep` goes on with it."""
        self._told = describe(self._mesh, paths=self._options.paths, authority=self._authority.path)
        with contextlib.suppress(OSError):
            self._publish()

    def _publish(self) -> None:
        if self._told is not None:
            publish(self._told, folder=self._instance.folder)

    async def follow(self, news: AsyncIterator[News]) -> bool:
        """Takes every edit of the documents in until cancelled, and keeps the authority's own certificate current."""
        async with asyncio.TaskGroup() as group:
            spawn(group, self._follow_authority(), name="authority")
            spawn(group, self._answers.run(), name="answers")
            upkeep = Upkeep(self._instance, self._mesh, self._narrator, publish=self._publish, finished=self.tell)
            spawn(group, upkeep.run(), name="upkeep")
            edits = take_edits(news, self._mesh, tell=self._narrator, publish=self.tell)
            spawn(group, edits, name="documents")
        return True

    async def _follow_authority(self) -> None:
        def tell(trouble: Diagnostic) -> None:
            self._narrator.trouble([trouble])

        await follow_authority(
            self._mesh.authority,
            self._issuer,
            reopen=self._authority.reopen,
            tell=tell,
            mended=self._narrator.mended,
        )


async def _prove_all(mesh: LocalMesh, presented: Credentials, *, narrator: Narrator, log: AccessLog) -> bool:
    narrator.progress("probing every port")
    reports = await prove(ports_to_prove(mesh), presented=presented, sockets=mesh.network.outside())
    narrator.progress("sending through the clients' own proxies")
    flows = await prove_flows(mesh, log=log, presented=presented)
    narrator.proved(reports, flows)
    return bool(reports) and all(report.ok for report in reports) and all(flow.ok for flow in flows)


def _tell_outage(narrator: Narrator, outage: Outage) -> None:
    if outage.over:
        narrator.mended(outage.sentence)
    else:
        hint = f"it is started again until it stays; its whole output is in {outage.log}"
        narrator.trouble([Diagnostic("proxy-ended", Severity.ERROR, outage.sentence, hint=hint)])


def _authority(issuer: Issuer, *, trust_domain: str, lifetime: timedelta) -> CertificateAuthority:
    return CertificateAuthority(issuer, trust_domain=trust_domain, now=now, default_lifetime=lifetime)


def has_errors(diagnostics: Sequence[Diagnostic]) -> bool:
    """Whether documents with these diagnostics must not be used."""
    return any(diagnostic.severity is Severity.ERROR for diagnostic in diagnostics)
