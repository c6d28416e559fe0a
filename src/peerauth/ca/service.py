"""The authority's answer to one request: a verified certificate, or why there is none.

Stateless apart from the issuer in use: any number of replicas with the same issuer give equally good answers. Nothing
is handed out that `verify_svid` has not read back; nothing that a request says reaches a certificate but its key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from cryptography import x509

from peerauth.ca.attest import entitlement
from peerauth.ca.serving import ServingCertificate, make_serving_certificate
from peerauth.errors import IdentityError
from peerauth.identity.csr import CheckedCsr, CsrRefusal, IssuedCertificate, RefusalKind, check_csr
from peerauth.identity.spiffe import SpiffeId
from peerauth.identity.x509 import (
    MAX_SVID_LIFETIME,
    SVID_LIFETIME,
    Issuer,
    build_svid,
    certificate_pem,
    verify_svid,
)

# Dates in certificates have whole seconds.
_MIN_LIFETIME = timedelta(seconds=1)


class CertificateAuthority:
    """Signs workload certificates of one trust domain with the issuer in use."""

    def __init__(
        self,
        issuer: Issuer,
        *,
        trust_domain: str,
        now: Callable[[], datetime],
        default_lifetime: timedelta = SVID_LIFETIME,
        max_lifetime: timedelta = MAX_SVID_LIFETIME,
        serial: Callable[[], int] = x509.random_serial_number,
    ) -> None:
        """`now` is aware of its time zone. Raises IdentityError for a default above the maximum lifetime."""
        if not _MIN_LIFETIME <= default_lifetime <= max_lifetime:
            raise IdentityError(f"the default lifetime {default_lifetime} is not between 1 s and {max_lifetime}")
        self.trust_domain = trust_domain
        self._now = now
        self._default_lifetime = default_lifetime
        self._max_lifetime = max_lifetime
        self._serial = serial
        self.use(issuer)

    def use(self, issuer: Issuer) -> None:
        """Signs with `issuer` from the next request on; it comes from `ca.store`, which has tried it."""
        self._issuer = issuer
        self._chain = tuple(certificate_pem(certificate) for certificate in issuer.chain)
        self._roots = tuple(certificate_pem(root) for root in issuer.roots)

    @property
    def default_lifetime(self) -> timedelta:
        """How long a certificate lives whose request does not say."""
        return self._default_lifetime

    def serving_certificate(self, names: Sequence[str]) -> ServingCertificate:
        """A key and a certificate for the control plane's own sockets, by the issuer in use."""
        return make_serving_certificate(names, issuer=self._issuer, now=self._now())

    @property
    def roots_pem(self) -> bytes:
        """The trust bundle that peers are checked with: every root, one after the other."""
        return b"".join(self._roots)

    async def sign(
        self, csr_pem: bytes, *, caller: SpiffeId, lifetime: timedelta | None = None
    ) -> IssuedCertificate | CsrRefusal:
        """Answers one PEM request of an authenticated caller.

        `lifetime` None takes the default. The certificate may end sooner, never later: with its issuer. Raises
        IdentityError if the finished certificate does not verify, which is a fault of this authority.
        """
        now, issuer = self._now(), self._issuer
        checked = self._check(csr_pem, caller=caller, lifetime=lifetime)
        if isinstance(checked, CsrRefusal):
            return checked
        if now >= issuer.ends:
            reason = f"the authority's own certificate ended at {issuer.ends.isoformat()}"
            return CsrRefusal(reason, RefusalKind.AUTHORITY)
        return self._issue(checked, issuer=issuer, now=now, lifetime=lifetime or self._default_lifetime)

    def _check(self, csr_pem: bytes, *, caller: SpiffeId, lifetime: timedelta | None) -> CheckedCsr | CsrRefusal:
        entitled = entitlement(caller, requested=caller, trust_domain=self.trust_domain)
        if isinstance(entitled, CsrRefusal):
            return entitled
        if lifetime is not None and not _MIN_LIFETIME <= lifetime <= self._max_lifetime:
            asked, most = lifetime.total_seconds(), self._max_lifetime.total_seconds()
            return CsrRefusal(f"a lifetime of {asked:.0f} s is not between 1 and {most:.0f} s", RefusalKind.LIFETIME)
        return check_csr(csr_pem, entitled=entitled)

    def _issue(self, checked: CheckedCsr, *, issuer: Issuer, now: datetime, lifetime: timedelta) -> IssuedCertificate:
        identity, key = checked.identity, checked.public_key
        leaf = build_svid(key, identity=identity, issuer=issuer, now=now, serial=self._serial(), lifetime=lifetime)
        # The way from the issuing certificate to the roots was verified when the issuer was assembled.
        verify_svid(leaf, intermediates=(), roots=(issuer.certificate,), identity=identity, public_key=key, now=now)
        return IssuedCertificate(
            identity=identity,
            chain=(certificate_pem(leaf), *self._chain),
            roots=self._roots,
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
            serial=leaf.serial_number,
        )
