"""Who may have which identity.

The certificate request itself decides nothing here: entitlement comes from the caller's authenticated identity. A
caller gets its own identity and no other, and only in the trust domain that the authority speaks for. A node's proxy
gets the identities of the workloads that the control plane has placed on its node; that it says which ones run there
counts for nothing.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from peerauth.errors import IdentityError
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


class Caller(msgspec.Struct, frozen=True):
    """Who was authenticated: a workload, or the proxy of a node, which may ask for others' identities.

    `node` is the name of the node whose proxy it is; empty for a caller that speaks for itself only.
    """

    identity: SpiffeId
    node: str = ""


def impersonation(
    caller: Caller, *, requested: str, trust_domain: str, placed: Collection[SpiffeId]
) -> SpiffeId | CsrRefusal:
    """The identity that a node's proxy may have for one of its workloads, or why it may not.

    `requested` is text from the caller; `placed` are the identities of the workloads on the caller's node.
    """
    if not caller.node:
        return _refused(f"{caller.identity} is no node's proxy and may not ask for {requested!r}")
    try:
        identity = SpiffeId.parse(requested)
    except IdentityError as error:
        return _refused(error.message)
    if identity.trust_domain != trust_domain:
        return _refused(f"{identity} is not of trust domain {trust_domain}")
    if identity not in placed:
        return _refused(f"no workload with the identity {identity} is placed on node {caller.node}")
    return identity


def _refused(reason: str) -> CsrRefusal:
    return CsrRefusal(reason, RefusalKind.ENTITLEMENT)
