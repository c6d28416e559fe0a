"""Identities: one shape, and nothing that only looks like it."""

from __future__ import annotations

import pytest

from peerauth.errors import IdentityError
from peerauth.identity.spiffe import SpiffeId, trust_domain_prefix
from samples.pki import FINANCE

LONGEST_DOMAIN, LONGEST_SEGMENT = "d" * 255, "a" * 253


@pytest.mark.parametrize(
    "identity",
    [
        FINANCE,
        SpiffeId("td", "n.a-m_e", "Account.1"),
        SpiffeId(LONGEST_DOMAIN, LONGEST_SEGMENT, LONGEST_SEGMENT),
        SpiffeId("example.com", "...", "..."),
    ],
)
def test_an_identity_is_read_as_it_is_written(identity: SpiffeId) -> None:
    assert SpiffeId.parse(identity.uri) == identity


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("", "is not a SPIFFE identity"),
        ("https://td/ns/foo/sa/finance", "is not a SPIFFE identity"),
        ("SPIFFE://td/ns/foo/sa/finance", "is not a SPIFFE identity"),
        ("spiffe://td/ns/foo/sa/finance/more", "is not of the form"),
        ("spiffe://td/ns/foo/sa", "is not of the form"),
        ("spiffe://td/sa/finance/ns/foo", "is not of the form"),
        ("spiffe:///ns/foo/sa/finance", "no valid trust domain"),
        ("spiffe://TD/ns/foo/sa/finance", "no valid trust domain"),
        ("spiffe://td:8080/ns/foo/sa/finance", "no valid trust domain"),
        (f"spiffe://{LONGEST_DOMAIN}d/ns/foo/sa/finance", "no valid trust domain"),
        ("spiffe://td/ns//sa/finance", "invalid path segment ''"),
        ("spiffe://td/ns/./sa/finance", "invalid path segment '.'"),
        ("spiffe://td/ns/../sa/finance", "invalid path segment '..'"),
        ("spiffe://td/ns/foo/sa/..", "invalid path segment '..'"),
        ("spiffe://td/ns/foo/sa/fin%61nce", "invalid path segment"),
        ("spiffe://td/ns/foo/sa/finance\n", "invalid path segment"),
        ("spiffe://td/ns/foo/sa/finance?x=1", "invalid path segment"),
        (f"spiffe://td/ns/foo/sa/{LONGEST_SEGMENT}a", "invalid path segment"),
    ],
)
def test_what_is_not_one_is_refused_with_the_part_that_is_wrong(uri: str, says: str) -> None:
    with pytest.raises(IdentityError) as caught:
        SpiffeId.parse(uri)
    assert says in caught.value.message


def test_the_prefix_of_a_trust_domain_keeps_out_one_that_begins_alike() -> None:
    prefix = trust_domain_prefix("example.com")
    assert SpiffeId("example.com", "foo", "finance").uri.startswith(prefix)
    assert not SpiffeId("example.com.evil", "foo", "finance").uri.startswith(prefix)
