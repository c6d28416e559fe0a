"""Which certificate requests are accepted, and what a refused one is told."""

from __future__ import annotations

from base64 import encodebytes

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from peerauth.identity.csr import MAX_CSR_BYTES, CheckedCsr, CsrRefusal, RefusalKind, check_csr, make_csr
from peerauth.identity.keys import PrivateKey
from samples.pki import FINANCE, WEB, make_key

URI = x509.UniformResourceIdentifier(FINANCE.uri)
KEY = make_key()
GOOD = make_csr(KEY, FINANCE)


def request(*names: x509.GeneralName) -> bytes:
    """A well-signed request for any names at all."""
    builder = x509.CertificateSigningRequestBuilder(subject_name=x509.Name([]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


def refusal(pem: bytes) -> CsrRefusal:
    answer = check_csr(pem, entitled=FINANCE)
    assert isinstance(answer, CsrRefusal)
    assert "\n" not in answer.reason
    return answer


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(KEY, id="P-256"),
        pytest.param(ec.generate_private_key(ec.SECP384R1()), id="P-384"),
        pytest.param(rsa.generate_private_key(65537, 2048), id="RSA-2048"),
    ],
)
def test_a_request_for_the_callers_own_identity_yields_its_key(key: PrivateKey) -> None:
    assert check_csr(make_csr(key, FINANCE), entitled=FINANCE) == CheckedCsr(FINANCE, key.public_key())


def test_a_made_request_has_an_empty_subject_and_one_critical_uri() -> None:
    csr = x509.load_pem_x509_csr(GOOD)
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert (list(csr.subject), names.critical, list(names.value)) == ([], True, [URI])


@pytest.mark.parametrize(
    ("key", "says"),
    [
        pytest.param(ed25519.Ed25519PrivateKey.generate(), "Ed25519", id="Ed25519"),
        pytest.param(rsa.generate_private_key(65537, 1024), "1024 bits", id="RSA-1024"),  # noqa: S505  # the point
        pytest.param(rsa.generate_private_key(3, 2048), "exponent 3", id="RSA-e3"),
        pytest.param(ec.generate_private_key(ec.SECP521R1()), "secp521r1", id="P-521"),
        pytest.param(ec.generate_private_key(ec.SECP256K1()), "secp256k1", id="secp256k1"),
        pytest.param(dsa.generate_private_key(2048), "DSA", id="DSA"),
    ],
)
def test_other_keys_are_refused_by_name(
    key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey, says: str
) -> None:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder(subject_name=x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([URI]), critical=True)
    answer = refusal(builder.sign(key, algorithm).public_bytes(Encoding.PEM))
    assert answer.kind is RefusalKind.KEY
    assert says in answer.reason


def test_a_request_signed_by_another_key_proves_nothing() -> None:
    ours, theirs = x509.load_pem_x509_csr(GOOD), x509.load_pem_x509_csr(make_csr(make_key(), FINANCE))
    der = ours.public_bytes(Encoding.DER)
    # Signatures of two P-256 keys may differ in length by a byte or two: keep the outer length right by construction.
    for _ in range(200):
        if len(theirs.signature) == len(ours.signature):
            break
        theirs = x509.load_pem_x509_csr(make_csr(make_key(), FINANCE))
    forged = x509.load_der_x509_csr(der.replace(ours.signature, theirs.signature))
    answer = refusal(forged.public_bytes(Encoding.PEM))
    assert answer.kind is RefusalKind.PROOF
    assert "proof of possession" in answer.reason


def test_a_request_whose_content_was_changed_after_signing_is_refused() -> None:
    """The identity is swapped for another of the same length: the signature no longer covers it."""
    der = x509.load_pem_x509_csr(GOOD).public_bytes(Encoding.DER)
    other = x509.load_der_x509_csr(der.replace(b"/sa/finance", b"/sa/fonance"))
    assert refusal(other.public_bytes(Encoding.PEM)).kind is RefusalKind.PROOF


def test_a_weak_signature_is_refused_by_name() -> None:
    builder = x509.CertificateSigningRequestBuilder(subject_name=x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([URI]), critical=True)
    answer = refusal(builder.sign(KEY, hashes.SHA224()).public_bytes(Encoding.PEM))
    assert answer.kind is RefusalKind.PROOF
    assert "sha224" in answer.reason


@pytest.mark.parametrize(
    ("names", "says"),
    [
        pytest.param((), "0 subject alternative names", id="none"),
        pytest.param((URI, URI), "2 subject", id="twice the same"),
        pytest.param((URI, x509.DNSName("finance.foo.svc")), "2 subject", id="with a DNS name"),
        pytest.param((x509.DNSName("finance.foo.svc"),), "DNSName", id="DNS only"),
        pytest.param((x509.RFC822Name("spiffe@cluster.local"),), "RFC822Name", id="mail"),
        pytest.param((x509.UniformResourceIdentifier(WEB.uri),), str(WEB), id="another's identity"),
        pytest.param(
            (x509.UniformResourceIdentifier("spiffe://evil/ns/foo/sa/finance"),), "trust domain evil", id="other domain"
        ),
        pytest.param(
            (x509.UniformResourceIdentifier("spiffe://cluster.local.evil/ns/foo/sa/finance"),),
            "trust domain cluster.local.evil",
            id="domain that starts like ours",
        ),
        pytest.param((x509.UniformResourceIdentifier("https://cluster.local/"),), "SPIFFE", id="not SPIFFE"),
        pytest.param((x509.UniformResourceIdentifier(FINANCE.uri + "/../web"),), "form", id="path tricks"),
    ],
)
def test_any_other_names_are_refused_and_told(names: tuple[x509.GeneralName, ...], says: str) -> None:
    answer = refusal(request(*names))
    assert answer.kind is RefusalKind.ENTITLEMENT
    assert says in answer.reason


def test_an_authority_cannot_be_asked_for() -> None:
    """Only the key of a request is used, so asking to be a CA is neither honoured nor dangerous."""
    builder = x509.CertificateSigningRequestBuilder(subject_name=x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([URI]), critical=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=9), critical=True)
    answer = check_csr(builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM), entitled=FINANCE)
    assert answer == CheckedCsr(FINANCE, KEY.public_key())


@given(end=st.integers(0, len(GOOD) - 30))
def test_a_truncated_request_is_refused(end: int) -> None:
    assert refusal(GOOD[:end]).kind is RefusalKind.MALFORMED


@given(garbage=st.binary(max_size=400))
def test_garbage_is_refused(garbage: bytes) -> None:
    assert refusal(garbage).kind is RefusalKind.MALFORMED


@pytest.mark.parametrize("flip", [0x01, 0x02, 0x80, 0xFF])
def test_no_flipped_byte_of_a_request_is_accepted(flip: int) -> None:
    """Every byte of a DER request is either structure or signed: a change anywhere is refused, never an exception.

    But for one, which says how many bits at the end of the signature are padding: bits that are zero may be called so.
    """
    request = x509.load_pem_x509_csr(GOOD)
    der = request.public_bytes(Encoding.DER)
    padding = len(der) - len(request.signature) - 1
    assert der[padding] == 0
    for position in set(range(len(der))) - {padding}:
        changed = bytearray(der)
        changed[position] ^= flip
        refusal(
            b"-----BEGIN CERTIFICATE REQUEST-----\n" + encodebytes(changed) + b"-----END CERTIFICATE REQUEST-----\n"
        )


def test_a_huge_request_is_refused_unread() -> None:
    answer = refusal(GOOD + b"#" * MAX_CSR_BYTES)
    assert "at most" in answer.reason


def _der(tag: int, content: bytes) -> bytes:
    """A DER value; lengths of up to two bytes are enough here."""
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")


def test_a_signature_of_an_algorithm_that_does_not_go_with_the_key_proves_nothing() -> None:
    """What a request says of its signature is the sender's word: here RSA, and the key that it carries is on P-256."""
    signer = rsa.generate_private_key(65537, 2048)
    content = x509.load_pem_x509_csr(GOOD).tbs_certrequest_bytes
    signature = signer.sign(content, padding.PKCS1v15(), hashes.SHA256())
    whole = _der(0x30, content + RSA_SHA256 + _der(0x03, b"\0" + signature))
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n" + encodebytes(whole) + b"-----END CERTIFICATE REQUEST-----\n"
    assert refusal(pem).kind is RefusalKind.PROOF


@pytest.mark.parametrize("error", [ValueError("no such curve"), UnsupportedAlgorithm("not in this build")])
def test_a_signature_that_cannot_be_verified_proves_nothing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class Unverifiable:
        """A request whose signature the library cannot look at."""

        _csr = x509.load_pem_x509_csr(GOOD)
        extensions = _csr.extensions
        signature_hash_algorithm = hashes.SHA256()

        def public_key(self) -> object:
            return self._csr.public_key()

        @property
        def is_signature_valid(self) -> bool:
            raise error

    monkeypatch.setattr(x509, "load_pem_x509_csr", lambda _: Unverifiable())
    assert refusal(GOOD).kind is RefusalKind.PROOF


def test_a_request_of_the_longest_length_is_read() -> None:
    padded = GOOD + b"\n" * (MAX_CSR_BYTES - len(GOOD))
    assert isinstance(check_csr(padded, entitled=FINANCE), CheckedCsr)
    assert "at most" in refusal(padded + b"\n").reason
