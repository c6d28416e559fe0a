"""Opens and reads one file: a regular one, and never waits for whoever writes it.

What a name stands for is judged by the opened descriptor: between a look at the name and its opening another file may
have come. A pipe is read only for a command whose user named it, as shells do for `<(...)`.
Source: fcntl(2), "Leases": a read lease is refused with EAGAIN while any process has the file open for writing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import stat
import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from peerauth.errors import SourceError
from peerauth.sources.sighting import Signature
from peerauth.sources.text import LARGEST_FILE

_SETSIG = 10  # F_SETSIG, which the standard library does not name
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PIECE = 1 << 20
STANDARD_INPUTS = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
_REMOTE = ("nfs", "cifs", "smb", "afs", "ceph", "9p", "fuse.sshfs")
"""File systems whose leases are their servers' to give."""
WRITER_SECONDS = 3.0
"""How long a named pipe that nobody has open for writing is waited for."""


class Bytes(NamedTuple):
    """A file as it was read. `in_writing` says that some process had it open for writing, or wrote it meanwhile."""

    data: bytes
    signature: Signature
    in_writing: bool


def signature_of(found: os.stat_result) -> Signature:
    """What to compare a file by."""
    return Signature(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_regular(name: str) -> Bytes:
    """A regular file's bytes, at most one more than is allowed. Raises SourceError for everything else."""
    try:
        _refuse(name, os.stat(name).st_mode)  # so that no device is opened, which may do something
        descriptor = os.open(name, _FLAGS)
        with open(descriptor, "rb") as stream:
            before = os.fstat(descriptor)
            _refuse(name, before.st_mode)
            data = stream.read(LARGEST_FILE + 1)
            in_writing = has_writer(descriptor)
            after = signature_of(os.fstat(descriptor))
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {error.strerror or error}") from error
    return Bytes(data, after, in_writing or after != signature_of(before))


def has_writer(descriptor: int) -> bool:
    """Whether some process has this file open for writing; False also where the system does not tell.

    It does not tell of files of other users, to those who are not root, nor on some file systems.
    """
    try:
        # A lease that a writer breaks in the instant in which it is held is told by a signal: by one that is ignored.
        fcntl.fcntl(descriptor, _SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN and not _is_remote(os.fstat(descriptor).st_dev)
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def read_named(name: str, *, pipes: bool) -> bytes:
    """What a path of a command line says: a regular file, standard input, or, with `pipes`, one that someone writes.

    Raises SourceError like `read_regular`, and for a pipe that nobody writes.
    """
    try:
        if name in STANDARD_INPUTS:
            return sys.stdin.buffer.read(LARGEST_FILE + 1)
        if pipes and stat.S_ISFIFO(os.stat(name).st_mode):
            return _read_pipe(name)
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {error.strerror or error}") from error
    return read_regular(name).data


@lru_cache(maxsize=64)
def _is_remote(device: int) -> bool:
    """Whether files of a device are another machine's, of which EAGAIN says only that its server gave no delegation.

    Source: Linux, nfs4_add_lease and cifs_setlease; proc_pid_mountinfo(5).
    """
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    kinds = [line.partition(" - ")[2].split(" ")[0] for line in lines if line.split(" ")[2] == wanted]
    return any(kind.startswith(_REMOTE) for kind in kinds)


def _read_pipe(name: str) -> bytes:
    """All that its writers write, until the last of them has closed it."""
    descriptor = os.open(name, _FLAGS)
    data = bytearray()
    with open(descriptor, "rb", buffering=0) as stream:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        written = False
        while len(data) <= LARGEST_FILE:
            try:
                piece = os.read(stream.fileno(), _PIECE)
            except BlockingIOError:
                written = True  # someone has it open who has nothing to say yet
                poll.poll()
                continue
            if piece:
                data += piece
            elif data or written:
                break
            elif not poll.poll(WRITER_SECONDS * 1000):
                raise SourceError(f"{name} is a pipe that nobody writes", hint="name a file, or write the pipe first")
            else:
                written = True
    return bytes(data)


def _refuse(name: str, mode: int) -> None:
    """Raises SourceError for what is not a regular file."""
    if stat.S_ISREG(mode):
        return
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"))
    what = next((kind for of_kind, kind in kinds if of_kind(mode)), "a device")
    raise SourceError(f"{name} is {what}, not a file", hint="only regular files are read")
