"""The certificates that the probe presents: given ones of the mesh, and foreign ones that it makes in memory.

Private keys are values here; they touch the file system only as anonymous memory (memfd), because the ssl module
loads them from paths. Nothing is logged.
"""

from __future__ import annotations

import datetime
import os
import ssl

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = datetime.timedelta(hours=1)


class ClientCertificate(msgspec.Struct, frozen=True):
    """A certificate chain (leaf first) and its unencrypted private key, both PEM."""

    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return "ClientCertificate(...)"


class Credentials(msgspec.Struct, frozen=True):
    """Everything the probe can present.

    `roots` (PEM) are the mesh's, to tell the mesh's proxy from an application's own TLS. `mesh` was issued by the
    mesh's authority; `other_domain` too, but for another trust domain (None: that kind is not tried). `other_ca` is
    from `foreign_certificate`.
    """

    roots: bytes
    mesh: ClientCertificate
    other_ca: ClientCertificate
    other_domain: ClientCertificate | None = None


def foreign_certificate(spiffe_uri: str) -> ClientCertificate:
    """A certificate for this identity from an authority made on the spot: everything is right but the signer."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "another authority")])
    authority = (
        _builder(authority_name, authority_key.public_key())
        .subject_name(authority_name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    leaf = (
        _builder(authority_name, key.public_key())
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_uri)]), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    return ClientCertificate(
        chain=leaf.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def client_context(
    certificate: ClientCertificate | None,
    *,
    roots: bytes,
    alpn: tuple[str, ...] = (),
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
) -> ssl.SSLContext:
    """TLS as a client that trusts the mesh's roots alone; names are not checked, the caller reads the SPIFFE identity.

    Raises ValueError if the roots or the certificate cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # SPIFFE identities are not host names
    context.minimum_version = minimum
    try:
        context.load_verify_locations(cadata=roots.decode("ascii"))
        if certificate is not None:
            _load(context, certificate)
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise ValueError(f"the probe cannot use the certificates it was given: {error}") from error
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def spiffe_identity(certificate: bytes | None) -> str:
    """The first URI name of a DER certificate; empty without one."""
    if certificate is None:
        return ""
    try:
        names = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return ""
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    return uris[0] if uris else ""


def _builder(issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFETIME)
        .not_valid_after(now + _LIFETIME)
    )


def _load(context: ssl.SSLContext, certificate: ClientCertificate) -> None:
    memory = os.memfd_create("peerauth-probe", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(certificate.key.rstrip() + b"\n" + certificate.chain)
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
