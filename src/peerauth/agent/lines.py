"""What a supervised process writes: read from a pipe without holding it up, split into lines, remembered briefly.

Reading never stops while the pipe is open, and what is kept is bounded: a line without an end is dropped beyond a
limit, the log file is begun anew beyond one, and a disk that refuses a write costs that write only.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

LINE_LIMIT = 256 << 10
LOG_LIMIT = 16 << 20
TAIL_LINES = 40


class LineSplitter:
    """Turns chunks into lines; hands each to `on_line` without its newline."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self._on_line = on_line
        self._partial = b""
        self._overlong = False

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk; an empty one is the end and hands over an unfinished last line."""
        lines = (self._partial + chunk).split(b"\n")
        self._partial = lines.pop()
        for line in lines:
            if not self._overlong:
                self._on_line(line)
            self._overlong = False
        if len(self._partial) > LINE_LIMIT:
            self._partial, self._overlong = b"", True
        if not chunk and self._partial and not self._overlong:
            self._on_line(self._partial)
            self._partial = b""


class Tail:
    """A log file, and its last lines in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._splitter = LineSplitter(self._lines.append)
        self.fault = ""
        """Why the file cannot be written, as the last attempt found; empty if it could."""

    def feed(self, chunk: bytes) -> None:
        """Append to the file (made with mode 0600) and remember."""
        self._splitter.feed(chunk)
        if chunk and not self.fault:
            self._write(chunk)

    def retry(self) -> None:
        """Go on with a file that could not be written, if it can be now; it says itself that something is missing."""
        if self.fault:
            self._write(f"(something is missing here: {self.fault})\n".encode())

    def begin(self) -> None:
        """Forget: another process speaks from here on."""
        self._lines.clear()

    def text(self) -> str:
        """The last lines."""
        return b"\n".join(self._lines).decode(errors="replace")

    def _write(self, chunk: bytes) -> None:
        try:
            self._append(chunk)
        except OSError as error:
            self.fault = error.strerror or str(error)
        else:
            self.fault = ""

    def _append(self, chunk: bytes) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(fd).st_size > LOG_LIMIT:
                os.ftruncate(fd, 0)
            if os.write(fd, chunk) < len(chunk):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)


async def follow(fd: int, feed: Callable[[bytes], None]) -> None:
    """Read a pipe until its end, which is fed as an empty chunk; closes `fd`."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    pipe = os.fdopen(fd, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        while chunk := await reader.read(1 << 16):
            feed(chunk)
        feed(b"")
    finally:
        transport.close()
