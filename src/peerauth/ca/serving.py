"""The control plane's own certificate, which its TLS sockets show to ztunnel and to agents on other machines.

Signed by the mesh's authority, so that whoever trusts the mesh's roots trusts it; it has DNS names and addresses and no
SPIFFE name, and is no workload's identity. Pure but for the key that it makes.

Source: wire.md section 1.1: clients check the DNS names against the address they dialled or the name they were told.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from peerauth.identity.keys import CURVE, private_key_pem, signature_hash
from peerauth.identity.x509 import BACKDATE, Issuer, authority_key, certificate_pem

LIFETIME = timedelta(hours=24)


class ServingCertificate(msgspec.Struct, frozen=True):
    """PEM: the chain with the leaf first, and the key. `renew_at` is when two thirds of its life are over."""

    chain: bytes
    key: bytes
    renew_at: datetime

    def __repr__(self) -> str:
        return f"ServingCertificate(renew_at={self.renew_at.isoformat()})"


def make_serving_certificate(names: Sequence[str], *, issuer: Issuer, now: datetime) -> ServingCertificate:
    """A new key and a certificate for these DNS names and address literals; ends with its issuer at the latest."""
    key = ec.generate_private_key(CURVE)
    ends = min(now + LIFETIME, issuer.ends).replace(microsecond=0)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before((now - BACKDATE).replace(microsecond=0))
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([_name(text) for text in names]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(authority_key(issuer.certificate), critical=False)
        .sign(issuer.key, signature_hash(issuer.key))
    )
    chain = b"".join(certificate_pem(each) for each in (leaf, *issuer.chain))
    return ServingCertificate(chain, private_key_pem(key), now + (ends - now) * 2 / 3)


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
