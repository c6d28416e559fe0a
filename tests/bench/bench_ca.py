"""Certificates a second against the two operations that nobody can save: python tests/bench/bench_ca.py [--quick]

The limit is one verification (the request's proof of possession) and one signature (the certificate), both P-256 by the
same library in the same run. Above it lie reading the request, building the certificate, and reading back what was
built: a second verification, which this authority does before it hands a certificate out. All take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from statistics import median

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from peerauth.ca.service import CertificateAuthority
from peerauth.identity.csr import CheckedCsr, IssuedCertificate, check_csr, make_csr
from peerauth.identity.keys import CURVE
from peerauth.identity.spiffe import SpiffeId
from peerauth.identity.x509 import Issuer, assemble_issuer, build_issuing, build_root, build_svid, verify_svid

DOMAIN = "cluster.local"
CALLER = SpiffeId(DOMAIN, "foo", "finance")
ECDSA = ec.ECDSA(hashes.SHA256())
ROUNDS = 9
THREADS = 2
Way = Callable[[int], Awaitable[None]]


def make_issuer(now: datetime) -> Issuer:
    root_key, key = ec.generate_private_key(CURVE), ec.generate_private_key(CURVE)
    root = build_root(root_key, trust_domain=DOMAIN, now=now, serial=1)
    issuing = build_issuing(key.public_key(), root=root, root_key=root_key, trust_domain=DOMAIN, now=now, serial=2)
    return assemble_issuer(key, certificate=issuing, intermediates=(), roots=(root,), trust_domain=DOMAIN, now=now)


class Bed:
    """An authority, a request, and the ways that take turns; each does its work `times` times."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        self.issuer = make_issuer(self.now)
        self.key = ec.generate_private_key(CURVE)
        self.request = make_csr(self.key, CALLER)
        self.csr = x509.load_pem_x509_csr(self.request)
        self.authority = CertificateAuthority(self.issuer, trust_domain=DOMAIN, now=lambda: self.now)

    async def limit(self, times: int) -> None:
        public, signature, signed = self.key.public_key(), self.csr.signature, self.csr.tbs_certrequest_bytes
        key = self.issuer.key
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        for _ in range(times):
            public.verify(signature, signed, ECDSA)
            key.sign(signed, ECDSA)

    async def authority_signs(self, times: int) -> None:
        for _ in range(times):
            assert isinstance(await self.authority.sign(self.request, caller=CALLER), IssuedCertificate)

    async def request_is_checked(self, times: int) -> None:
        for _ in range(times):
            assert isinstance(check_csr(self.request, entitled=CALLER), CheckedCsr)

    async def certificate_is_built(self, times: int) -> None:
        for _ in range(times):
            self._build()

    async def certificate_is_built_and_verified(self, times: int) -> None:
        public, roots = self.key.public_key(), (self.issuer.certificate,)
        for _ in range(times):
            leaf = self._build()
            verify_svid(leaf, intermediates=(), roots=roots, identity=CALLER, public_key=public, now=self.now)

    async def two_threads(self, times: int) -> None:
        """The whole, on two threads at once; `times` in all."""

        def some() -> None:
            asyncio.run(self.authority_signs(times // THREADS))

        with ThreadPoolExecutor(THREADS) as pool:
            for done in [pool.submit(some) for _ in range(THREADS)]:
                done.result()

    def _build(self) -> x509.Certificate:
        serial = x509.random_serial_number()
        return build_svid(self.key.public_key(), identity=CALLER, issuer=self.issuer, now=self.now, serial=serial)


async def seconds(way: Way, times: int, *, clock: Callable[[], float] = time.process_time) -> float:
    start = clock()
    await way(times)
    return (clock() - start) / times


async def run(*, times: int) -> None:
    bed = Bed()
    ways: dict[str, Way] = {
        "limit: 1 verify + 1 sign": bed.limit,
        "request to certificate": bed.authority_signs,
        "  the request is checked": bed.request_is_checked,
        "  the certificate is built": bed.certificate_is_built,
        "  it is built and verified": bed.certificate_is_built_and_verified,
    }
    rounds = [[await seconds(way, times) for way in ways.values()] for _ in range(ROUNDS)]
    print(f"{'processor time':32}{'us':>8}{'a second':>10}{'limit /':>9}")
    for at, name in enumerate(ways):
        taken, ratio = median(one[at] for one in rounds), median(one[0] / one[at] for one in rounds)
        goal = "  goal 0.5" if at == 1 else ""
        print(f"{name:32}{taken * 1e6:8.1f}{1 / taken:10.0f}{ratio:9.2f}{goal}")
    one, two = [], []
    for _ in range(ROUNDS):
        one.append(await seconds(bed.authority_signs, times, clock=time.perf_counter))
        two.append(await seconds(bed.two_threads, times, clock=time.perf_counter))
    print(f"two threads do {median(one) / median(two):.2f} times as many as one in the same time")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="as short as can be: whether it runs, not what it costs")
    asyncio.run(run(times=4 if parser.parse_args().quick else 300))


if __name__ == "__main__":
    main()
