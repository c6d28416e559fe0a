"""Keys, authorities and a clock for tests: everything happens at `NOW` unless a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from peerauth.identity.keys import CURVE
from peerauth.identity.spiffe import SpiffeId
from peerauth.identity.x509 import Issuer, assemble_issuer, build_issuing, build_root

NOW = datetime(2026, 1, 15, 12, 0, 0, 250_000, tzinfo=UTC)
TRUST_DOMAIN = "cluster.local"
FINANCE = SpiffeId(TRUST_DOMAIN, "foo", "finance")
WEB = SpiffeId(TRUST_DOMAIN, "foo", "web")


class Clock:
    """A clock that moves when told to."""

    def __init__(self, now: datetime = NOW) -> None:
        self.time = now

    def __call__(self) -> datetime:
        return self.time

    def advance(self, by: timedelta) -> None:
        self.time += by


def make_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(CURVE)


def make_root(*, now: datetime = NOW) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = make_key()
    return key, build_root(key, trust_domain=TRUST_DOMAIN, now=now, serial=x509.random_serial_number())


def make_issuer(*, now: datetime = NOW, also_trusted: tuple[x509.Certificate, ...] = ()) -> Issuer:
    """A root and an issuing certificate below it; `also_trusted` are other roots of the bundle."""
    root_key, root = make_root(now=now)
    key = make_key()
    issuing = build_issuing(
        key.public_key(),
        root=root,
        root_key=root_key,
        trust_domain=TRUST_DOMAIN,
        now=now,
        serial=x509.random_serial_number(),
    )
    return assemble_issuer(
        key, certificate=issuing, intermediates=(), roots=(root, *also_trusted), trust_domain=TRUST_DOMAIN, now=now
    )
