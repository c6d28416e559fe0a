"""One run on this machine, apart from every other: a number, a private folder and a lock that dies with the process.

The number names what runs must not share: the block of loopback addresses, the network namespaces, the sockets. A run
that was killed leaves its folder but not its lock: by that the next run, whatever its number, knows what to clean.
Folders are a user's own, addresses the machine's: so a number is taken by a lock in the folder and, for all users, by a
Unix socket's abstract name, which like the lock is gone with its process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peerauth.errors import PlatformError

LIMIT = 40
"""Runs at a time on one machine; each has two /16 blocks of 127.0.0.0/8."""


class Instance:
    """A run in progress. `folder` is empty at the start, mode 0700, and removed at the end."""

    def __init__(self, number: int, sockets: Path, *, lock: int, taken: socket.socket) -> None:
        self.number = number
        self.folder = sockets / str(number)
        self._lock_file = _lock_file(sockets, number)
        self._lock = lock
        self._taken = taken
        self._kept = -1

    def restore(self) -> bool:
        """Makes the folder and the lock's file again if someone has removed them; whether that was so.

        Raises PlatformError where they cannot be made, or not safely.
        """
        try:
            gone = not self.folder.exists()
            _private(self.folder.parent)
            if not _is_at(self._lock, self._lock_file):
                self._lock_again()
            self._make()
        except OSError as error:
            raise _unusable(self.folder, error) from error
        return gone

    def release(self) -> None:
        """Removes the folder and gives the number back."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for descriptor in (self._kept, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._taken.close()

    def _make(self) -> None:
        _private(self.folder)
        if not _is_at(self._kept, self.folder):
            if self._kept >= 0:
                os.close(self._kept)
            self._kept = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            # systemd-tmpfiles takes nothing out of a folder that is locked.
            fcntl.flock(self._kept, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _lock_again(self) -> None:
        lock = _open_lock(self._lock_file)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a start that tries this number; it finds it taken, and lets go
            os.close(lock)
            return
        os.close(self._lock)
        self._lock = lock


@contextmanager
def claim(sockets: Path) -> Iterator[Instance]:
    """Takes the lowest number that no living process holds; raises PlatformError when the folder is not ours alone,
    or when nothing can be written there.
    """
    try:
        instance = _take(sockets)
    except OSError as error:
        raise _unusable(sockets, error) from error
    try:
        yield instance
    finally:
        instance.release()


def _take(sockets: Path) -> Instance:
    _private(sockets)
    for number in range(LIMIT):
        lock = _open_lock(_lock_file(sockets, number))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        taken = _take_for_all_users(number)
        if taken is None:
            os.close(lock)
            continue
        instance = Instance(number, sockets, lock=lock, taken=taken)
        try:
            _clean(sockets)
            shutil.rmtree(instance.folder, ignore_errors=True)
            instance.restore()
        except BaseException:
            instance.release()
            raise
        return instance
    raise PlatformError(f"{LIMIT} runs are in progress on this machine", hint="stop one of them")


def _clean(sockets: Path) -> None:
    """Removes the folders of runs that were killed. Who wants such a number meanwhile finds it taken, and goes on."""
    for lock_file in sockets.glob("*.lock"):
        lock = os.open(lock_file, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            _clean_up(lock_file)
        finally:
            os.close(lock)


def _clean_up(lock_file: Path) -> None:
    # A run whose lock's file was removed under it, and made by another one since, lives all the same.
    taken = _take_for_all_users(int(lock_file.stem))
    if taken is not None:
        with taken:
            shutil.rmtree(lock_file.with_suffix(""), ignore_errors=True)


def _lock_file(sockets: Path, number: int) -> Path:
    return sockets / f"{number}.lock"


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:  # neither is there
        return False


def _unusable(folder: Path, error: OSError) -> PlatformError:
    where = error.filename or folder
    return PlatformError(
        f"{where} cannot be used: {error.strerror}",
        hint="free space there, or set XDG_RUNTIME_DIR to another folder for the next start",
    )


def _take_for_all_users(number: int) -> socket.socket | None:
    """Binds the name that stands for a number in this network, or returns None if another process has."""
    taken = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        taken.bind(f"\0peerauth-run-{number}")
    except OSError:
        taken.close()
        return None
    return taken


def _private(folder: Path) -> None:
    """Makes the folder, or makes sure that no one else can write to it: whoever could, could pose as the authority."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PlatformError(
            f"{folder} is not a folder that only this user can open",
            hint=f"remove it, or run: chmod 700 {folder}",
        )
