"""The authority on disk: made once, private, whole or unchanged, and refused with the file's name when it is wrong."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from peerauth.ca.keyfiles import exclusive, replace_file
from peerauth.ca.store import CA_CERT, CA_KEY, CERT_CHAIN, LOCK, ROOT_CERT, ROOT_KEY, load_plugged_in, open_state
from peerauth.errors import IdentityError, LockedError, PlatformError
from peerauth.identity.keys import private_key_pem
from peerauth.identity.x509 import ISSUING_LIFETIME, Issuer, build_svid, certificate_pem, verify_svid
from samples.pki import FINANCE, NOW, TRUST_DOMAIN, make_issuer, make_key, make_root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ca"


def opened(folder: Path, *, now: datetime = NOW) -> Issuer:
    return open_state(folder, trust_domain=TRUST_DOMAIN, now=now)


def plugged(folder: Path, *, now: datetime = NOW) -> Issuer:
    return load_plugged_in(folder, trust_domain=TRUST_DOMAIN, now=now)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def plug_in(folder: Path, issuer: Issuer) -> None:
    """Writes an issuer as an operator would, in Istio's file names."""
    folder.mkdir(mode=0o700, parents=True)
    write(folder / CA_KEY, private_key_pem(issuer.key))
    write(folder / CA_CERT, certificate_pem(issuer.certificate))
    write(folder / CERT_CHAIN, b"".join(map(certificate_pem, issuer.chain)))
    write(folder / ROOT_CERT, b"".join(map(certificate_pem, issuer.roots)))


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


def test_first_use_makes_an_authority_that_issues(folder: Path) -> None:
    issuer, key = opened(folder), make_key()
    leaf = build_svid(key.public_key(), identity=FINANCE, issuer=issuer, now=NOW, serial=3)
    path = verify_svid(
        leaf,
        intermediates=issuer.chain,
        roots=issuer.roots,
        identity=FINANCE,
        public_key=key.public_key(),
        now=NOW,
    )
    assert len(path) == 3


def test_files_are_0600_and_folders_0700_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        opened(folder)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == dict.fromkeys((CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT, ROOT_KEY), 0o600)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder.parent / LOCK).stat().st_mode) == 0o600


def test_the_second_start_uses_what_the_first_one_made(folder: Path) -> None:
    first = opened(folder)
    before = contents(folder)
    second = opened(folder, now=NOW + timedelta(days=1))
    assert (second.roots, second.certificate) == (first.roots, first.certificate)
    assert contents(folder) == before


def test_processes_that_start_at_once_agree_on_one_root(folder: Path) -> None:
    program = (
        "import sys; from datetime import datetime, UTC; from pathlib import Path; "
        "from peerauth.ca.store import open_state; sys.stdin.read(); "
        "i = open_state(Path(sys.argv[1]), trust_domain='cluster.local', now=datetime.now(UTC)); "
        "print(i.roots[0].serial_number)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()  # all wait for this
        process.stdin = None
    serials = {process.communicate()[0].strip() for process in started}
    assert [process.returncode for process in started] == [0] * 4
    assert serials == {str(x509.load_pem_x509_certificate((folder / ROOT_CERT).read_bytes()).serial_number)}


def test_who_comes_second_waits_and_uses_what_the_first_one_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened(folder.parent / "elsewhere")
    waiting, flock = threading.Event(), fcntl.flock

    def seen(descriptor: int, operation: int) -> None:
        waiting.set()
        flock(descriptor, operation)

    with ThreadPoolExecutor(1) as pool:
        with exclusive(folder.parent / LOCK):
            monkeypatch.setattr(fcntl, "flock", seen)
            second = pool.submit(opened, folder)
            assert waiting.wait(10)
            (folder.parent / "elsewhere").rename(folder)
        assert second.result().roots == made.roots


def test_the_issuing_certificate_is_renewed_in_its_last_third_under_the_same_root(folder: Path) -> None:
    first = opened(folder)
    early = opened(folder, now=NOW + ISSUING_LIFETIME / 2)
    late = opened(folder, now=NOW + ISSUING_LIFETIME * 3 / 4)
    assert early.certificate == first.certificate
    assert late.certificate != first.certificate
    assert late.roots == first.roots
    assert late.chain == (late.certificate,)
    assert late.ends > first.ends


def test_an_authority_that_slept_through_its_issuing_certificate_wakes_up(folder: Path) -> None:
    opened(folder)
    late = NOW + ISSUING_LIFETIME * 2
    assert opened(folder, now=late).ends > late


def test_without_the_root_key_the_state_still_serves_until_the_issuing_certificate_ends(folder: Path) -> None:
    """A root key may be taken offline."""
    first = opened(folder)
    (folder / ROOT_KEY).unlink()
    assert opened(folder, now=NOW + ISSUING_LIFETIME * 0.9).certificate == first.certificate
    with pytest.raises(IdentityError, match=r"ca-cert\.pem.* ended at"):
        opened(folder, now=NOW + ISSUING_LIFETIME * 2)


def test_a_folder_that_lost_a_file_is_not_made_anew(folder: Path) -> None:
    """A new root would cut off every workload that has certificates of the old one."""
    opened(folder)
    (folder / CA_KEY).unlink()
    before = contents(folder)
    with pytest.raises(IdentityError, match=r"ca-key\.pem is missing"):
        opened(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
@pytest.mark.parametrize("name", [CA_KEY, ROOT_KEY, "old-key.pem.bak"])
def test_a_key_that_others_can_read_is_refused_with_the_way_out(folder: Path, name: str, mode: int) -> None:
    """At the first start, whether it is needed there or not."""
    opened(folder)
    (folder / "old-key.pem.bak").write_bytes((folder / CA_KEY).read_bytes())
    (folder / "old-key.pem.bak").chmod(0o600)
    (folder / name).chmod(mode)
    with pytest.raises(IdentityError, match=f"{name} .*mode {mode:04o}") as caught:
        opened(folder)
    assert caught.value.hint == f"chmod 600 {folder / name}"


@pytest.mark.parametrize("mode", [0o770, 0o750, 0o705])
def test_a_folder_that_others_can_enter_is_refused(folder: Path, mode: int) -> None:
    opened(folder)
    folder.chmod(mode)
    with pytest.raises(IdentityError, match=f"open to other users .mode {mode:04o}") as caught:
        opened(folder)
    assert caught.value.hint == f"chmod 700 {folder}"


def test_a_folder_that_others_can_put_another_one_into_is_refused(folder: Path) -> None:
    opened(folder)
    folder.parent.chmod(0o770)
    with pytest.raises(IdentityError, match="writable for other users") as caught:
        opened(folder)
    assert caught.value.hint == f"chmod go-w {folder.parent}"


@pytest.mark.parametrize("name", [CA_CERT, CERT_CHAIN, ROOT_CERT])
def test_a_certificate_that_others_can_exchange_is_refused(folder: Path, name: str) -> None:
    opened(folder)
    (folder / name).chmod(0o644)
    opened(folder)
    (folder / name).chmod(0o646)
    with pytest.raises(IdentityError, match=f"{name} .*can be changed by other users"):
        opened(folder)


def test_who_follows_makes_no_folder_and_waits_for_no_one(folder: Path) -> None:
    with pytest.raises(IdentityError, match="gone or empty"):
        open_state(folder, trust_domain=TRUST_DOMAIN, now=NOW, make=False)
    assert not folder.parent.exists()
    opened(folder)
    with exclusive(folder.parent / LOCK), pytest.raises(LockedError, match="another process holds"):
        open_state(folder, trust_domain=TRUST_DOMAIN, now=NOW, make=False, wait=False)


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else_is(folder: Path) -> None:
    folder.parent.mkdir(mode=0o700)
    leftover = folder.parent / ".peerauth-tmp-abc"
    leftover.mkdir()
    (leftover / CA_KEY).write_bytes(b"half a k")
    other = folder.parent / ".tmp-of-someone-else"
    other.mkdir()
    opened(folder)
    assert not leftover.exists()
    assert other.exists()


# A full disk.


class _FullAfter:
    """Lets a number of disk operations through, then says that the disk is full, as it may between any two."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.hit = False

    def wrap(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if self.left == 0:
                self.hit = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.left -= 1
            return real(*args, **kwargs)

        return call


@contextmanager
def full_after(steps: int) -> Iterator[_FullAfter]:
    disk = _FullAfter(steps)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "rename", "replace"):
            patch.setattr(os, name, disk.wrap(getattr(os, name)))
        yield disk


def test_a_disk_that_fills_up_at_any_step_of_the_first_start_leaves_nothing_or_everything(tmp_path: Path) -> None:
    for steps in range(20):
        folder = tmp_path / str(steps) / "ca"
        with full_after(steps) as disk, suppress(PlatformError):
            opened(folder)
        assert not list(folder.parent.glob(".peerauth-tmp-*"))
        assert len(contents(folder)) in {0, 5}
        opened(folder)
        if not disk.hit:
            break
    else:
        pytest.fail("the first start never got through: the steps of the disk are not being counted")
    assert steps > 5


def test_a_disk_that_fills_up_during_a_renewal_leaves_a_working_authority(tmp_path: Path) -> None:
    late = NOW + ISSUING_LIFETIME * 0.9
    for steps in range(20):
        folder = tmp_path / str(steps) / "ca"
        root = opened(folder).roots
        with full_after(steps) as disk, suppress(PlatformError):
            opened(folder, now=late)
        assert not list(folder.glob(".peerauth-tmp-*"))
        # What is on the disk serves as it is, before anything repairs it.
        assert plugged(folder, now=late).roots == root
        assert opened(folder, now=late).ends > NOW + ISSUING_LIFETIME
        if not disk.hit:
            break
    else:
        pytest.fail("the renewal never got through: the steps of the disk are not being counted")
    assert steps > 3


def test_a_file_that_the_kernel_cuts_short_does_not_replace_the_old_one(tmp_path: Path) -> None:
    """A real short write: the kernel writes what fits under the limit, then fails."""
    path = tmp_path / "ca-cert.pem"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(PlatformError, match=r"ca-cert\.pem could not be written"):
            replace_file(path, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path) == {"ca-cert.pem": b"old"}


# Plugged-in files.


def test_plugged_in_files_issue(folder: Path) -> None:
    issuer = make_issuer()
    plug_in(folder, issuer)
    assert plugged(folder).certificate == issuer.certificate


def test_a_secret_as_kubernetes_mounts_it_is_read_if_its_files_are_closed(folder: Path) -> None:
    """Links to a folder that is exchanged as a whole, in folders that everyone can enter."""
    inside = folder / "..2026_11_25"
    plug_in(inside, make_issuer())
    for path in (inside, folder):
        path.chmod(0o755)
    (folder / "..data").symlink_to(inside.name)
    for name in (CA_KEY, CA_CERT, CERT_CHAIN, ROOT_CERT):
        (folder / name).symlink_to(f"..data/{name}")
    assert plugged(folder).chain
    folder.chmod(0o1777)
    assert plugged(folder).chain
    (inside / CA_KEY).chmod(0o644)
    with pytest.raises(IdentityError, match=r"ca-key\.pem holds a private key") as caught:
        plugged(folder)
    assert "defaultMode: 0400" in caught.value.hint


def test_a_roots_key_beside_plugged_in_files_is_looked_at_as_well(folder: Path) -> None:
    plug_in(folder, make_issuer())
    write(folder / ROOT_KEY, private_key_pem(make_key()))
    (folder / ROOT_KEY).chmod(0o644)
    with pytest.raises(IdentityError, match=r"root-key\.pem holds a private key"):
        plugged(folder)


def test_a_plugged_in_folder_that_others_can_write_is_refused(folder: Path) -> None:
    plug_in(folder, make_issuer())
    folder.chmod(0o777)
    with pytest.raises(IdentityError, match="writable for other users"):
        plugged(folder)


def test_a_state_folder_can_be_plugged_in_elsewhere(folder: Path) -> None:
    assert opened(folder).roots == plugged(folder).roots


def test_a_bundle_of_two_roots_is_kept(folder: Path) -> None:
    _, other = make_root()
    issuer = make_issuer(also_trusted=(other,))
    plug_in(folder, issuer)
    assert plugged(folder).roots == issuer.roots


def test_the_chain_file_may_be_absent_under_a_root(folder: Path) -> None:
    issuer = make_issuer()
    plug_in(folder, issuer)
    (folder / CERT_CHAIN).unlink()
    assert plugged(folder).chain == (issuer.certificate,)


@pytest.mark.parametrize("name", [CA_CERT, CA_KEY, ROOT_CERT])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    plug_in(folder, make_issuer())
    (folder / name).unlink()
    with pytest.raises(IdentityError, match=f"{name} is missing"):
        plugged(folder)


@pytest.mark.parametrize("name", [CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT])
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_broken_file_is_named_and_a_key_is_never_quoted(folder: Path, name: str, content: bytes) -> None:
    plug_in(folder, make_issuer())
    write(folder / name, content)
    with pytest.raises(IdentityError, match=f"{name} is not a PEM"):
        plugged(folder)


def test_a_truncated_key_is_refused_without_a_byte_of_it(folder: Path) -> None:
    issuer = make_issuer()
    plug_in(folder, issuer)
    pem = private_key_pem(issuer.key)
    write(folder / CA_KEY, pem[:120])
    with pytest.raises(IdentityError) as caught:
        plugged(folder)
    assert pem.splitlines()[1][:20].decode() not in str(caught.value)


def test_the_certificate_must_be_the_keys(folder: Path) -> None:
    plug_in(folder, make_issuer())
    write(folder / CA_KEY, private_key_pem(make_key()))
    with pytest.raises(IdentityError, match=r"ca-cert\.pem .*ca-key\.pem.* is for another key"):
        plugged(folder)


def test_a_root_of_another_authority_does_not_fit(folder: Path) -> None:
    plug_in(folder, make_issuer())
    write(folder / ROOT_CERT, certificate_pem(make_root()[1]))
    with pytest.raises(IdentityError, match=r"ca-cert\.pem .*does not chain to the mesh's roots"):
        plugged(folder)


@pytest.mark.parametrize(
    ("now", "says"),
    [(NOW - timedelta(days=1), "not valid before"), (NOW + ISSUING_LIFETIME + timedelta(days=1), "ended at")],
)
def test_an_authority_outside_of_its_dates_is_refused(folder: Path, now: datetime, says: str) -> None:
    plug_in(folder, make_issuer())
    with pytest.raises(IdentityError, match=rf"ca-cert\.pem .*{says}"):
        plugged(folder, now=now)


def test_a_workload_certificate_is_no_authority(folder: Path) -> None:
    issuer, key = make_issuer(), make_key()
    plug_in(folder, issuer)
    write(folder / CA_KEY, private_key_pem(key))
    leaf = build_svid(key.public_key(), identity=FINANCE, issuer=issuer, now=NOW, serial=1)
    write(folder / CA_CERT, certificate_pem(leaf))
    with pytest.raises(IdentityError, match="do not say CA"):
        plugged(folder)


def test_an_encrypted_key_is_refused_with_the_way_out(folder: Path) -> None:
    issuer = make_issuer()
    plug_in(folder, issuer)
    encrypted = issuer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    write(folder / CA_KEY, encrypted)
    with pytest.raises(IdentityError, match=r"ca-key\.pem is encrypted"):
        plugged(folder)


def test_another_kind_of_key_is_refused_by_name(folder: Path) -> None:
    plug_in(folder, make_issuer())
    key = ed25519.Ed25519PrivateKey.generate()
    write(folder / CA_KEY, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(IdentityError, match=r"ca-key\.pem is a Ed25519 key"):
        plugged(folder)


def test_a_pipe_or_a_huge_file_in_a_keys_place_is_refused_at_once(folder: Path) -> None:
    plug_in(folder, make_issuer())
    (folder / CA_KEY).unlink()
    os.mkfifo(folder / CA_KEY, 0o600)
    with pytest.raises(IdentityError, match="not a regular file"):
        plugged(folder)
    (folder / CA_KEY).unlink()
    write(folder / CA_KEY, b"#" * 300_000)
    with pytest.raises(IdentityError, match="larger than"):
        plugged(folder)
