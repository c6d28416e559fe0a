"""A run follows its authority's folder, and takes nothing from it that would part those who are to meet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from peerauth.ca.service import CertificateAuthority
from peerauth.ca.store import CA_CERT, CA_KEY, ROOT_CERT
from peerauth.identity.keys import private_key_pem
from peerauth.identity.x509 import Issuer, certificate_pem
from peerauth.model.diagnostic import Diagnostic
from peerauth.runtime.authority import follow_authority, open_authority
from pki import TRUST_DOMAIN, make_issuer


def now() -> datetime:
    return datetime.now(UTC)


def put(folder: Path, issuer: Issuer, *, roots: bytes) -> None:
    """An operator's files, the root first."""
    said = {
        ROOT_CERT: roots,
        CA_CERT: certificate_pem(issuer.certificate),
        CA_KEY: private_key_pem(issuer.key),
    }
    for name, content in said.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)


def roots(*issuers: Issuer) -> bytes:
    return b"".join(certificate_pem(issuer.roots[0]) for issuer in issuers)


class Followed:
    """An authority that follows a folder, and what it told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.told: asyncio.Queue[Diagnostic] = asyncio.Queue()
        self._issuer = self.reopen()
        self.authority = CertificateAuthority(self._issuer, trust_domain=TRUST_DOMAIN, now=now)

    async def run(self) -> None:
        tell = self.told.put_nowait
        await follow_authority(self.authority, self._issuer, reopen=self.reopen, tell=tell, every=0.005)

    def reopen(self) -> Issuer:
        return open_authority(self._folder, trust_domain=TRUST_DOMAIN, plugged_in=True)

    async def trusts(self, wanted: bytes) -> None:
        async with asyncio.timeout(10):
            while self.authority.roots_pem != wanted:  # noqa: ASYNC110  nothing tells
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def following(folder: Path) -> AsyncIterator[Followed]:
    followed = Followed(folder)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(followed.run())
        yield followed
        task.cancel()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "plugged-in"
    made.mkdir(mode=0o700)
    return made


async def test_a_root_is_replaced_step_by_step(folder: Path) -> None:
    old, new = make_issuer(now=now()), make_issuer(now=now())
    put(folder, old, roots=roots(old))
    async with following(folder) as followed:
        for issuer, trusted in ((old, roots(old, new)), (new, roots(old, new)), (new, roots(new))):
            put(folder, issuer, roots=trusted)
            await followed.trusts(trusted)
        assert followed.told.empty()


async def test_what_shares_no_root_is_told_once_and_not_used(folder: Path) -> None:
    old, new = make_issuer(now=now()), make_issuer(now=now())
    put(folder, old, roots=roots(old))
    async with following(folder) as followed:
        put(folder, new, roots=roots(new))
        async with asyncio.timeout(10):
            assert "none of the roots in use" in (await followed.told.get()).message
        put(folder, old, roots=roots(old, new))
        await followed.trusts(roots(old, new))
        assert followed.told.empty()


async def test_files_that_do_not_fit_together_are_told_once_and_change_nothing(folder: Path) -> None:
    old, new = make_issuer(now=now()), make_issuer(now=now())
    put(folder, old, roots=roots(old))
    async with following(folder) as followed:
        (folder / CA_KEY).write_bytes(private_key_pem(new.key))
        async with asyncio.timeout(10):
            assert CA_KEY in (await followed.told.get()).message
        assert followed.authority.roots_pem == roots(old)
        put(folder, old, roots=roots(old, new))
        await followed.trusts(roots(old, new))
        assert followed.told.empty()
