"""Certificate signing requests: made by workloads, checked by the authority; and the two answers to one.

A request proves that its sender has the private key, and names the identity that it wants. Of an accepted request
only the public key is used: whatever else it asks for (subject, usages, being an authority) reaches no certificate.
What is wrong with a request is a value, not an exception, because strangers send them.

Source: RFC 2986; the shape that ztunnel and istio-agent send (empty subject, one URI name, critical extension).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from peerauth.errors import IdentityError
from peerauth.identity.keys import PrivateKey, PublicKey, key_flaw, signature_hash
from peerauth.identity.spiffe import SpiffeId

# A request with an 8192-bit RSA key and some names is under 4 KiB; parsing more is work for an attacker's benefit.
MAX_CSR_BYTES = 16 * 1024
# What parsing raises for bytes from strangers; only the first is a ValueError.
_UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


class RefusalKind(StrEnum):
    """Whose turn it is. The first four are the request's fault, ENTITLEMENT the caller's, AUTHORITY ours."""

    MALFORMED = "malformed"
    KEY = "key"
    PROOF = "proof"
    LIFETIME = "lifetime"
    ENTITLEMENT = "entitlement"
    AUTHORITY = "authority"


class CsrRefusal(msgspec.Struct, frozen=True):
    """Why a request was not signed. `reason` is for the person who reads the caller's log: one line, no key bytes."""

    reason: str
    kind: RefusalKind = RefusalKind.MALFORMED


class IssuedCertificate(msgspec.Struct, frozen=True):
    """A verified SVID on its way to the workload: PEM, one certificate per element.

    `chain` is the leaf first, then the intermediates; `roots` is the trust bundle to check peers with.
    """

    identity: SpiffeId
    chain: tuple[bytes, ...]
    roots: tuple[bytes, ...]
    not_before: datetime
    not_after: datetime
    serial: int

    @classmethod
    def parse(cls, identity: SpiffeId, *, chain: Sequence[bytes], roots: Sequence[bytes]) -> IssuedCertificate:
        """An answer as it came over a wire; its dates are the leaf's own.

        Raises IdentityError if there is no readable leaf. Nothing is verified: `x509.verify_svid` does that.
        """
        try:
            leaf = x509.load_pem_x509_certificate(chain[0] if chain else b"")
        except ValueError as error:
            raise IdentityError(f"the answer for {identity} has no readable certificate: {error}") from error
        ends = leaf.not_valid_after_utc
        return cls(identity, tuple(chain), tuple(roots), leaf.not_valid_before_utc, ends, leaf.serial_number)

    @property
    def chain_pem(self) -> bytes:
        return b"".join(self.chain)

    @property
    def roots_pem(self) -> bytes:
        return b"".join(self.roots)


class CheckedCsr(msgspec.Struct, frozen=True):
    """What a certificate may be made from: the key that the sender proved to have, for the identity it may have."""

    identity: SpiffeId
    public_key: PublicKey


def make_csr(key: PrivateKey, identity: SpiffeId) -> bytes:
    """A PEM request for one identity: empty subject, one critical URI name."""
    uri = x509.UniformResourceIdentifier(identity.uri)
    builder = x509.CertificateSigningRequestBuilder(subject_name=x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=True)
    return builder.sign(key, signature_hash(key)).public_bytes(serialization.Encoding.PEM)


def check_csr(pem: bytes, *, entitled: SpiffeId) -> CheckedCsr | CsrRefusal:
    """Whether a PEM request may be signed for `entitled`, the one identity that its caller may have.

    Checked in the order of cost: size, form, key type, proof of possession, requested identity.
    """
    if len(pem) > MAX_CSR_BYTES:
        return CsrRefusal(f"request of {len(pem)} bytes; at most {MAX_CSR_BYTES} are read")
    try:
        csr = x509.load_pem_x509_csr(pem)
        key = csr.public_key()
        extensions = csr.extensions
        algorithm = csr.signature_hash_algorithm
    except _UNREADABLE as error:
        return CsrRefusal(f"not a readable PEM certificate request: {error}")
    flaw = key_flaw(key)
    if flaw:
        return CsrRefusal(flaw, RefusalKind.KEY)
    flaw = _proof_flaw(csr, algorithm)
    if flaw:
        return CsrRefusal(flaw, RefusalKind.PROOF)
    flaw = _identity_flaw(extensions, entitled=entitled)
    if flaw:
        return CsrRefusal(flaw, RefusalKind.ENTITLEMENT)
    return CheckedCsr(identity=entitled, public_key=key)  # type: ignore[arg-type]  # key_flaw let only these pass


def _proof_flaw(csr: x509.CertificateSigningRequest, algorithm: hashes.HashAlgorithm | None) -> str:
    """Why the request proves nothing about its key, or an empty string."""
    if not isinstance(algorithm, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
        name = algorithm.name if algorithm else "no hash"
        return f"request signed with {name}; SHA-256, SHA-384 or SHA-512 is needed"
    try:
        proved = csr.is_signature_valid
    except (ValueError, UnsupportedAlgorithm):
        # The signature names an algorithm that does not go with the key.
        proved = False
    return "" if proved else "the request is not signed by the key it carries: no proof of possession"


def _identity_flaw(extensions: x509.Extensions, *, entitled: SpiffeId) -> str:
    """Why the names asked for are not exactly the one identity of the caller, or an empty string."""
    try:
        names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    if len(names) != 1:
        return f"the request has {len(names)} subject alternative names; exactly one is needed: {entitled.uri}"
    name = names[0]
    if not isinstance(name, x509.UniformResourceIdentifier):
        return f"the request's name is a {type(name).__name__}; a SPIFFE URI is needed: {entitled.uri}"
    try:
        requested = SpiffeId.parse(name.value)
    except IdentityError as error:
        return error.message
    if requested.trust_domain != entitled.trust_domain:
        return f"the request is for trust domain {requested.trust_domain}, the caller is of {entitled.trust_domain}"
    if requested != entitled:
        return f"the request is for {requested}, the caller may have {entitled} only"
    return ""
