"""Certificates of the mesh: a root, an issuing certificate below it, and the workloads' SVIDs below that.

Pure: keys, serial numbers and the time come in as values. Whoever hands a certificate out first calls `verify_svid`,
which reads the finished certificate back and trusts nothing of what built it.

Invariants: an SVID has one critical SPIFFE URI name, an empty subject, is no authority, and ends no later than
anything above it. Source: SPIFFE X509-SVID specification; RFC 5280; wire.md section 2.3 for what Istio's peers expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from peerauth.errors import IdentityError
from peerauth.identity.keys import PrivateKey, PublicKey, key_flaw, signature_hash
from peerauth.identity.spiffe import SpiffeId

# Clocks of two machines differ; a certificate that is not yet valid at its first use is refused by every peer.
BACKDATE = timedelta(minutes=2)
SVID_LIFETIME = timedelta(hours=24)
# Istio's own: above it a request is refused, not shortened, so that no one is surprised by the end.
MAX_SVID_LIFETIME = timedelta(days=90)
ISSUING_LIFETIME = timedelta(days=365)
ROOT_LIFETIME = timedelta(days=3650)
# Leaf, four intermediates at most (corporate hierarchies), root.
_MAX_CHAIN_DEPTH = 5


class Issuer(msgspec.Struct, frozen=True):
    """What signs SVIDs: a key, its certificate and the way up to the roots.

    `chain` is the issuing certificate first, then its intermediates, without roots; it is empty when the issuing
    certificate is itself a root. `roots` is the whole trust bundle, the issuer's own root among them: while a root is
    replaced it holds the old and the new one.
    """

    key: PrivateKey
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]
    ends: datetime
    """When the first certificate of the way up ends; nothing is issued beyond it."""

    def __repr__(self) -> str:
        return f"Issuer(subject={self.certificate.subject.rfc4514_string()!r}, ends={self.ends.isoformat()})"


def build_root(key: PrivateKey, *, trust_domain: str, now: datetime, serial: int) -> x509.Certificate:
    """A self-signed root for a trust domain, valid for ten years; may have one authority below it."""
    name = _authority_name("root", trust_domain=trust_domain, serial=serial)
    builder = _authority(key.public_key(), name=name, issuer=name, path_length=1)
    return _sign(builder, key, now=now, serial=serial, ends=now + ROOT_LIFETIME)


def build_issuing(
    public_key: PublicKey,
    *,
    root: x509.Certificate,
    root_key: PrivateKey,
    trust_domain: str,
    now: datetime,
    serial: int,
) -> x509.Certificate:
    """The certificate that signs SVIDs, valid for a year and never beyond its root; no authority below it."""
    name = _authority_name("issuing", trust_domain=trust_domain, serial=serial)
    builder = _authority(public_key, name=name, issuer=root.subject, path_length=0)
    builder = builder.add_extension(authority_key(root), critical=False)
    return _sign(builder, root_key, now=now, serial=serial, ends=min(now + ISSUING_LIFETIME, root.not_valid_after_utc))


def build_svid(
    public_key: PublicKey,
    *,
    identity: SpiffeId,
    issuer: Issuer,
    now: datetime,
    serial: int,
    lifetime: timedelta = SVID_LIFETIME,
) -> x509.Certificate:
    """A workload certificate for TLS on both sides; ends after `lifetime` or with its issuer, whichever is first."""
    name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.uri)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.certificate.subject)
        .public_key(public_key)
        .add_extension(name, critical=True)
        .add_extension(_leaf_usage(public_key), critical=True)
        .add_extension(_TLS_BOTH_SIDES, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(authority_key(issuer.certificate), critical=False)
    )
    return _sign(builder, issuer.key, now=now, serial=serial, ends=min(now + lifetime, issuer.ends))


def assemble_issuer(
    key: PrivateKey,
    *,
    certificate: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    trust_domain: str,
    now: datetime,
) -> Issuer:
    """An issuer that is known to work: it signs an SVID that is verified up to the roots and then thrown away.

    `intermediates` lead from the issuing certificate up, in any order; roots and the issuing certificate itself may
    be among them, as in Istio's `cert-chain.pem`. Raises IdentityError with what does not fit.
    """
    flaw = _issuing_flaw(certificate, key=key, now=now)
    if flaw:
        raise IdentityError(flaw)
    # An earlier certificate of the same key (left by a renewal) would be sent to every peer for nothing.
    known = [certificate, *roots]
    between = tuple(c for c in intermediates if c not in known and c.public_key() != certificate.public_key())
    chain = () if certificate in roots else (certificate, *between)
    draft = Issuer(key, certificate, chain, tuple(roots), certificate.not_valid_after_utc)
    identity = SpiffeId(trust_domain, "peerauth", "self-test")
    trial = build_svid(key.public_key(), identity=identity, issuer=draft, now=now, serial=1)
    path = verify_svid(trial, intermediates=chain, roots=roots, identity=identity, public_key=key.public_key(), now=now)
    return msgspec.structs.replace(draft, ends=min(above.not_valid_after_utc for above in path[1:]))


def verify_svid(
    leaf: x509.Certificate,
    *,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    identity: SpiffeId,
    public_key: PublicKey,
    now: datetime,
) -> tuple[x509.Certificate, ...]:
    """Raises IdentityError unless `leaf` is an SVID of `identity` for `public_key` that chains to one of `roots`.

    Returns the verified path, leaf first and root last. `roots` are the certificates the caller trusts: an authority
    that has checked its own chain passes its issuing certificate alone and saves the signatures above it.
    """
    flaw = _svid_flaw(leaf, identity=identity, public_key=public_key)
    if flaw:
        raise IdentityError(f"the certificate for {identity} is not what was promised: {flaw}")
    policy = PolicyBuilder().store(Store(list(roots))).time(now).max_chain_depth(_MAX_CHAIN_DEPTH)
    verifier = policy.extension_policies(ca_policy=_CA_POLICY, ee_policy=ExtensionPolicy.permit_all())
    try:
        return tuple(verifier.build_client_verifier().verify(leaf, list(intermediates)).chain)
    except VerificationError as error:
        raise IdentityError(f"the certificate for {identity} does not chain to the mesh's roots: {error}") from error


def certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


_TLS_BOTH_SIDES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
# The names that a plugged-in authority gives its certificates are its own business; that they are authorities is not.
_CA_POLICY = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)


def _issuing_flaw(certificate: x509.Certificate, *, key: PrivateKey, now: datetime) -> str:
    """Why a certificate and a key cannot issue together, or an empty string; the common mistakes, by their names."""
    own = certificate.public_key()
    if own != key.public_key():
        return "the certificate is for another key"
    if key_flaw(own):
        return key_flaw(own)
    if now < certificate.not_valid_before_utc:
        return f"the certificate is not valid before {certificate.not_valid_before_utc.isoformat()}"
    if now >= certificate.not_valid_after_utc:
        return f"the certificate ended at {certificate.not_valid_after_utc.isoformat()}"
    try:
        may_issue = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        may_issue = False
    return "" if may_issue else "the certificate is not an authority's: its basic constraints do not say CA"


def _svid_flaw(leaf: x509.Certificate, *, identity: SpiffeId, public_key: PublicKey) -> str:
    """What differs from the SVID profile, or an empty string."""
    extensions = leaf.extensions
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName)
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound as error:
        return f"it has no extension {error.oid.dotted_string}"
    if list(names.value) != [x509.UniformResourceIdentifier(identity.uri)]:
        return f"its names are {[str(name.value) for name in names.value]}"
    if constraints.ca or usage.key_cert_sign or usage.crl_sign:
        return "it could sign certificates"
    if not usage.digital_signature or set(purposes) != set(_TLS_BOTH_SIDES):
        return "it is not for TLS on both sides"
    if leaf.public_key() != public_key:
        return "it is for another key"
    return ""


def _authority_name(role: str, *, trust_domain: str, serial: int) -> x509.Name:
    """Distinct per certificate, so that an old and a new root in one bundle are told apart by name already."""
    return x509.Name(
        [
            # X.520 limits both to 64 characters; a trust domain may have 255.
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, f"peerauth {role} {serial & 0xFFFFFFFF:08x}"),
        ]
    )


def _authority(
    public_key: PublicKey, *, name: x509.Name, issuer: x509.Name, path_length: int
) -> x509.CertificateBuilder:
    usage = _usage(key_cert_sign=True, crl_sign=True)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(public_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _sign(
    builder: x509.CertificateBuilder, key: PrivateKey, *, now: datetime, serial: int, ends: datetime
) -> x509.Certificate:
    """Dates have whole seconds in X.509; cutting both ends down keeps the end within the issuer's."""
    builder = builder.serial_number(serial).not_valid_before((now - BACKDATE).replace(microsecond=0))
    return builder.not_valid_after(ends.replace(microsecond=0)).sign(key, signature_hash(key))


def authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Points at the issuer by the identifier it gives itself; a plugged-in one may give none."""
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _leaf_usage(key: PublicKey) -> x509.KeyUsage:
    """RSA key exchange needs encipherment; an ECDSA key cannot encipher, and some peers refuse the claim."""
    return _usage(digital_signature=True, key_encipherment=isinstance(key, rsa.RSAPublicKey))


def _usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_encipherment=key_encipherment,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
