"""What certificates say, and that the verifier believes nothing else."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from peerauth.errors import IdentityError
from peerauth.identity.keys import PrivateKey
from peerauth.identity.x509 import (
    BACKDATE,
    Issuer,
    assemble_issuer,
    build_issuing,
    build_root,
    build_svid,
    certificate_pem,
    verify_svid,
)
from samples.pki import FINANCE, NOW, TRUST_DOMAIN, WEB, make_issuer, make_key, make_root

ISSUER = make_issuer()
KEY = make_key()


def svid(
    *, issuer: Issuer = ISSUER, key: PrivateKey = KEY, lifetime: timedelta = timedelta(hours=24)
) -> x509.Certificate:
    return build_svid(key.public_key(), identity=FINANCE, issuer=issuer, now=NOW, serial=77, lifetime=lifetime)


def verify(leaf: x509.Certificate, *, issuer: Issuer = ISSUER, now: datetime = NOW) -> tuple[x509.Certificate, ...]:
    return verify_svid(
        leaf,
        intermediates=issuer.chain,
        roots=issuer.roots,
        identity=FINANCE,
        public_key=KEY.public_key(),
        now=now,
    )


def test_an_svid_has_the_profile_that_peers_check() -> None:
    leaf = svid()
    extensions = leaf.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert list(leaf.subject) == []
    assert (names.critical, list(names.value)) == (True, [x509.UniformResourceIdentifier(FINANCE.uri)])
    assert usage.critical
    assert (usage.value.digital_signature, usage.value.key_encipherment, usage.value.key_cert_sign) == (
        True,
        False,
        False,
    )
    assert set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    assert not extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).critical, "RFC 5280, 4.2.1.1"
    assert leaf.serial_number == 77


def test_an_rsa_svid_may_encipher_keys() -> None:
    usage = svid(key=rsa.generate_private_key(65537, 2048)).extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_encipherment


def test_an_svid_is_backdated_and_ends_when_asked() -> None:
    leaf = svid(lifetime=timedelta(hours=1))
    assert leaf.not_valid_before_utc == (NOW - BACKDATE).replace(microsecond=0)
    assert leaf.not_valid_after_utc == (NOW + timedelta(hours=1)).replace(microsecond=0)


def test_an_svid_never_outlives_what_is_above_it() -> None:
    """Nor the root: an issuing certificate may (wrongly) promise more than its root."""
    root_key = make_key()
    root = build_root(root_key, trust_domain=TRUST_DOMAIN, now=NOW - timedelta(days=3649), serial=1)
    key = make_key()
    issuing = build_issuing(
        key.public_key(), root=root, root_key=root_key, trust_domain=TRUST_DOMAIN, now=NOW, serial=2
    )
    assert issuing.not_valid_after_utc == root.not_valid_after_utc
    issuer = assemble_issuer(
        key, certificate=issuing, intermediates=(), roots=(root,), trust_domain=TRUST_DOMAIN, now=NOW
    )
    assert svid(issuer=issuer, lifetime=timedelta(days=9)).not_valid_after_utc == root.not_valid_after_utc


def test_an_svid_ends_with_a_root_that_ends_before_its_issuing_certificate() -> None:
    """A plugged-in issuing certificate may promise more than the root in the bundle keeps."""
    root_key, key = make_key(), make_key()
    long = build_root(root_key, trust_domain=TRUST_DOMAIN, now=NOW, serial=1)
    short = build_root(root_key, trust_domain=TRUST_DOMAIN, now=NOW - timedelta(days=3649), serial=1)
    issuing = build_issuing(
        key.public_key(), root=long, root_key=root_key, trust_domain=TRUST_DOMAIN, now=NOW, serial=2
    )
    issuer = assemble_issuer(
        key, certificate=issuing, intermediates=(), roots=(short,), trust_domain=TRUST_DOMAIN, now=NOW
    )
    assert issuer.ends == short.not_valid_after_utc < issuing.not_valid_after_utc
    assert svid(issuer=issuer, lifetime=timedelta(days=9)).not_valid_after_utc == short.not_valid_after_utc


def test_authorities_say_how_many_may_follow() -> None:
    depths = [
        certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        for certificate in (ISSUER.roots[0], ISSUER.certificate)
    ]
    assert depths == [1, 0]


def test_a_good_svid_verifies_along_the_whole_path() -> None:
    leaf = svid()
    assert verify(leaf) == (leaf, ISSUER.certificate, ISSUER.roots[0])


@pytest.mark.parametrize(
    "make", [lambda: ec.generate_private_key(ec.SECP384R1()), lambda: rsa.generate_private_key(65537, 2048)]
)
def test_authorities_with_other_keys_work(make: Callable[[], PrivateKey]) -> None:
    root_key, key = make(), make()
    root = build_root(root_key, trust_domain=TRUST_DOMAIN, now=NOW, serial=1)
    issuing = build_issuing(
        key.public_key(), root=root, root_key=root_key, trust_domain=TRUST_DOMAIN, now=NOW, serial=2
    )
    issuer = assemble_issuer(
        key, certificate=issuing, intermediates=(), roots=(root,), trust_domain=TRUST_DOMAIN, now=NOW
    )
    assert verify(svid(issuer=issuer), issuer=issuer)[-1] == root


def test_old_and_new_root_are_trusted_together() -> None:
    """While a root is replaced, certificates of either verify with the bundle of both."""
    new = make_issuer(also_trusted=ISSUER.roots)
    old_leaf, new_leaf = svid(), svid(issuer=new)
    for leaf, issuer in ((old_leaf, ISSUER), (new_leaf, new)):
        path = verify_svid(
            leaf,
            intermediates=issuer.chain,
            roots=new.roots,
            identity=FINANCE,
            public_key=KEY.public_key(),
            now=NOW,
        )
        assert path[-1] in issuer.roots
    assert len(new.roots) == 2


def test_a_foreign_authority_with_the_same_names_does_not_verify() -> None:
    with pytest.raises(IdentityError, match="does not chain"):
        verify(svid(issuer=make_issuer()))


@pytest.mark.parametrize("moment", [NOW - timedelta(minutes=3), NOW + timedelta(hours=25)])
def test_outside_of_its_dates_an_svid_does_not_verify(moment: datetime) -> None:
    with pytest.raises(IdentityError, match="does not chain"):
        verify(svid(), now=moment)


def test_another_workloads_identity_or_key_is_not_what_was_promised() -> None:
    for identity, key in ((WEB, KEY), (FINANCE, make_key())):
        with pytest.raises(IdentityError, match="not what was promised"):
            verify_svid(
                svid(),
                intermediates=ISSUER.chain,
                roots=ISSUER.roots,
                identity=identity,
                public_key=key.public_key(),
                now=NOW,
            )


USAGE = svid().extensions.get_extension_for_class(x509.KeyUsage).value
SIGNING_USAGE = ISSUER.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def usage(also: str) -> x509.KeyUsage:
    """That of a workload's key, and one more."""
    return x509.KeyUsage(**{use: use in {"digital_signature", also} for use in USES})


URI = x509.UniformResourceIdentifier(FINANCE.uri)
NAMES = x509.SubjectAlternativeName([URI])
PURPOSES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
LEAF = x509.BasicConstraints(ca=False, path_length=None)


@pytest.mark.parametrize(
    ("extensions", "says"),
    [
        pytest.param((NAMES, LEAF, USAGE), "2.5.29.37", id="no purpose"),
        pytest.param((LEAF, USAGE, PURPOSES), "2.5.29.17", id="no name"),
        pytest.param(
            (x509.SubjectAlternativeName([URI, x509.DNSName("a")]), LEAF, USAGE, PURPOSES), "its names", id="two names"
        ),
        pytest.param((NAMES, x509.BasicConstraints(ca=True, path_length=0), USAGE, PURPOSES), "could sign", id="a CA"),
        pytest.param((NAMES, LEAF, SIGNING_USAGE, PURPOSES), "could sign", id="an authority's usage"),
        pytest.param((NAMES, LEAF, usage("key_cert_sign"), PURPOSES), "could sign", id="certificate signing usage"),
        pytest.param((NAMES, LEAF, usage("crl_sign"), PURPOSES), "could sign", id="revocation signing usage"),
        pytest.param(
            (NAMES, LEAF, USAGE, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])), "both sides", id="server"
        ),
    ],
)
def test_a_certificate_of_our_own_issuer_with_another_profile_is_not_handed_out(
    extensions: tuple[x509.ExtensionType, ...], says: str
) -> None:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ISSUER.certificate.subject)
        .public_key(KEY.public_key())
        .serial_number(5)
        .not_valid_before(NOW - BACKDATE)
        .not_valid_after(NOW + timedelta(hours=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    with pytest.raises(IdentityError, match=says):
        verify(builder.sign(ISSUER.key, hashes.SHA256()))


def test_an_issuing_certificate_cannot_make_an_authority_below_it() -> None:
    """Path length 0: who steals an issuing key can't hide behind an authority of their own."""
    key = make_key()
    below = build_issuing(
        key.public_key(),
        root=ISSUER.certificate,
        root_key=ISSUER.key,
        trust_domain=TRUST_DOMAIN,
        now=NOW,
        serial=9,
    )
    with pytest.raises(IdentityError, match="does not chain"):
        assemble_issuer(
            key,
            certificate=below,
            intermediates=ISSUER.chain,
            roots=ISSUER.roots,
            trust_domain=TRUST_DOMAIN,
            now=NOW,
        )


def test_a_root_that_issues_itself_sends_no_chain() -> None:
    key, root = make_root()
    issuer = assemble_issuer(
        key, certificate=root, intermediates=(root,), roots=(root,), trust_domain=TRUST_DOMAIN, now=NOW
    )
    assert issuer.chain == ()
    leaf = svid(issuer=issuer)
    assert verify(leaf, issuer=issuer) == (leaf, root)


def test_the_chain_leaves_out_roots_and_repeats() -> None:
    """Istio's `cert-chain.pem` has the issuing certificate first and the root last."""
    issuer = assemble_issuer(
        ISSUER.key,
        certificate=ISSUER.certificate,
        intermediates=(ISSUER.certificate, *ISSUER.roots),
        roots=ISSUER.roots,
        trust_domain=TRUST_DOMAIN,
        now=NOW,
    )
    assert issuer.chain == (ISSUER.certificate,)


def test_an_issuers_repr_shows_no_key() -> None:
    secret = ISSUER.key.private_numbers().private_value if isinstance(ISSUER.key, ec.EllipticCurvePrivateKey) else 0
    assert secret
    assert "key" not in repr(ISSUER).lower()
    assert str(secret) not in repr(ISSUER)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is the independent verifier here")
@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_openssl_agrees_with_the_whole_chain(tmp_path: Path, purpose: str) -> None:
    roots, chain, leaf = (tmp_path / name for name in ("roots.pem", "chain.pem", "leaf.pem"))
    roots.write_bytes(b"".join(map(certificate_pem, ISSUER.roots)))
    chain.write_bytes(b"".join(map(certificate_pem, ISSUER.chain)))
    leaf.write_bytes(certificate_pem(svid()))
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-attime", str(int(NOW.timestamp()))]
    finished = subprocess.run(
        [*command, "-CAfile", roots, "-untrusted", chain, leaf], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr


def test_authorities_may_sign_certificates_and_nothing_else() -> None:
    issuer = make_issuer()
    (root,) = issuer.roots
    for certificate, below in ((root, 1), (issuer.certificate, 0)):
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, below)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        assert said(usage.value) == {"key_cert_sign", "crl_sign"}
        own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        assert not own.critical, "RFC 5280, 4.2.1.2"
    names = [
        name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value for name in (root.subject, issuer.certificate.subject)
    ]
    assert names == [
        f"peerauth root {root.serial_number & 0xFFFFFFFF:08x}",
        f"peerauth issuing {issuer.certificate.serial_number & 0xFFFFFFFF:08x}",
    ]


def test_a_workloads_key_may_sign_and_nothing_else() -> None:
    usage = svid(issuer=make_issuer()).extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert said(usage.value) == {"digital_signature"}


def said(usage: x509.KeyUsage) -> set[str]:
    """What a key may be used for."""
    return {use for use in USES if not use.endswith("_only") and getattr(usage, use)}


def test_what_an_authority_cannot_issue_with_is_said_by_its_name() -> None:
    root_key, root = make_root()
    leaf = build_svid(root_key.public_key(), identity=FINANCE, issuer=make_issuer(), now=NOW, serial=1)
    cases = {
        "is for another key": (make_key(), root, NOW),
        "is not valid before": (root_key, root, NOW - timedelta(days=1)),
        "ended": (root_key, root, NOW + timedelta(days=4000)),
        "is not an authority's": (root_key, leaf, NOW),
    }
    for says, (key, certificate, now) in cases.items():
        with pytest.raises(IdentityError, match=says):
            assemble_issuer(
                key, certificate=certificate, intermediates=(), roots=(root,), trust_domain=TRUST_DOMAIN, now=now
            )
