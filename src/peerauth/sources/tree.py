"""The files that a path stands for, what is left out of a folder, and every name on the way to them.

A folder is read recursively: *.yaml, *.yml and *.json, sorted by path, without hidden names and without what a
`.peerauthignore` in it names. A path that was named itself is read whatever it is called.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from peerauth.errors import SourceError
from peerauth.sources.regular import Bytes, read_regular

STANDARD_INPUT = "-"
SUFFIXES = (".yaml", ".yml", ".json")
IGNORE_FILE = ".peerauthignore"
"""One pattern a line (`*.bak`, `policies/`, `drafts/*.yaml`), `#` begins a comment; relative to its own folder."""
MOST_LINKS = 40
"""Links that lead to links, as many as Linux follows."""


class Unreadable(msgspec.Struct, frozen=True):
    """A path that stands for nothing now, and why; what is below it is not known."""

    path: str
    error: SourceError


class Tree(msgspec.Struct, frozen=True):
    """What some paths stand for now. `files` are in the order in which they are read, each once, with the number of the
    path that leads to it.

    `ignore_files` is what a folder's `.peerauthignore` says. `folders` are those whose members are read, `names` all
    that were looked up on the way to files and folders, links followed: another thing by one of these names is another
    input. Both are absolute, and no parent is a link.
    """

    files: Mapping[str, int] = {}
    unreadable: tuple[Unreadable, ...] = ()
    ignore_files: Mapping[str, Bytes] = {}
    folders: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()


def files_of(paths: Sequence[str]) -> Iterator[str]:
    """The files to read for `paths`, each once, in order; raises SourceError for a path that does not exist."""
    walk = _Walk()
    for path in paths:
        before = len(walk.files)
        walk.take(path)
        if walk.unreadable:
            raise walk.unreadable[0].error
        yield from list(walk.files)[before:]


def tree_of(paths: Sequence[str]) -> Tree:
    """The same for those who follow the paths: what cannot be read is told beside what can."""
    walk, here = _Walk(), _here()
    for path in paths:
        walk.take(path)
        if path != STANDARD_INPUT:
            walk.names.update(_names_to(path, at=here))
    return Tree(walk.files, tuple(walk.unreadable), walk.ignore_files, frozenset(walk.folders), frozenset(walk.names))


def _here() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed, and no relative path leads anywhere
        return "/"


class _Walk:
    """What was found so far, and how many paths were taken."""

    def __init__(self) -> None:
        self._taken = 0
        self.files: dict[str, int] = {}
        self.unreadable: list[Unreadable] = []
        self.ignore_files: dict[str, Bytes] = {}
        self.folders: set[str] = set()
        self.names: set[str] = set()

    def take(self, path: str) -> None:
        """Adds what a path of the command line stands for."""
        if path == STANDARD_INPUT:
            self.files.setdefault(path, self._taken)
        elif os.path.isdir(path):
            for name in self._folder(str(Path(path)), ancestors=()):
                self.files.setdefault(name, self._taken)
        elif os.path.exists(path):
            self.files.setdefault(path, self._taken)
        else:
            error = SourceError(f"{path} does not exist", hint="name a file, a folder, or - for standard input")
            self.unreadable.append(Unreadable(path, error))
        self._taken += 1

    def _folder(self, folder: str, *, ancestors: tuple[str, ...]) -> Iterator[str]:
        real = os.path.realpath(folder)
        if real in ancestors:
            return  # a link to a folder above: what is in it is being read
        self.folders.add(real)
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            ignored = self._patterns(folder)
        except (OSError, UnicodeDecodeError) as error:
            self.unreadable.append(Unreadable(folder, SourceError(f"{folder} cannot be read: {error}")))
            return
        except SourceError as error:
            self.unreadable.append(Unreadable(folder, error))
            return
        for entry in entries:
            is_folder = _is_folder(entry)
            if entry.name.startswith(".") or _is_ignored(entry.name, ignored, is_folder=is_folder):
                continue
            if not is_folder and not entry.name.endswith(SUFFIXES):
                continue
            if entry.is_symlink():
                self.names.update(_names_to(entry.name, at=real))
            if is_folder:
                yield from self._below(_member(folder, entry.name), ignored, ancestors=(*ancestors, real))
            else:
                yield _member(folder, entry.name)

    def _below(self, folder: str, ignored: Sequence[str], *, ancestors: tuple[str, ...]) -> Iterator[str]:
        """A folder in a folder, without what the patterns of the outer one leave out of it."""
        below = [pattern.split("/", 1) for pattern in ignored if "/" in pattern.rstrip("/")]
        deeper = tuple(rest for head, rest in below if fnmatchcase(os.path.basename(folder), head))
        for name in self._folder(folder, ancestors=ancestors):
            if not deeper or not _is_ignored(os.path.basename(name), deeper, is_folder=False):
                yield name

    def _patterns(self, folder: str) -> tuple[str, ...]:
        ignore = _member(folder, IGNORE_FILE)
        if not Path(ignore).exists():  # which raises where it cannot be told
            return ()
        self.ignore_files[folder] = read_regular(ignore)
        text = self.ignore_files[folder].data.decode("utf-8")
        lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
        return tuple(line.removeprefix("/") for line in lines if line)


def _member(folder: str, name: str) -> str:
    """The path of what is in a folder; that of the working directory is not spelled out."""
    return name if folder == "." else os.path.join(folder, name)


def _names_to(path: str, *, at: str) -> Iterator[str]:
    """Every name that is looked up to get to a path from the folder `at`, absolute, without links before the last."""
    steps = deque(path.split("/"))
    where = "/" if path.startswith("/") else at
    links = 0
    while steps:
        step = steps.popleft()
        if step in {"", "."}:
            continue
        if step == "..":
            where = os.path.dirname(where)
            continue
        where = os.path.join(where, step)
        yield where
        try:
            target = os.readlink(where)
        except OSError as error:
            if error.errno != errno.EINVAL:
                return  # it is not there: when it is, the rest of the way can be seen
            continue
        links += 1
        if links > MOST_LINKS:
            return
        where = "/" if target.startswith("/") else os.path.dirname(where)
        steps.extendleft(reversed(target.split("/")))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead round in a circle
        return False


def _is_ignored(name: str, patterns: Sequence[str], *, is_folder: bool) -> bool:
    return any(fnmatchcase(name, pattern.rstrip("/")) for pattern in patterns if is_folder or not pattern.endswith("/"))
