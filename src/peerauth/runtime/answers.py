"""What a run says of its proxies' answers: who acknowledged, who is behind, who refuses what, and when that is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Protocol

from peerauth.aio import spawn
from peerauth.control.outstanding import PATIENCE_SECONDS, Behind, CaughtUp
from peerauth.local.mesh import LocalMesh
from peerauth.model.diagnostic import Diagnostic, Severity
from peerauth.xds.on_demand import MOST_ASKED
from peerauth.xds.status import Nack
from peerauth.xds.wire import ProxyKey

NAMES_TOLD = 3


class Listener(Protocol):
    """Who is told. Nothing of it may raise or wait."""

    def trouble(self, diagnostics: Sequence[Diagnostic]) -> None:
        """What a proxy does not do of what it was told."""

    def mended(self, sentence: str) -> None:
        """That is over."""

    def acknowledged(self, proxies: int) -> None:
        """So many proxies have acknowledged all they were told."""


class Answers:
    """Tells from its making on; `run` goes on with it until it is cancelled."""

    def __init__(self, mesh: LocalMesh, listener: Listener) -> None:
        self._mesh = mesh
        self._listener = listener
        self._refusals: dict[str, Diagnostic] = {}
        self._kept_open: dict[tuple[ProxyKey, str], Behind] = {}  # by a refusal, until its proxy was ended
        mesh.control_plane.outstanding.follow(self._take)

    async def run(self) -> None:
        """Apart from the edits: a proxy that is slow to answer must not hold the next one up."""
        self._mesh.control_plane.outstanding.take_acknowledged()  # what belongs to the start
        async with asyncio.TaskGroup() as group:
            spawn(group, self._tell_acknowledged(), name="acknowledgements told")
            spawn(group, self._watch_refusals(), name="refusals told")

    def tell_refusals(self) -> None:
        """Says what proxies will not take, each refusal once, and when it is over."""
        before, self._refusals = self._refusals, dict(self._refused())
        if news := [refusal for what, refusal in self._refusals.items() if before.get(what) != refusal]:
            self._listener.trouble(news)
        for what in before.keys() - self._refusals.keys():
            self._listener.mended(f"no longer: {what}")

    async def _tell_acknowledged(self) -> None:
        while True:
            self._listener.acknowledged(len(await self._mesh.control_plane.acknowledged()))

    async def _watch_refusals(self) -> None:
        """A refusal may also end by itself: what is refused is offered again, and an address in use gets free."""
        while True:
            news = self._mesh.discovery.refusals_news()
            self.tell_refusals()
            await news.wait()

    def _take(self, event: Behind | CaughtUp) -> None:
        whose = self._whose(event.proxy)
        if isinstance(event, CaughtUp):
            self._listener.mended(f"{whose} has acknowledged what it was told")
        elif event.refused:
            self._kept_open.update({(event.proxy, name): event for name in event.resources})
        else:
            self._listener.trouble([_overdue(whose, event)])

    def _refused(self) -> Iterator[tuple[str, Diagnostic]]:
        """What the proxies refused of what they were last sent, or are not sent: in few words, and as a report."""
        status = self._mesh.discovery.status()
        for proxy, whose in self._mesh.proxies().items():
            known = status.get(proxy)
            for refused in known.refused.values() if known else ():
                for name, nack in sorted(refused.items()):
                    what = f"{whose} refuses {name}"
                    yield what, _refusal(what, nack, self._kept_open.get((proxy, name)))
            if known and known.forgotten:
                what = f"{whose} asks for more than {MOST_ASKED:,} destinations"
                yield what, _forgotten(what)

    def _whose(self, proxy: ProxyKey) -> str:
        return self._mesh.proxies().get(proxy, str(proxy))


def _refusal(what: str, nack: Nack, kept_open: Behind | None) -> Diagnostic:
    message, hint = f"{what}: {nack.refusal.message.strip()}", "its last good one stays in force"
    if kept_open is not None and kept_open.ended:
        closed = f"so that what was to be closed is not kept open by it: {_some(kept_open.open)}"
        hint = f"its last good one ended with its process, {closed}; until it takes another, it goes without"
    elif kept_open is not None:
        hint = f"{hint}, and with it stays open as before what was to be closed: {_some(kept_open.open)}"
    return Diagnostic("proxy-refused", Severity.ERROR, message, hint=hint)


def _forgotten(what: str) -> Diagnostic:
    message = f"{what}: those that nothing is known of are forgotten first, and where there are none the new ones"
    hint = "connections to these are closed, not sent as plaintext; look which application dials so many addresses"
    return Diagnostic("proxy-asks-too-much", Severity.ERROR, message, hint=hint)


def _overdue(whose: str, behind: Behind) -> Diagnostic:
    late = f"{whose} has not acknowledged within {PATIENCE_SECONDS:.0f} s"
    if behind.ended:
        message = f"{late} what closes {_some(behind.open)}: it was ended, and starts anew"
        hint = "its connections ended with it; it comes back with what is in force"
    elif behind.open:
        message = f"{late} what closes {_some(behind.open)}: it may still let that in"
        hint = "end its process: it comes back with what is in force"
    else:
        message = f"{late}: it goes on with its former {_some(behind.resources)}"
        hint = "nothing was to be closed by that; until it answers, nothing waits for it"
    return Diagnostic("proxy-behind", Severity.ERROR, message, hint=hint)


def _some(things: Sequence[str]) -> str:
    """The first few; what is not known by name may be any port."""
    more = len(things) - NAMES_TOLD
    return (", ".join(things[:NAMES_TOLD]) or "a port") + (f" and {more} more" if more > 0 else "")
