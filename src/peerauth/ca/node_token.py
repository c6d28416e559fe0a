"""Tokens that say who a node's proxy or a workload without a node agent is: issued by peerauth, checked by peerauth.

A token is a JWT (RFC 7519) signed with ES256, of the shape that Kubernetes gives its own: the subject is the service
account, the audience the certificate authority's. Pure: keys, the time and the token's identifier come in as values.
It is a password while it lives: files that hold it have mode 0600, and it is never logged.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from peerauth.ca.attest import Caller
from peerauth.identity.spiffe import SpiffeId

ISSUER = "peerauth"
AUDIENCE = "istio-ca"
_SUBJECT = "system:serviceaccount"
_COORDINATE_BYTES = 32
_MAX_TOKEN_CHARACTERS = 4096


class _Header(msgspec.Struct):
    alg: str
    typ: str = ""


class _Claims(msgspec.Struct, omit_defaults=True):
    iss: str
    aud: list[str]
    sub: str
    iat: int
    exp: int
    trust_domain: str
    node: str = ""


def issue_token(caller: Caller, *, key: ec.EllipticCurvePrivateKey, now: datetime, lifetime: timedelta) -> str:
    """A token for a caller, valid from now on. `key` is on P-256."""
    who = caller.identity
    claims = _Claims(
        iss=ISSUER,
        aud=[AUDIENCE],
        sub=f"{_SUBJECT}:{who.namespace}:{who.service_account}",
        iat=int(now.timestamp()),
        exp=int((now + lifetime).timestamp()),
        trust_domain=who.trust_domain,
        node=caller.node,
    )
    signed = f"{_encode(msgspec.json.encode(_Header('ES256', 'JWT')))}.{_encode(msgspec.json.encode(claims))}"
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")
    return f"{signed}.{_encode(signature)}"


def check_token(token: str, *, key: ec.EllipticCurvePublicKey, now: datetime) -> Caller | None:
    """Whom a token speaks for; None if it is not one of ours, has ended, or is for another audience."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > _MAX_TOKEN_CHARACTERS:
        return None
    try:
        header = msgspec.json.decode(_decode(parts[0]), type=_Header)
        signature = _decode(parts[2])
        if header.alg != "ES256" or len(signature) != 2 * _COORDINATE_BYTES:
            return None
        r, s = (int.from_bytes(half, "big") for half in (signature[:_COORDINATE_BYTES], signature[_COORDINATE_BYTES:]))
        key.verify(encode_dss_signature(r, s), f"{parts[0]}.{parts[1]}".encode(), ec.ECDSA(hashes.SHA256()))
        claims = msgspec.json.decode(_decode(parts[1]), type=_Claims)
    except (InvalidSignature, ValueError, msgspec.MsgspecError):
        return None
    return _caller(claims, now=now)


def _caller(claims: _Claims, *, now: datetime) -> Caller | None:
    if claims.iss != ISSUER or AUDIENCE not in claims.aud or now >= datetime.fromtimestamp(claims.exp, UTC):
        return None
    match claims.sub.split(":"):
        case ["system", "serviceaccount", namespace, service_account]:
            return Caller(SpiffeId(claims.trust_domain, namespace, service_account), claims.node)
    return None


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
