"""Who owns which network namespaces: one lock per running instance, and what a dead one left behind.

The lock is a flock on a file, so the kernel gives it back however the owner ended; process ids, which are used again,
play no part. An instance takes its lock before it makes a namespace, and whoever gets a lock may delete what goes by
its name. A lock file is unlinked only while it is held, and a taker makes sure that the file it locked still has a
name: otherwise two could hold "the" lock.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

NETNS_FOLDER = Path("/run/netns")
LOCKS = Path("/run/peerauth")
"""One folder for the machine, as the namespaces' is: with another one, live instances would look dead."""
PREFIX = "peerauth"
INSTANCE = re.compile(r"[a-z0-9]{1,16}")
_NAME = re.compile(rf"{PREFIX}-({INSTANCE.pattern})(?:-.*)?")


class InstanceLock:
    """A held lock; `release` gives it back and removes its file."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd

    def release(self) -> None:
        """Remove the file and let go."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)


def take(instance: str) -> InstanceLock | None:
    """The lock of an instance, or None while another process (or this one) holds it. Makes the folder, mode 0700."""
    LOCKS.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = LOCKS / f"{instance}.lock"
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        if _is_at(fd, path):
            return InstanceLock(path, fd)
        os.close(fd)


def instances() -> set[str]:
    """Every instance that has a namespace or a lock file, running or not."""
    named = {match[1] for entry in _names(NETNS_FOLDER) if (match := _NAME.fullmatch(entry))}
    locked = {name.removesuffix(".lock") for name in _names(LOCKS) if name.endswith(".lock")}
    return named | {name for name in locked if INSTANCE.fullmatch(name)}


def namespaces_of(instance: str) -> list[str]:
    """The names of an instance's namespaces, sorted."""
    return sorted(name for name in _names(NETNS_FOLDER) if (m := _NAME.fullmatch(name)) and m[1] == instance)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, PermissionError):  # what only root may list is nothing that anyone else could have left
        return []


def _is_at(fd: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(fd)
    return (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)
