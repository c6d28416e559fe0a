"""A run follows its authority's folder, and takes nothing from it that would part those who are to meet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from peerauth.ca.keyfiles import exclusive
from peerauth.ca.service import CertificateAuthority
from peerauth.ca.store import CA_CERT, CA_KEY, LOCK, ROOT_CERT
from peerauth.errors import LockedError
from peerauth.identity.keys import private_key_pem
from peerauth.identity.x509 import Issuer, certificate_pem
from peerauth.model.diagnostic import Diagnostic
from peerauth.runtime.authority import AuthorityFolder, follow_authority
from samples.pki import TRUST_DOMAIN, make_issuer


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

    def __init__(self, folder: Path, *, plugged_in: bool) -> None:
        self._folder = folder
        self._plugged_in = plugged_in
        self.told: asyncio.Queue[Diagnostic] = asyncio.Queue()
        self.mended: asyncio.Queue[str] = asyncio.Queue()
        self._issuer = self.reopen()
        self.authority = CertificateAuthority(self._issuer, trust_domain=TRUST_DOMAIN, now=now)

    async def run(self) -> None:
        tell = self.told.put_nowait
        await follow_authority(
            self.authority,
            self._issuer,
            reopen=self.reopen,
            tell=tell,
            mended=self.mended.put_nowait,
            every=0.005,
        )

    def reopen(self) -> Issuer:
        return AuthorityFolder(self._folder, TRUST_DOMAIN, plugged_in=self._plugged_in).reopen()

    async def trusts(self, wanted: bytes) -> None:
        async with asyncio.timeout(10):
            while self.authority.roots_pem != wanted:  # noqa: ASYNC110  nothing tells
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def following(folder: Path, *, plugged_in: bool = True) -> AsyncIterator[Followed]:
    followed = Followed(folder, plugged_in=plugged_in)
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
        assert followed.mended.qsize() == 1


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


async def test_a_state_folder_that_vanishes_is_told_and_nothing_is_made_in_its_place(tmp_path: Path) -> None:
    state = tmp_path / "state" / "ca" / TRUST_DOMAIN
    await AuthorityFolder(state, TRUST_DOMAIN, plugged_in=False).open()
    async with following(state, plugged_in=False) as followed:
        trusted = followed.authority.roots_pem
        (tmp_path / "state").rename(tmp_path / "elsewhere")
        async with asyncio.timeout(10):
            assert "gone or empty" in (await followed.told.get()).message
        assert not (tmp_path / "state").exists()
        (tmp_path / "elsewhere").rename(tmp_path / "state")
        async with asyncio.timeout(10):
            await followed.mended.get()
        assert followed.authority.roots_pem == trusted
        assert followed.told.empty()


async def test_a_lock_that_another_process_holds_is_told_and_holds_up_neither_who_follows_nor_the_end(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state" / "ca" / TRUST_DOMAIN
    await AuthorityFolder(state, TRUST_DOMAIN, plugged_in=False).open()
    async with following(state, plugged_in=False) as followed:
        with exclusive(state.parent / LOCK):
            async with asyncio.timeout(10):
                assert "another process holds" in (await followed.told.get()).message
        async with asyncio.timeout(10):
            await followed.mended.get()


async def test_a_start_waits_for_another_one_and_says_at_last_who_is_in_its_way(tmp_path: Path) -> None:
    state = tmp_path / "state" / "ca" / TRUST_DOMAIN
    folder = AuthorityFolder(state, TRUST_DOMAIN, plugged_in=False)
    first = await folder.open()
    async with asyncio.TaskGroup() as group:
        with exclusive(state.parent / LOCK):
            second = group.create_task(folder.open())
            with pytest.raises(LockedError):
                await folder.open(seconds=0.1)
            assert not second.done()
    assert second.result().roots == first.roots
