"""Claims the path of a Unix socket that only one user may reach, before a server binds it.

Who can open the socket is who the proxy is, so the folder must be private: it is created with mode 0700, and one that
others can enter is refused rather than changed. A socket that nobody listens on any more is removed; a live one, or
anything that is not a socket, is left alone and reported.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from peerauth.errors import PlatformError

# Linux: sun_path has 108 bytes, the last for a terminator.
MAX_SOCKET_PATH = 107


def claim(path: Path) -> None:
    """Makes `path` ready to be bound; raises PlatformError that says what stands in the way."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise PlatformError(f"the socket path {path} is too long", hint=f"at most {MAX_SOCKET_PATH} bytes")
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise PlatformError(f"{folder} cannot be made: {error.strerror}", hint="free space there") from error
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PlatformError(f"{folder} is open to other users", hint=f"chmod 0700 {folder}, owned by who runs this")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise PlatformError(f"{path} exists and is not a socket")
    if _listening(path):
        raise PlatformError(f"another process listens on {path}", hint="stop it, or choose another state folder")
    path.unlink()


def _listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a listener with a full backlog says "again", and is alive
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            return True
    return True
