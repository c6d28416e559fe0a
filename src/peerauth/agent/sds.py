"""A workload's certificate as its proxy gets it: made here, renewed in time, published as SDS secrets.

The private key is made in this process, goes to the proxy and nowhere else: the authority sees a request. Each
renewal makes a new key. `publish` receives serialized `Secret` messages; who serves them to which proxy is decided
where this is put together. A failing authority changes nothing that is published: the proxy keeps the old
certificate, which peers accept until it ends.

Source: Envoy, `envoy.extensions.transport_sockets.tls.v3.Secret`; names from wire.md section 6.1.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from peerauth.errors import IdentityError
from peerauth.identity.csr import CsrRefusal, IssuedCertificate, make_csr
from peerauth.identity.keys import CURVE, PrivateKey, PublicKey, private_key_pem
from peerauth.identity.rotation import Rotation
from peerauth.identity.spiffe import SpiffeId
from peerauth.identity.x509 import verify_svid

CERTIFICATE_NAME = "default"
ROOTS_NAME = "ROOTCA"
# An authority that accepts a request and says nothing must not hold a renewal until the certificate has ended.
ANSWER_TIMEOUT = 30.0

_log = logging.getLogger(__name__)


class Signer(Protocol):
    """Asks the authority, as the workload that this certificate is for, to sign a PEM request."""

    def __call__(self, csr_pem: bytes, /) -> Awaitable[IssuedCertificate | CsrRefusal]: ...


class Publish(Protocol):
    """Takes the serialized `Secret` of a resource name; called only when its bytes are new."""

    def __call__(self, name: str, secret: bytes, /) -> None: ...


class WorkloadCertificate:
    """Keeps one identity's certificate and trust bundle current; `run` does it until it is cancelled.

    `ready` is set once both are published. `now` is aware of its time zone; `jitter` is uniform in [0, 1).
    """

    def __init__(
        self,
        identity: SpiffeId,
        *,
        sign: Signer,
        publish: Publish,
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        certificate_name: str = CERTIFICATE_NAME,
        roots_name: str = ROOTS_NAME,
        answer_timeout: float = ANSWER_TIMEOUT,
    ) -> None:
        self.identity = identity
        self.ready = asyncio.Event()
        self._sign = sign
        self._publish = publish
        self._now = now
        self._sleep = sleep
        self._jitter = jitter
        self._certificate_name = certificate_name
        self._roots_name = roots_name
        self._answer_timeout = answer_timeout
        self._rotation = Rotation(attempt_at=now())
        self._roots_published = b""

    def __repr__(self) -> str:
        ends = self._rotation.ends
        return f"WorkloadCertificate({self.identity.uri!r}, ends={ends.isoformat() if ends else None})"

    @property
    def ends(self) -> datetime | None:
        """When the published certificate ends; None before the first."""
        return self._rotation.ends

    async def run(self) -> None:
        """Obtains the first certificate and every later one; returns only by cancellation."""
        while True:
            pause = self._rotation.pause(self._now())
            if pause > 0:
                await self._sleep(pause)
            else:
                self._rotation = await self._attempt()

    async def _attempt(self) -> Rotation:
        """One request; the state after it."""
        key = ec.generate_private_key(CURVE)
        issued = await self._ask(key)
        if issued is None:
            return self._rotation.failed(now=self._now(), jitter=self._jitter())
        self._hand_over(issued, key)
        return self._rotation.issued(
            not_before=issued.not_before, not_after=issued.not_after, now=self._now(), jitter=self._jitter()
        )

    async def _ask(self, key: ec.EllipticCurvePrivateKey) -> IssuedCertificate | None:
        """The authority's answer for a key, if it can be used; otherwise it is logged why not."""
        try:
            async with asyncio.timeout(self._answer_timeout):
                answer = await self._sign(make_csr(key, self.identity))
            if isinstance(answer, CsrRefusal):
                self._say_failed(answer.reason)
                return None
            self._verify(answer, key.public_key())
        # Whatever an authority or the way to it does, the loop that renews certificates goes on.
        except Exception as error:
            self._say_failed(str(error) or type(error).__name__)
            return None
        return answer

    def _verify(self, issued: IssuedCertificate, public_key: PublicKey) -> None:
        """Raises IdentityError for a certificate that would break the proxy instead of serving it."""
        leaf, *intermediates = x509.load_pem_x509_certificates(issued.chain_pem)
        now = self._now()
        if now >= leaf.not_valid_after_utc:
            raise IdentityError(f"the certificate ended at {leaf.not_valid_after_utc.isoformat()}, before it arrived")
        verify_svid(
            leaf,
            intermediates=intermediates,
            roots=x509.load_pem_x509_certificates(issued.roots_pem),
            identity=self.identity,
            public_key=public_key,
            # A clock behind the authority's is no reason to be without a certificate.
            now=max(now, leaf.not_valid_before_utc),
        )

    def _hand_over(self, issued: IssuedCertificate, key: PrivateKey) -> None:
        """Publishes the trust bundle first: a certificate of a new root is of no use before that root is trusted."""
        roots = roots_secret(self._roots_name, issued.roots_pem)
        if roots != self._roots_published:
            self._publish(self._roots_name, roots)
            self._roots_published = roots
        self._publish(self._certificate_name, certificate_secret(self._certificate_name, issued.chain_pem, key))
        self.ready.set()
        _log.info("certificate of %s published, ends %s", self.identity, issued.not_after.isoformat())

    def _say_failed(self, reason: str) -> None:
        ends, now = self._rotation.ends, self._now()
        if ends is None:
            _log.warning("no certificate yet for %s: %s", self.identity, reason)
        elif now < ends:
            _log.warning("certificate of %s not renewed, the old one ends %s: %s", self.identity, ends, reason)
        else:
            _log.error("certificate of %s ended %s and is not renewed: %s", self.identity, ends, reason)


def certificate_secret(name: str, chain_pem: bytes, key: PrivateKey) -> bytes:
    """The serialized `Secret` with a chain, leaf first, and its private key, both inline."""
    secret = Secret(name=name)
    secret.tls_certificate.certificate_chain.inline_bytes = chain_pem
    secret.tls_certificate.private_key.inline_bytes = private_key_pem(key)
    return secret.SerializeToString(deterministic=True)


def roots_secret(name: str, roots_pem: bytes) -> bytes:
    """The serialized `Secret` with the roots that peers must chain to; which names they may have, the listener says."""
    secret = Secret(name=name)
    secret.validation_context.trusted_ca.inline_bytes = roots_pem
    return secret.SerializeToString(deterministic=True)
