"""The control plane's own certificate: trusted by the mesh, for its names, and no workload's."""

from __future__ import annotations

import ipaddress
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from peerauth.ca.serving import make_serving_certificate
from samples.pki import NOW, make_issuer


def test_it_verifies_for_its_names_and_has_no_spiffe_identity() -> None:
    issuer = make_issuer()
    made = make_serving_certificate(["istiod.istio-system.svc", "10.0.0.1"], issuer=issuer, now=NOW)
    leaf, *between = x509.load_pem_x509_certificates(made.chain)
    verifier = PolicyBuilder().store(Store(list(issuer.roots))).time(NOW)
    names = (x509.DNSName("istiod.istio-system.svc"), x509.IPAddress(ipaddress.ip_address("10.0.0.1")))
    for name in names:
        assert verifier.build_server_verifier(name).verify(leaf, between)
    assert list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == list(names)
    assert NOW < made.renew_at < leaf.not_valid_after_utc
    assert "PRIVATE" not in repr(made)


@pytest.mark.parametrize(
    ("left", "lives"),
    [(timedelta(days=30), timedelta(hours=24)), (timedelta(hours=3), timedelta(hours=3))],
)
def test_it_lives_a_day_and_never_beyond_what_signed_it(left: timedelta, lives: timedelta) -> None:
    issuer = make_issuer()
    now = issuer.ends - left
    made = make_serving_certificate(["istiod.istio-system.svc"], issuer=issuer, now=now)
    (leaf, *_) = x509.load_pem_x509_certificates(made.chain)
    assert leaf.not_valid_after_utc == now + lives
    assert made.renew_at == now + lives * 2 / 3
