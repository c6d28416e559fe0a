"""Tokens: who they speak for, and everything that makes one worthless."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest

from peerauth.ca.attest import Caller
from peerauth.ca.node_token import check_token, issue_token
from pki import FINANCE, NOW, make_key

KEY = make_key()
CALLER = Caller(FINANCE, "n1")
HOUR = timedelta(hours=1)
TOKEN = issue_token(CALLER, key=KEY, now=NOW, lifetime=HOUR)


def edited(part: int, **changes: object) -> str:
    """The token with other fields in one part, its signature as it was."""
    parts = TOKEN.split(".")
    said = json.loads(base64.urlsafe_b64decode(parts[part] + "==")) | changes
    parts[part] = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()
    return ".".join(parts)


def test_a_token_speaks_for_whom_it_was_issued_to_until_it_ends() -> None:
    assert check_token(TOKEN, key=KEY.public_key(), now=NOW) == CALLER
    assert check_token(TOKEN, key=KEY.public_key(), now=NOW + HOUR - timedelta(seconds=1)) == CALLER
    assert check_token(TOKEN, key=KEY.public_key(), now=NOW + HOUR) is None


def test_a_workloads_token_names_no_node() -> None:
    token = issue_token(Caller(FINANCE), key=KEY, now=NOW, lifetime=HOUR)
    assert check_token(token, key=KEY.public_key(), now=NOW) == Caller(FINANCE)


def test_another_authoritys_token_is_worthless() -> None:
    assert check_token(TOKEN, key=make_key().public_key(), now=NOW) is None


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "a.b.c",
        "é.é.é",
        TOKEN + ".x",
        TOKEN[:-2],
        TOKEN.rsplit(".", 1)[0] + ".",
        edited(0, alg="none"),
        edited(0, alg="HS256"),
        edited(1, node="n2"),
        edited(1, exp=2**40),
        edited(1, aud=["other"]),
        "x" * 10_000,
    ],
)
def test_what_is_not_signed_as_it_stands_is_worthless(token: str) -> None:
    assert check_token(token, key=KEY.public_key(), now=NOW) is None
