"""The authority of a run: opened from its folder, and followed there.

The issuing certificate of a state folder is renewed when that is due. An operator's own authority may be exchanged
under the run, also its root: first the old root and the new one together, then the new authority, then its root alone,
each for as long as a certificate lives, so that whoever meets trusts the other. What would break that is not used.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from peerauth.ca.service import CertificateAuthority
from peerauth.ca.store import load_plugged_in, open_state
from peerauth.errors import LockedError, PeerAuthError
from peerauth.identity.x509 import Issuer
from peerauth.model.diagnostic import Diagnostic, Severity

LOOK_SECONDS = 30.0
LOCK_SECONDS = 10.0
"""How long a start waits for another process that has the folder; to make an authority takes a tenth of a second."""
_LOCK_PAUSE = 0.02


class AuthorityFolder(msgspec.Struct, frozen=True):
    """Where an authority's keys are, and whose: the operator's own, plugged in, or made at first use."""

    path: Path
    trust_domain: str
    plugged_in: bool

    async def open(self, *, make: bool = True, seconds: float = LOCK_SECONDS) -> Issuer:
        """The authority, made unless there is one; without `make` there must be. Waits while another process has it.

        Raises PeerAuthError.
        """
        for _ in range(round(seconds / _LOCK_PAUSE)):
            with contextlib.suppress(LockedError):
                return self._open(make=make)
            await asyncio.sleep(_LOCK_PAUSE)
        return self._open(make=make)

    def reopen(self) -> Issuer:
        """What is there now; waits for no one and makes nothing. Raises PeerAuthError."""
        return self._open(make=False)

    def _open(self, *, make: bool) -> Issuer:
        if self.plugged_in:
            return load_plugged_in(self.path, trust_domain=self.trust_domain, now=now())
        return open_state(self.path, trust_domain=self.trust_domain, now=now(), make=make, wait=False)


async def follow_authority(
    authority: CertificateAuthority,
    issuer: Issuer,
    *,
    reopen: Callable[[], Issuer],
    tell: Callable[[Diagnostic], object],
    mended: Callable[[str], object],
    every: float = LOOK_SECONDS,
) -> None:
    """Makes `authority`, which has `issuer`, use what `reopen` finds every so many seconds; never returns.

    What cannot be used is told once, and changes nothing; that it is over is told too.
    """
    told = ""
    while True:
        await asyncio.sleep(every)
        fault, hint = "", "docs/operations.md says how to replace a root"
        try:
            found = reopen()
        except PeerAuthError as error:
            fault, hint = error.message, error.hint or hint
        else:
            if set(found.roots).isdisjoint(issuer.roots):
                fault = (
                    "the authority's folder has none of the roots in use: those who trust these would trust no one new"
                )
            else:
                issuer = found
                authority.use(found)
        if fault and fault != told:
            tell(Diagnostic("authority", Severity.ERROR, f"{fault}; the authority in use goes on", hint=hint))
        elif told and not fault:
            mended("the authority's folder can be used again")
        told = fault


def now() -> datetime:
    """The time, aware of its zone."""
    return datetime.now(UTC)
