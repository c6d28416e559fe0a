"""Where the authority's keys lie: a state folder made at first use, or PEM files plugged in by the operator.

Both have the file names of Istio's plugged-in authority; a state folder has its root's key as well, and can therefore
renew its issuing certificate. Whatever is loaded has signed and verified a trial certificate before it is returned.
A folder that holds anything is never made anew: a new root in its place would cut off every workload.

Source of the names: Istio, "Plug in CA Certificates"; wire.md section 2.5.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from peerauth.ca.keyfiles import (
    check_folder,
    check_private_folder,
    check_secrets,
    create_folder,
    exclusive,
    make_private_folder,
    read_private,
    read_public,
    remove_leftovers,
    replace_file,
)
from peerauth.errors import IdentityError
from peerauth.identity.keys import CURVE, PrivateKey, private_key_pem
from peerauth.identity.x509 import (
    ISSUING_LIFETIME,
    Issuer,
    assemble_issuer,
    build_issuing,
    build_root,
    certificate_pem,
)

CA_CERT = "ca-cert.pem"
CA_KEY = "ca-key.pem"
CERT_CHAIN = "cert-chain.pem"
ROOT_CERT = "root-cert.pem"
ROOT_KEY = "root-key.pem"
LOCK = ".peerauth.lock"
_RENEW_WHEN_LEFT = ISSUING_LIFETIME / 3


class _Files(msgspec.Struct, frozen=True):
    """What the four files hold, before anyone knows whether it fits together."""

    key: PrivateKey
    certificate: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]


def open_state(folder: Path, *, trust_domain: str, now: datetime, make: bool = True, wait: bool = True) -> Issuer:
    """The authority of a state folder: made at first use, the same ever after, its issuing certificate renewed in time.

    Where another process makes or renews it, this waits, or raises LockedError. Raises IdentityError for a file that
    cannot be used, or where there is none and none is to be made, and PlatformError when the disk refuses; none of
    them changes what is there.
    """
    if make:
        make_private_folder(folder.parent)
    elif _is_empty(folder):
        raise _gone(folder)
    # One lock for the parent, where the temporary folders lie.
    with exclusive(folder.parent / LOCK, wait=wait):
        remove_leftovers(folder.parent)
        if _is_empty(folder):
            if not make:
                raise _gone(folder)
            create_folder(folder, _new_authority(trust_domain, now=now))
        check_private_folder(folder)
        remove_leftovers(folder)
        _renew_issuing(folder, trust_domain=trust_domain, now=now)
        return load_plugged_in(folder, trust_domain=trust_domain, now=now)


def load_plugged_in(folder: Path, *, trust_domain: str, now: datetime) -> Issuer:
    """The authority in an operator's PEM files; `cert-chain.pem` may be absent when the root signed `ca-cert.pem`.

    Raises IdentityError that names the file and the reason.
    """
    check_folder(folder)
    check_secrets(folder)
    files = _read_files(folder)
    try:
        return assemble_issuer(
            files.key,
            certificate=files.certificate,
            intermediates=files.intermediates,
            roots=files.roots,
            trust_domain=trust_domain,
            now=now,
        )
    except IdentityError as error:
        where = f"{folder / CA_CERT} (with {CA_KEY}, {CERT_CHAIN}, {ROOT_CERT})"
        raise IdentityError(f"{where} cannot be used: {error.message}") from error


def _is_empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except FileNotFoundError:
        return True
    except OSError as error:
        raise IdentityError(f"{folder} cannot be used: {error.strerror}") from error


def _gone(folder: Path) -> IdentityError:
    return IdentityError(
        f"{folder}, the authority's folder, is gone or empty",
        hint="put it back from a copy: without it, the next start makes a new root, which trusts no one of today",
    )


def _new_authority(trust_domain: str, *, now: datetime) -> dict[str, bytes]:
    """The content of a new state folder."""
    root_key, key = ec.generate_private_key(CURVE), ec.generate_private_key(CURVE)
    root = build_root(root_key, trust_domain=trust_domain, now=now, serial=x509.random_serial_number())
    issuing = build_issuing(
        key.public_key(),
        root=root,
        root_key=root_key,
        trust_domain=trust_domain,
        now=now,
        serial=x509.random_serial_number(),
    )
    return {
        ROOT_KEY: private_key_pem(root_key),
        ROOT_CERT: certificate_pem(root),
        CA_KEY: private_key_pem(key),
        CA_CERT: certificate_pem(issuing),
        CERT_CHAIN: certificate_pem(issuing) + certificate_pem(root),
    }


def _renew_issuing(folder: Path, *, trust_domain: str, now: datetime) -> None:
    """Gives the issuing key a new certificate when the last third of the old one's life has begun.

    The key stays, so that two files do not have to change at once. A root whose key was taken away (kept offline) is
    left alone.
    """
    ends = _certificates(folder / CA_CERT)[0].not_valid_after_utc
    if ends - now > _RENEW_WHEN_LEFT or not (folder / ROOT_KEY).exists():
        return
    root_key = _private_key(folder / ROOT_KEY)
    own = [root for root in _certificates(folder / ROOT_CERT) if root.public_key() == root_key.public_key()]
    if not own:
        raise IdentityError(f"{folder / ROOT_KEY} belongs to none of the certificates in {folder / ROOT_CERT}")
    root = own[0]
    if root.not_valid_after_utc <= max(ends, now):
        return
    renewed = build_issuing(
        _private_key(folder / CA_KEY).public_key(),
        root=root,
        root_key=root_key,
        trust_domain=trust_domain,
        now=now,
        serial=x509.random_serial_number(),
    )
    # Readers drop certificates of the issuing key from the chain file, so either order of the two is consistent.
    replace_file(folder / CERT_CHAIN, certificate_pem(renewed) + certificate_pem(root))
    replace_file(folder / CA_CERT, certificate_pem(renewed))


def _read_files(folder: Path) -> _Files:
    chain = folder / CERT_CHAIN
    return _Files(
        key=_private_key(folder / CA_KEY),
        certificate=_certificates(folder / CA_CERT)[0],
        intermediates=_certificates(chain) if chain.exists() else (),
        roots=_certificates(folder / ROOT_CERT),
    )


def _private_key(path: Path) -> PrivateKey:
    content = read_private(path)
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError as error:
        raise IdentityError(f"{path} is encrypted", hint="store it decrypted, with mode 0600") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        # The library's message may quote the input; a key's file is never quoted.
        raise IdentityError(f"{path} is not a PEM private key (PKCS#8, SEC1 or PKCS#1)") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise IdentityError(f"{path} is a {type(key).__name__.removesuffix('PrivateKey')} key; ECDSA or RSA is needed")
    return key


def _certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM file, at least one, each with a key that this machine understands."""
    try:
        certificates = x509.load_pem_x509_certificates(read_public(path))
        for certificate in certificates:
            certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"{path} is not a PEM certificate: {error}") from error
    return tuple(certificates)
