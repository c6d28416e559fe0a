"""Tokens: who they speak for, and everything that makes one worthless."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from peerauth.ca.attest import Caller
from peerauth.ca.node_token import check_token, issue_token
from samples.pki import FINANCE, NOW, make_key

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


def signed(*, header: dict[str, object] | None = None, **claims: object) -> str:
    """The token with other fields, signed with the same key as it stands. A field of None is left out."""
    parts = []
    for part, changes in zip(TOKEN.split("."), (header or {}, claims), strict=False):
        said = json.loads(base64.urlsafe_b64decode(part + "==")) | changes
        text = json.dumps({name: value for name, value in said.items() if value is not None})
        parts.append(base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode())
    r, s = decode_dss_signature(KEY.sign(".".join(parts).encode(), ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return ".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=").decode()])


def test_a_token_speaks_for_whom_it_was_issued_to_until_it_ends() -> None:
    assert check_token(TOKEN, key=KEY.public_key(), now=NOW) == CALLER
    assert check_token(TOKEN, key=KEY.public_key(), now=NOW + HOUR - timedelta(seconds=1)) == CALLER
    assert check_token(TOKEN, key=KEY.public_key(), now=NOW + HOUR) is None


def test_a_token_ends_at_the_second_it_says() -> None:
    now = NOW.replace(microsecond=0)
    token = issue_token(CALLER, key=KEY, now=now, lifetime=HOUR)
    assert check_token(token, key=KEY.public_key(), now=now + HOUR - timedelta(microseconds=1)) == CALLER
    assert check_token(token, key=KEY.public_key(), now=now + HOUR) is None


@pytest.mark.parametrize("node", ["", "n1", "n" * 200])
def test_a_token_says_this_and_no_more(node: str) -> None:
    header, claims, signature = issue_token(Caller(FINANCE, node), key=KEY, now=NOW, lifetime=HOUR).split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "ES256", "typ": "JWT"}
    issued = int(NOW.timestamp())
    named = {"node": node} if node else {}
    assert json.loads(base64.urlsafe_b64decode(claims + "==")) == named | {
        "iss": "peerauth",
        "aud": ["istio-ca"],
        "sub": "system:serviceaccount:foo:finance",
        "iat": issued,
        "exp": issued + 3600,
        "trust_domain": "cluster.local",
    }
    assert len(base64.urlsafe_b64decode(signature + "==")) == 64
    assert "=" not in header + claims + signature


def test_a_workloads_token_names_no_node() -> None:
    token = issue_token(Caller(FINANCE), key=KEY, now=NOW, lifetime=HOUR)
    assert check_token(token, key=KEY.public_key(), now=NOW) == Caller(FINANCE)


def test_another_authoritys_token_is_worthless() -> None:
    assert check_token(TOKEN, key=make_key().public_key(), now=NOW) is None


NOT_AS_SIGNED = {
    "nothing": "",
    "two parts": "a.b",
    "no base64": "a.b.c",
    "no ASCII": "é.é.é",
    "four parts": TOKEN + ".x",
    "cut short": TOKEN[:-2],
    "no signature": TOKEN.rsplit(".", 1)[0] + ".",
    "no algorithm": edited(0, alg="none"),
    "a shared secret's algorithm": edited(0, alg="HS256"),
    "another node": edited(1, node="n2"),
    "a later end": edited(1, exp=2**40),
    "another audience": edited(1, aud=["other"]),
    "too long": "x" * 10_000,
    "characters between that are no base64": TOKEN[:-4] + "!!!!" + TOKEN[-4:],
    "a line break at its end": TOKEN + "\n",
}


@pytest.mark.parametrize("token", NOT_AS_SIGNED.values(), ids=NOT_AS_SIGNED)
def test_what_is_not_signed_as_it_stands_is_worthless(token: str) -> None:
    assert check_token(token, key=KEY.public_key(), now=NOW) is None


def test_what_this_test_signs_is_a_token_where_nothing_is_wrong_with_it() -> None:
    assert check_token(signed(), key=KEY.public_key(), now=NOW) == CALLER
    also_for_others = signed(aud=["other", "istio-ca"], unknown=1)
    assert check_token(also_for_others, key=KEY.public_key(), now=NOW) == CALLER


SIGNED_FOR_ANOTHER_PURPOSE = {
    "another audience": signed(aud=["other"]),
    "an audience that contains ours": signed(aud=["not-istio-ca"]),
    "no audience": signed(aud=[]),
    "audience left out": signed(aud=None),
    "audience as a text": signed(aud="istio-ca"),
    "another issuer": signed(iss="https://kubernetes.default.svc"),
    "an empty issuer": signed(iss=""),
    "issuer left out": signed(iss=None),
    "has ended": signed(exp=int(NOW.timestamp())),
    "no end": signed(exp=None),
    "an end that is no time": signed(exp="never"),
    "not a service account": signed(sub="system:node:foo:finance"),
    "a subject of three parts": signed(sub="system:serviceaccount:foo"),
    "a subject of five parts": signed(sub="system:serviceaccount:foo:finance:more"),
    "subject left out": signed(sub=None),
    "trust domain left out": signed(trust_domain=None),
    "no algorithm": signed(header={"alg": "none"}),
    "a shared secret's algorithm": signed(header={"alg": "HS256"}),
    "another curve's algorithm": signed(header={"alg": "ES384"}),
    "the algorithm in small letters": signed(header={"alg": "es256"}),
    "algorithm left out": signed(header={"alg": None}),
}


@pytest.mark.parametrize("token", SIGNED_FOR_ANOTHER_PURPOSE.values(), ids=SIGNED_FOR_ANOTHER_PURPOSE)
def test_what_our_own_key_signed_for_another_purpose_is_worthless_too(token: str) -> None:
    """The key's signature is good on each of these: what they say is not."""
    assert check_token(token, key=KEY.public_key(), now=NOW) is None
