"""What a command that goes on says: put into a bounded queue, and written by a thread that may wait for its reader.

Who says something never waits: a pipe that nobody reads, a stopped terminal or a full disk must not hold up what is
enforced, nor the end of the run. What does not fit is dropped and counted; once the reader has taken the rest, it is
told how many lines are missing, at the place where they are. A reader who is gone is told nothing more.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from peerauth.cli.visible import visible, visible_lines

ROOM_CHARACTERS = 256 << 10
LONGEST_LINE = 64 << 10
_STANDARD_ERROR = 2
LAST_WORDS_SECONDS = 0.5
"""How long the end of a run waits for a reader who has not read."""
_PAUSE_SECONDS = 1.0
"""Between two attempts to write where the disk is full."""
_FOR_EVER = frozenset({errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ECONNRESET})

Form = Callable[[str], str]
Picture = Callable[[], str]


class Outlet:
    """Says things on one descriptor. Everything but `deliver` may be called from any thread and does not wait.

    `form` makes of a text what is written for it; it and the pictures are called by the thread that writes, in order.
    """

    def __init__(self, descriptor: int, *, form: Form = str, encoding: str = "utf-8", room: int = ROOM_CHARACTERS):
        self.descriptor = descriptor
        self._form = form
        self._encoding = encoding
        self._room = room
        self._changed = threading.Condition()
        self._waiting: list[str] = []
        self._held = 0  # characters, of what waits and of what is being written
        self._dropped = 0  # lines
        self._picture: Picture | None = None
        self._writing = False
        self._fault: OSError | None = None
        self._thread: threading.Thread | None = None

    def say(self, text: str) -> None:
        """Writes whole lines, or drops them where nobody has read for long."""
        with self._changed:
            # Once something is missing, nothing is taken until the reader is there again: one gap, said once.
            if self._dropped or self._held + len(text) > self._room:
                self._dropped += text.count("\n")
            else:
                self._take(text)

    def promise(self, text: str) -> None:
        """Writes what is the result of a command: it is never dropped, however long it is."""
        with self._changed:
            self._take(text)

    def show(self, picture: Picture) -> None:
        """Writes what `picture` gives, unless there is a newer one by the time that its turn comes."""
        with self._changed:
            self._picture = picture
            self._wake()

    @property
    def idle(self) -> bool:
        """Whether all has been written: another picture would be seen."""
        with self._changed:
            return not self._busy()

    def deliver(self, *, seconds: float | None) -> None:
        """Waits until all is written, at most so long; None waits for as long as there is a reader.

        Raises the OSError that writing ended with.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._fault is not None or not self._busy(), timeout=seconds)
            if self._fault is not None:
                raise self._fault

    def close(self) -> None:
        """Gives the reader a moment for what is left, and leaves."""
        with contextlib.suppress(OSError):  # there is no one to tell
            self.deliver(seconds=LAST_WORDS_SECONDS)

    def _take(self, text: str) -> None:
        self._waiting.append(text)
        self._held += len(text)
        self._wake()

    def _wake(self) -> None:
        if self._gone():
            self._forget()
        elif self._thread is None:
            # A daemon: the interpreter does not wait at its end for what waits for a reader.
            self._thread = threading.Thread(target=self._run, name="outlet", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _busy(self) -> bool:
        return self._writing or bool(self._waiting or self._dropped or self._picture)

    def _gone(self) -> bool:
        return self._fault is not None and self._fault.errno in _FOR_EVER

    def _forget(self) -> None:
        self._waiting.clear()
        self._held = self._dropped = 0
        self._picture = None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(self._busy)
                self._writing = True
                text, picture = "".join(self._waiting), self._picture
                # The gap comes after all that was taken before it, and ends when someone has read that.
                dropped = 0 if text else self._dropped
                self._waiting.clear()
                self._picture = None
            self._write_out(text, dropped=dropped, picture=picture)

    def _write_out(self, text: str, *, dropped: int, picture: Picture | None) -> None:
        """One turn: what was said or what is missing of it, and the newest picture."""
        said = text or self._gap(dropped)
        fault = self._write((self._form(said) if said else "") + (picture() if picture else ""))
        with self._changed:
            self._held -= len(text)
            self._dropped += text.count("\n") if fault else -dropped
            self._fault = fault
            if self._gone():
                self._forget()
        if fault and not self._gone():
            time.sleep(_PAUSE_SECONDS)

    def _gap(self, dropped: int) -> str:
        if not dropped:
            return ""
        why = f"they could not be written ({self._fault.strerror})" if self._fault else "nobody read them"
        return f"... {dropped:,} line{'s were' if dropped > 1 else ' was'} dropped: {why}\n"

    def _write(self, text: str) -> OSError | None:
        rest = memoryview(text.encode(self._encoding, "backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(self.descriptor, rest) :]
            except BlockingIOError:  # another process has made it so
                select.select([], [self.descriptor], [])
            except OSError as error:
                return error
        return None


def outlets(*, form: Form = str) -> tuple[Outlet, Outlet]:
    """The outlets of standard output and standard error: one and the same, in order, where both are the same file.

    `form` is that of standard output.
    """
    out, err = _descriptor(sys.stdout), _descriptor(sys.stderr)
    first = Outlet(out, form=form, encoding=_encoding(sys.stdout))
    if os.path.samestat(os.fstat(out), os.fstat(err)):
        return first, first
    return first, Outlet(err, encoding=_encoding(sys.stderr))


class Diverted:
    """Takes what libraries write to standard error themselves into an outlet, until `end`.

    gRPC does, of every handshake that fails, from the threads that serve proxies: any client could hold those up.
    """

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._kept = os.dup(_STANDARD_ERROR)
        if outlet.descriptor == _STANDARD_ERROR:
            outlet.descriptor = self._kept
        ours, theirs = os.pipe()
        os.dup2(theirs, _STANDARD_ERROR)
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, args=(ours,), name="standard error", daemon=True)
        self._reader.start()

    def end(self) -> None:
        """Standard error is what it was; what was written until now has been taken in."""
        os.dup2(self._kept, _STANDARD_ERROR)  # the pipe has no other writer, so that its reader comes to the end
        self._reader.join(LAST_WORDS_SECONDS)

    def _read(self, descriptor: int) -> None:
        with open(descriptor, "rb") as pipe:
            while line := pipe.readline(LONGEST_LINE):
                self._outlet.say(visible(line.decode(errors="backslashreplace").rstrip("\n")) + "\n")


def last_words(text: str) -> None:
    """Says something on standard error before the process ends, to whoever still reads it."""
    try:
        outlet = Outlet(_descriptor(sys.stderr), encoding=_encoding(sys.stderr))
    except OSError:  # a stream in memory, which nothing holds up
        sys.stderr.write(text)
        return
    outlet.say(text)
    outlet.close()


def _descriptor(stream: TextIO | None) -> int:
    # The interpreter has no stream for a descriptor that was closed at its start; by now another file may have it.
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC) if stream is None else stream.fileno()


def _encoding(stream: TextIO | None) -> str:
    return "utf-8" if stream is None else stream.encoding


class LogHandler(logging.Handler):
    """Log records through an outlet."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet

    def emit(self, record: logging.LogRecord) -> None:
        """One record, and the traceback that belongs to it."""
        self._outlet.say(visible_lines(self.format(record)) + "\n")
