"""The authority of a run: opened from its folder, and followed there.

The issuing certificate of a state folder is renewed when that is due. An operator's own authority may be exchanged
under the run, also its root: first the old root and the new one together, then the new authority, then its root alone,
each for as long as a certificate lives, so that whoever meets trusts the other. What would break that is not used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from peerauth.ca.service import CertificateAuthority
from peerauth.ca.store import load_plugged_in, open_state
from peerauth.errors import PeerAuthError
from peerauth.identity.x509 import Issuer
from peerauth.model.diagnostic import Diagnostic, Severity

LOOK_SECONDS = 30.0


def open_authority(folder: Path, *, trust_domain: str, plugged_in: bool) -> Issuer:
    """The authority in a folder: made at first use, unless the operator plugged its own in. Raises IdentityError."""
    if plugged_in:
        return load_plugged_in(folder, trust_domain=trust_domain, now=now())
    return open_state(folder, trust_domain=trust_domain, now=now())


async def follow_authority(
    authority: CertificateAuthority,
    issuer: Issuer,
    *,
    reopen: Callable[[], Issuer],
    tell: Callable[[Diagnostic], object],
    every: float = LOOK_SECONDS,
) -> None:
    """Makes `authority`, which has `issuer`, use what `reopen` finds every so many seconds; never returns.

    What cannot be used is told once, and changes nothing.
    """
    told = ""
    while True:
        await asyncio.sleep(every)
        fault = ""
        try:
            found = reopen()
        except PeerAuthError as error:
            fault = error.message
        else:
            if set(found.roots).isdisjoint(issuer.roots):
                fault = (
                    "the authority's folder has none of the roots in use: those who trust these would trust no one new"
                )
            else:
                issuer = found
                authority.use(found)
        if fault and fault != told:
            hint = "the authority in use goes on; docs/operations.md says how to replace a root"
            tell(Diagnostic("authority", Severity.ERROR, fault, hint=hint))
        told = fault


def now() -> datetime:
    """The time, aware of its zone."""
    return datetime.now(UTC)
