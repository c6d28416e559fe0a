"""What the authority answers: verified certificates for the caller's own identity, refusals with the reason."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from msgspec.structs import replace

from peerauth.ca import service
from peerauth.ca.attest import entitlement
from peerauth.ca.service import CertificateAuthority
from peerauth.errors import IdentityError
from peerauth.identity.csr import CsrRefusal, IssuedCertificate, RefusalKind, make_csr
from peerauth.identity.spiffe import SpiffeId
from peerauth.identity.x509 import ISSUING_LIFETIME, build_svid, certificate_pem, verify_svid
from samples.pki import FINANCE, NOW, TRUST_DOMAIN, WEB, Clock, make_issuer, make_key, make_root

KEY = make_key()
CSR = make_csr(KEY, FINANCE)


def authority(clock: Clock | None = None, *, max_lifetime: timedelta = timedelta(days=90)) -> CertificateAuthority:
    return CertificateAuthority(
        make_issuer(), trust_domain=TRUST_DOMAIN, now=clock or Clock(), max_lifetime=max_lifetime
    )


async def issued(ca: CertificateAuthority, lifetime: timedelta | None = None) -> IssuedCertificate:
    answer = await ca.sign(CSR, caller=FINANCE, lifetime=lifetime)
    assert isinstance(answer, IssuedCertificate)
    return answer


async def refused(ca: CertificateAuthority, **kwargs: timedelta) -> CsrRefusal:
    answer = await ca.sign(CSR, caller=FINANCE, **kwargs)
    assert isinstance(answer, CsrRefusal)
    return answer


async def test_a_callers_own_request_yields_a_chain_that_verifies_to_the_roots() -> None:
    answer = await issued(authority())
    leaf, *between = x509.load_pem_x509_certificates(answer.chain_pem)
    roots = x509.load_pem_x509_certificates(answer.roots_pem)
    path = verify_svid(leaf, intermediates=between, roots=roots, identity=FINANCE, public_key=KEY.public_key(), now=NOW)
    assert path == (leaf, *between, *roots)
    assert (answer.identity, answer.serial) == (FINANCE, leaf.serial_number)
    assert (answer.not_before, answer.not_after) == (leaf.not_valid_before_utc, leaf.not_valid_after_utc)


async def test_each_certificate_is_an_element_of_its_own_as_the_wire_wants_it() -> None:
    answer = await issued(authority())
    for pem in (*answer.chain, *answer.roots):
        assert len(x509.load_pem_x509_certificates(pem)) == 1
    assert len(answer.chain) == 2
    assert IssuedCertificate.parse(FINANCE, chain=answer.chain, roots=answer.roots) == answer


def test_an_answer_without_a_readable_leaf_is_an_error() -> None:
    for chain in ((), (b"no certificate",)):
        with pytest.raises(IdentityError, match="no readable certificate"):
            IssuedCertificate.parse(FINANCE, chain=chain, roots=())


async def test_lifetime_is_24_hours_or_what_was_asked() -> None:
    whole = NOW.replace(microsecond=0)
    assert (await issued(authority())).not_after == whole + timedelta(hours=24)
    assert (await issued(authority(), timedelta(minutes=10))).not_after == whole + timedelta(minutes=10)


async def test_serial_numbers_differ() -> None:
    ca = authority()
    assert (await issued(ca)).serial != (await issued(ca)).serial


@pytest.mark.parametrize("lifetime", [timedelta(), timedelta(seconds=-1), timedelta(days=8), timedelta.max])
async def test_a_lifetime_out_of_bounds_is_refused_not_shortened(lifetime: timedelta) -> None:
    answer = await refused(authority(max_lifetime=timedelta(days=7)), lifetime=lifetime)
    assert answer.kind is RefusalKind.LIFETIME
    assert "604800" in answer.reason


async def test_nobody_is_given_more_than_ninety_days() -> None:
    """The issuing certificate lives longer than that, so that it is the limit that is seen here."""
    longest = timedelta(days=90)
    ca = CertificateAuthority(make_issuer(), trust_domain=TRUST_DOMAIN, now=Clock())
    assert (await issued(ca, longest)).not_after == NOW.replace(microsecond=0) + longest
    answer = await ca.sign(CSR, caller=FINANCE, lifetime=longest + timedelta(seconds=1))
    assert isinstance(answer, CsrRefusal)
    assert answer.kind is RefusalKind.LIFETIME


@pytest.mark.parametrize("lifetime", [timedelta(), timedelta(seconds=-1), timedelta(days=90, seconds=1)])
def test_an_authority_whose_own_default_is_out_of_bounds_is_a_configuration_error(lifetime: timedelta) -> None:
    with pytest.raises(IdentityError, match="default lifetime"):
        CertificateAuthority(make_issuer(), trust_domain=TRUST_DOMAIN, now=Clock(), default_lifetime=lifetime)


async def test_the_shortest_life_is_a_second_and_the_longest_may_be_the_default() -> None:
    whole = NOW.replace(microsecond=0)
    second, week = timedelta(seconds=1), timedelta(days=7)
    for life in (second, week):
        ca = CertificateAuthority(
            make_issuer(), trust_domain=TRUST_DOMAIN, now=Clock(), default_lifetime=life, max_lifetime=week
        )
        assert (await issued(ca)).not_after == whole + life
        assert (await issued(ca, second)).not_after == whole + second


async def test_nothing_is_issued_from_the_moment_that_the_issuer_ends() -> None:
    issuer = make_issuer()
    ca = CertificateAuthority(issuer, trust_domain=TRUST_DOMAIN, now=Clock(issuer.ends))
    assert (await refused(ca)).kind is RefusalKind.AUTHORITY


def test_a_default_above_the_maximum_is_a_configuration_error() -> None:
    with pytest.raises(IdentityError, match="default lifetime"):
        authority(max_lifetime=timedelta(hours=1))


async def test_one_workload_cannot_get_anothers_identity() -> None:
    answer = await authority().sign(make_csr(KEY, WEB), caller=FINANCE)
    assert isinstance(answer, CsrRefusal)
    assert answer.kind is RefusalKind.ENTITLEMENT


async def test_a_caller_of_another_trust_domain_gets_nothing() -> None:
    stranger = SpiffeId("elsewhere", "foo", "finance")
    answer = await authority().sign(make_csr(KEY, stranger), caller=stranger)
    assert isinstance(answer, CsrRefusal)
    assert "elsewhere" in answer.reason


def test_entitlement_is_to_oneself() -> None:
    assert entitlement(FINANCE, requested=FINANCE, trust_domain=TRUST_DOMAIN) == FINANCE
    assert isinstance(entitlement(FINANCE, requested=WEB, trust_domain=TRUST_DOMAIN), CsrRefusal)


async def test_certificates_end_with_the_issuer_and_then_there_are_none() -> None:
    clock = Clock()
    ca = authority(clock)
    clock.advance(ISSUING_LIFETIME - timedelta(hours=1))
    last = await issued(ca)
    assert last.not_after == (NOW + ISSUING_LIFETIME).replace(microsecond=0)
    clock.advance(timedelta(hours=1))
    answer = await refused(ca)
    assert answer.kind is RefusalKind.AUTHORITY
    assert "ended at" in answer.reason


async def test_a_new_issuer_signs_the_next_request_and_brings_its_bundle() -> None:
    clock = Clock()
    ca = authority(clock)
    old = await issued(ca)
    old_roots = x509.load_pem_x509_certificates(ca.roots_pem)
    ca.use(make_issuer(also_trusted=tuple(old_roots)))
    new = await issued(ca)
    assert set(old.roots) < set(new.roots)
    assert new.chain[1] != old.chain[1]
    assert ca.roots_pem == new.roots_pem


async def test_what_does_not_verify_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder gone wrong (here: it names another workload) is caught by reading the certificate back."""

    def wrong(*args: object, **kwargs: object) -> x509.Certificate:
        return build_svid(*args, **{**kwargs, "identity": WEB})  # type: ignore[arg-type]

    monkeypatch.setattr(service, "build_svid", wrong)
    with pytest.raises(IdentityError, match="not what was promised"):
        await authority().sign(CSR, caller=FINANCE)


async def test_an_issuer_whose_key_is_not_its_certificates_hands_nothing_out() -> None:
    """Nothing that a damaged key signs leaves the authority."""
    ca = authority()
    ca.use(replace(make_issuer(), key=make_key()))
    with pytest.raises(IdentityError, match="does not chain"):
        await ca.sign(CSR, caller=FINANCE)


def test_the_bundle_is_pem_of_every_root() -> None:
    _, other = make_root()
    issuer = make_issuer(also_trusted=(other,))
    ca = CertificateAuthority(issuer, trust_domain=TRUST_DOMAIN, now=Clock())
    assert ca.roots_pem == b"".join(map(certificate_pem, issuer.roots))
