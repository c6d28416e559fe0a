"""Who may have which identity: each refusal is one of entitlement, and says whose it is."""

from __future__ import annotations

import pytest

from peerauth.ca.attest import Caller, entitlement, impersonation
from peerauth.identity.csr import CsrRefusal, RefusalKind
from peerauth.identity.spiffe import SpiffeId
from samples.pki import FINANCE, TRUST_DOMAIN, WEB

NODE = Caller(SpiffeId(TRUST_DOMAIN, "istio-system", "ztunnel"), "n1")
STRANGER = SpiffeId("elsewhere", "foo", "finance")


def test_a_caller_may_have_its_own_identity() -> None:
    assert entitlement(FINANCE, requested=FINANCE, trust_domain=TRUST_DOMAIN) == FINANCE


@pytest.mark.parametrize(
    ("caller", "requested", "says"),
    [(FINANCE, WEB, f"may not have the identity {WEB}"), (STRANGER, STRANGER, "is of trust domain elsewhere")],
)
def test_and_no_other(caller: SpiffeId, requested: SpiffeId, says: str) -> None:
    answer = entitlement(caller, requested=requested, trust_domain=TRUST_DOMAIN)
    assert isinstance(answer, CsrRefusal)
    assert answer.kind is RefusalKind.ENTITLEMENT
    assert says in answer.reason


def test_a_nodes_proxy_may_have_the_identity_of_what_is_placed_there() -> None:
    assert impersonation(NODE, requested=FINANCE.uri, trust_domain=TRUST_DOMAIN, placed={FINANCE, WEB}) == FINANCE


@pytest.mark.parametrize(
    ("caller", "requested", "placed", "says"),
    [
        (Caller(FINANCE), FINANCE.uri, {FINANCE}, "is no node's proxy"),
        (NODE, "finance", {FINANCE}, "is not a SPIFFE identity"),
        (NODE, STRANGER.uri, {FINANCE, STRANGER}, f"is not of trust domain {TRUST_DOMAIN}"),
        (NODE, WEB.uri, {FINANCE}, "is placed on node n1"),
        (NODE, NODE.identity.uri, {FINANCE}, "is placed on node n1"),
        (NODE, FINANCE.uri, set(), "is placed on node n1"),
    ],
)
def test_and_nothing_else(caller: Caller, requested: str, placed: set[SpiffeId], says: str) -> None:
    answer = impersonation(caller, requested=requested, trust_domain=TRUST_DOMAIN, placed=placed)
    assert isinstance(answer, CsrRefusal)
    assert answer.kind is RefusalKind.ENTITLEMENT
    assert says in answer.reason
