"""A workload's certificate: obtained, published, renewed; through failing, lying and silent authorities."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from msgspec.structs import replace

from peerauth.agent.sds import Signer, WorkloadCertificate, certificate_secret
from peerauth.aio import spawn
from peerauth.ca.service import CertificateAuthority
from peerauth.dataplane.type_urls import SECRET
from peerauth.errors import PlatformError
from peerauth.identity.csr import CsrRefusal, IssuedCertificate, make_csr
from peerauth.identity.keys import private_key_pem
from peerauth.identity.spiffe import SpiffeId
from samples.pki import FINANCE, NOW, TRUST_DOMAIN, WEB, Clock, make_issuer, make_key

DAY = timedelta(hours=24)


class Reached(Exception):  # noqa: N818  # not an error
    """Ends a run where a test wanted it."""


class World:
    """An authority, a workload's certificate, a clock that jumps over every sleep, and what reached the proxy."""

    def __init__(self, *, jitter: float = 0.5, answer_timeout: float = 30.0) -> None:
        self.clock = Clock()
        self.authority = CertificateAuthority(make_issuer(), trust_domain=TRUST_DOMAIN, now=self.clock)
        self.asked: list[datetime] = []
        self.published: list[tuple[datetime, str, bytes]] = []
        self.slept: list[float] = []
        self.done: Callable[[], bool] = lambda: False
        self.answer: Signer = partial(self.authority.sign, caller=FINANCE)
        self.certificate = WorkloadCertificate(
            FINANCE,
            sign=self.sign,
            publish=self.publish,
            now=self.clock,
            sleep=self.sleep,
            jitter=lambda: jitter,
            answer_timeout=answer_timeout,
        )

    async def sign(self, csr_pem: bytes, /) -> IssuedCertificate | CsrRefusal:
        self.asked.append(self.clock())
        return await self.answer(csr_pem)

    def publish(self, name: str, secret: bytes, /) -> None:
        self.published.append((self.clock(), name, secret))

    async def sleep(self, seconds: float) -> None:
        if self.done():
            raise Reached
        self.slept.append(seconds)
        self.clock.advance(timedelta(seconds=seconds))
        await asyncio.sleep(0)

    async def run_until(self, done: Callable[[], bool]) -> None:
        """Runs the certificate until it goes to sleep with `done` true; what it knows stays for the next run."""
        self.done = done
        async with asyncio.timeout(20):
            with suppress(Reached):
                await self.certificate.run()

    def names(self) -> list[str]:
        return [name for _, name, _ in self.published]

    def latest(self, name: str) -> Secret:
        return Secret.FromString([secret for _, published, secret in self.published if published == name][-1])


def leaf_of(secret: Secret) -> x509.Certificate:
    return x509.load_pem_x509_certificates(secret.tls_certificate.certificate_chain.inline_bytes)[0]


async def test_the_first_certificate_is_published_with_its_key_and_the_roots_before_it() -> None:
    world = World()
    await world.run_until(world.certificate.ready.is_set)
    assert world.names() == ["ROOTCA", "default"]
    secret = world.latest("default")
    key = load_pem_private_key(secret.tls_certificate.private_key.inline_bytes, None)
    assert leaf_of(secret).public_key() == key.public_key()
    assert secret.name == "default"
    assert secret.tls_certificate.certificate_chain.inline_bytes.count(b"BEGIN CERTIFICATE") == 2
    assert world.latest("ROOTCA").validation_context.trusted_ca.inline_bytes == world.authority.roots_pem
    assert SECRET.endswith(Secret.DESCRIPTOR.full_name)


async def test_nothing_is_ready_before_there_is_a_certificate() -> None:
    world = World()
    world.answer = refuse
    await world.run_until(lambda: len(world.asked) == 5)
    assert not world.certificate.ready.is_set()
    assert world.published == []
    assert world.certificate.ends is None


async def refuse(csr_pem: bytes, /) -> CsrRefusal:
    return CsrRefusal("not today")


async def test_renewal_comes_between_half_and_eight_tenths_with_a_new_key_and_the_same_roots_unsent() -> None:
    for jitter in (0.0, 0.5, 0.999):
        world = World(jitter=jitter)
        await world.run_until(lambda world=world: world.names().count("default") == 4)  # type: ignore[misc]
        assert world.names() == ["ROOTCA", "default", "default", "default", "default"]
        gaps = [b - a for a, b in pairwise(world.asked)]
        assert all(DAY * 0.49 < gap < DAY * 0.81 for gap in gaps)
        keys = {
            Secret.FromString(secret).tls_certificate.private_key.inline_bytes for _, _, secret in world.published[1:]
        }
        assert len(keys) == 4


async def test_a_resumed_machine_notices_within_a_minute() -> None:
    """No sleep is longer than that, whatever the certificate's life."""
    world = World()
    await world.run_until(lambda: world.names().count("default") == 2)
    assert max(world.slept) <= 60


async def test_a_cancelled_run_ends_and_leaves_what_is_published() -> None:
    world = World()
    asleep, never = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        asleep.set()
        await never.wait()

    world.certificate = WorkloadCertificate(
        FINANCE, sign=world.sign, publish=world.publish, now=world.clock, sleep=sleep
    )
    async with asyncio.TaskGroup() as group:
        running = spawn(group, world.certificate.run(), name="certificate of finance")
        await asleep.wait()
        assert world.certificate.ready.is_set()
        running.cancel()
    assert running.cancelled()
    assert running.get_name() == "certificate of finance"
    assert world.names() == ["ROOTCA", "default"]


async def test_a_new_root_is_published_before_the_certificate_below_it() -> None:
    world = World()
    await world.run_until(world.certificate.ready.is_set)
    old = x509.load_pem_x509_certificates(world.authority.roots_pem)
    world.authority.use(make_issuer(also_trusted=tuple(old)))
    await world.run_until(lambda: world.names().count("default") == 2)
    assert world.names() == ["ROOTCA", "default", "ROOTCA", "default"]
    roots = x509.load_pem_x509_certificates(world.latest("ROOTCA").validation_context.trusted_ca.inline_bytes)
    assert len(roots) == 2
    assert set(old) < set(roots)


async def unreachable(csr_pem: bytes, /) -> CsrRefusal:
    raise PlatformError("connection refused")


async def broken(csr_pem: bytes, /) -> CsrRefusal:
    raise RuntimeError("a fault in the authority's client")


@pytest.mark.parametrize("failing", [refuse, unreachable, broken])
async def test_while_the_authority_fails_the_old_certificate_stays_and_attempts_back_off(failing: Signer) -> None:
    world = World()
    await world.run_until(world.certificate.ready.is_set)
    before = list(world.published)
    world.answer = failing
    await world.run_until(lambda: len(world.asked) == 20)
    assert world.published == before
    gaps = [(b - a).total_seconds() for a, b in pairwise(world.asked[1:])]
    assert gaps[0] < 1.5
    assert gaps[:8] == sorted(gaps[:8])
    assert all(0.8 <= gap <= 150 for gap in gaps)


async def test_the_authority_comes_back_and_so_does_the_certificate() -> None:
    """Also after the old one has ended: the loop never gives up."""
    world = World()
    good = world.answer
    await world.run_until(world.certificate.ready.is_set)
    world.answer = refuse
    await world.run_until(lambda: world.clock() > NOW + DAY * 2)
    assert world.names().count("default") == 1
    world.answer = good
    await world.run_until(lambda: world.names().count("default") == 2)
    assert leaf_of(world.latest("default")).not_valid_after_utc > world.clock()


async def test_an_authority_that_says_nothing_is_given_up_on() -> None:
    world = World(answer_timeout=0.01)
    good = world.answer

    async def silent(csr_pem: bytes, /) -> CsrRefusal:
        world.answer = good
        await asyncio.Event().wait()
        raise AssertionError

    world.answer = silent
    await world.run_until(world.certificate.ready.is_set)
    assert len(world.asked) == 2


def altered(world: World, change: Callable[[IssuedCertificate], IssuedCertificate]) -> Signer:
    good = world.answer

    async def answer(csr_pem: bytes, /) -> IssuedCertificate | CsrRefusal:
        issued = await good(csr_pem)
        assert isinstance(issued, IssuedCertificate)
        return change(issued)

    return answer


async def for_another(world: World, *, identity: SpiffeId) -> IssuedCertificate:
    issued = await world.authority.sign(make_csr(make_key(), identity), caller=identity)
    assert isinstance(issued, IssuedCertificate)
    return issued


async def test_an_answer_for_another_key_or_workload_never_reaches_the_proxy(caplog: pytest.LogCaptureFixture) -> None:
    for identity in (FINANCE, WEB):
        world = World()
        other = await for_another(world, identity=identity)
        world.answer = altered(world, lambda issued, other=other: other)  # type: ignore[misc]
        await world.run_until(lambda world=world: len(world.asked) == 3)  # type: ignore[misc]
        assert world.published == []
    assert "not what was promised" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda issued: replace(issued, roots=()), id="no roots"),
        pytest.param(lambda issued: replace(issued, chain=()), id="no chain"),
        pytest.param(lambda issued: replace(issued, chain=issued.chain[:1]), id="no intermediate"),
        pytest.param(lambda issued: replace(issued, chain=(b"garbage",)), id="garbage"),
        pytest.param(lambda issued: replace(issued, chain=(issued.chain[0][:300],)), id="truncated"),
    ],
)
async def test_an_answer_that_peers_would_refuse_never_reaches_the_proxy(
    change: Callable[[IssuedCertificate], IssuedCertificate],
) -> None:
    world = World()
    world.answer = altered(world, change)
    await world.run_until(lambda: len(world.asked) == 3)
    assert world.published == []


async def test_an_ended_certificate_is_refused_and_retried_without_haste() -> None:
    """An authority whose clock is days behind."""
    world = World()
    slow = CertificateAuthority(
        make_issuer(now=NOW - timedelta(days=9)), trust_domain=TRUST_DOMAIN, now=Clock(NOW - timedelta(days=9))
    )
    world.answer = partial(slow.sign, caller=FINANCE)
    await world.run_until(lambda: len(world.asked) == 10)
    assert world.published == []
    assert world.clock() - NOW > timedelta(seconds=100)


async def test_a_certificate_of_the_future_is_used_and_not_renewed_in_a_loop() -> None:
    """An authority whose clock is ahead: to wait for the clocks to agree is to leave the workload with nothing."""
    world = World()
    ahead = Clock(NOW + timedelta(hours=1))
    fast = CertificateAuthority(make_issuer(now=ahead()), trust_domain=TRUST_DOMAIN, now=ahead)
    world.answer = partial(fast.sign, caller=FINANCE)
    await world.run_until(world.certificate.ready.is_set)
    await world.run_until(lambda: world.clock() > NOW + timedelta(hours=6))
    assert len(world.asked) == 1


async def test_logs_and_repr_never_show_key_material(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world = World()
    await world.run_until(world.certificate.ready.is_set)
    world.answer = refuse
    await world.run_until(lambda: world.clock() > NOW + DAY * 2)
    shown = caplog.text + repr(world.certificate) + repr(vars(world.certificate))
    pem = world.latest("default").tls_certificate.private_key.inline_bytes.decode()
    assert "PRIVATE KEY" not in shown
    assert not any(line in shown for line in pem.splitlines())
    assert "not today" in caplog.text
    assert any(record.levelno == logging.ERROR for record in caplog.records), "an ended certificate is an error"


def test_equal_secrets_have_equal_bytes() -> None:
    key = make_key()
    assert certificate_secret("a", b"chain", key) == certificate_secret("a", b"chain", key)
    assert private_key_pem(key) in certificate_secret("a", b"chain", key)
