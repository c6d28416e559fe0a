"""Who may have which identity.

The certificate request itself decides nothing here: entitlement comes from the caller's authenticated identity. A
caller gets its own identity and no other, and only in the trust domain that the authority speaks for.
"""

from __future__ import annotations

from peerauth.identity.csr import CsrRefusal, RefusalKind
from peerauth.identity.spiffe import SpiffeId


def entitlement(caller: SpiffeId, *, requested: SpiffeId, trust_domain: str) -> SpiffeId | CsrRefusal:
    """The identity that `caller` may have when it asks for `requested`, or why it may not."""
    if caller.trust_domain != trust_domain:
        reason = f"{caller} is of trust domain {caller.trust_domain}; this authority signs for {trust_domain}"
        return CsrRefusal(reason, RefusalKind.ENTITLEMENT)
    if requested != caller:
        return CsrRefusal(f"{caller} may not have the identity {requested}", RefusalKind.ENTITLEMENT)
    return caller
