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

import msgspec

from peerauth.errors import PlatformError

LIMIT = 40
"""Runs at a time on one machine; each has two /16 blocks of 127.0.0.0/8."""


class Instance(msgspec.Struct, frozen=True):
    """A run in progress. `folder` is empty at the start, mode 0700, and removed at the end."""

    number: int
    folder: Path


@contextmanager
def claim(sockets: Path) -> Iterator[Instance]:
    """Takes the lowest number that no living process holds; raises PlatformError when the folder is not ours alone."""
    _private(sockets)
    for number in range(LIMIT):
        lock = os.open(sockets / f"{number}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        taken = _take_for_all_users(number)
        if taken is None:
            os.close(lock)
            continue
        folder = sockets / str(number)
        try:
            _clean(sockets)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            yield Instance(number, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            taken.close()
            os.close(lock)
        return
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
            shutil.rmtree(lock_file.with_suffix(""), ignore_errors=True)
        finally:
            os.close(lock)


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
