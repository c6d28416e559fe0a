"""Files that hold keys: read only when no one else can read them, written whole or not at all.

Files have mode 0600 and folders 0700 from their first moment: created so, never loosened and tightened. A new content
goes to a temporary file, to the disk, and over the old name in one step, so a full disk or a kill at any point leaves
the old state. Temporary names start with `.peerauth-tmp-`; `remove_leftovers` clears what a killed process left.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from peerauth.errors import IdentityError, LockedError, PlatformError

# Four corporate certificates and a key are under 16 KiB; a larger file is not what it was taken for.
MAX_FILE_BYTES = 256 * 1024
_TEMPORARY = ".peerauth-tmp-"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WRITABLE = stat.S_IWGRP | stat.S_IWOTH
_PRIVATE_KEY = re.compile(rb"^-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----", re.MULTILINE)


def read_public(path: Path) -> bytes:
    """A certificate file's content; raises IdentityError also when group or others can write to the file."""
    return _read(path, forbidden=_WRITABLE, what="says whom the mesh trusts and can be changed by other users")


def read_private(path: Path) -> bytes:
    """A key file's content; raises IdentityError also when group or others have any right to the file."""
    return _read(path, forbidden=_OTHERS, what="holds a private key and is open to other users")


def _read(path: Path, *, forbidden: int, what: str) -> bytes:
    try:
        # Not blocking: opening a named pipe would wait for a writer.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            # The open file is judged, not the name: it can't be exchanged in between.
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise IdentityError(f"{path} is not a regular file")
            if status.st_mode & forbidden:
                raise _exposed(path, what, status.st_mode)
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise IdentityError(f"{path} is missing") from error
    except OSError as error:
        raise IdentityError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise IdentityError(f"{path} is larger than {MAX_FILE_BYTES} bytes: not a PEM file")
    return content


def _exposed(path: Path, what: str, mode: int) -> IdentityError:
    # Kubernetes mounts a Secret as links to files that have no mode of their own.
    mounted = "; in the volume of a Secret: defaultMode: 0400" if path.is_symlink() else ""
    return IdentityError(f"{path} {what} (mode {stat.S_IMODE(mode):04o})", hint=f"chmod 600 {path}{mounted}")


def check_secrets(folder: Path) -> None:
    """Raises IdentityError for a file in a folder that others have a right to and that holds a private key.

    Whatever its name: a root's key that is needed once in five years lies beside the key that is read at every start.
    """
    try:
        for path in sorted(folder.iterdir()):
            status = path.stat() if path.exists() else None
            if status is None or not stat.S_ISREG(status.st_mode) or not status.st_mode & _OTHERS:
                continue
            if status.st_size <= MAX_FILE_BYTES and _PRIVATE_KEY.search(path.read_bytes()):
                raise _exposed(path, "holds a private key and is open to other users", status.st_mode)
    except OSError as error:
        raise IdentityError(f"{error.filename or folder} cannot be read: {error.strerror}") from error


def replace_file(path: Path, content: bytes) -> None:
    """Gives an existing folder's file a new content in one step; raises PlatformError and leaves the old one."""
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=_TEMPORARY)  # mode 0600
        _write_out(descriptor, content)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise _not_written(path, error) from error


def create_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Makes a folder with all its files in one step; raises PlatformError and makes nothing.

    `folder` may exist if it is empty.
    """
    temporary = ""
    try:
        temporary = tempfile.mkdtemp(dir=folder.parent, prefix=_TEMPORARY)  # mode 0700
        for name, content in files.items():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            _write_out(os.open(Path(temporary) / name, flags, 0o600), content)
        _sync_folder(Path(temporary))
        os.rename(temporary, folder)
        _sync_folder(folder.parent)
    except OSError as error:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
        raise _not_written(folder, error) from error


def make_private_folder(folder: Path) -> None:
    """Makes a folder and its missing parents with mode 0700; folders that exist keep theirs."""
    try:
        # `Path.mkdir(parents=True)` gives the mode to the last one only.
        for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _not_written(folder, error) from error


def check_private_folder(folder: Path) -> None:
    """Raises IdentityError if someone else can enter a folder of ours, or could put another one in its place."""
    status = _status(folder)
    if status.st_mode & _OTHERS:
        mode = stat.S_IMODE(status.st_mode)
        raise IdentityError(
            f"{folder} holds keys and is open to other users (mode {mode:04o})", hint=f"chmod 700 {folder}"
        )
    check_folder(folder)
    check_folder(folder.parent)


def check_folder(folder: Path) -> None:
    """Raises IdentityError if someone else could put other files into a folder that keys are read from."""
    status = _status(folder)
    # In a folder with the sticky bit, as Kubernetes mounts Secrets, nobody replaces another's files.
    if status.st_mode & _WRITABLE and not status.st_mode & stat.S_ISVTX:
        raise IdentityError(f"{folder} holds keys and is writable for other users", hint=f"chmod go-w {folder}")
    if status.st_uid not in {os.geteuid(), 0} and os.geteuid() != 0:
        raise IdentityError(f"{folder} holds keys and belongs to another user", hint="name a folder of your own")


def _status(folder: Path) -> os.stat_result:
    try:
        return folder.stat()
    except OSError as error:
        raise IdentityError(f"{folder} cannot be used: {error.strerror}") from error


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files and folders of a process that was killed; the caller holds the folder's lock."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def exclusive(lock: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds a lock between processes; the kernel lets go of it when a process dies, however it dies.

    Raises LockedError where another process has it and this one is not to wait.
    """
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _not_written(lock, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            hint = f"it may be stopped; `fuser -v {lock}` names it"
            raise LockedError(f"another process holds {lock}, and with it the keys beside it", hint=hint) from None
        yield
    finally:
        os.close(descriptor)


def _write_out(descriptor: int, content: bytes) -> None:
    with open(descriptor, "wb", buffering=0) as file:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_written(path: Path, error: OSError) -> PlatformError:
    return PlatformError(
        f"{path} could not be written: {error.strerror}; nothing was left half-written",
        hint="free space or name another folder with --state",
    )
