"""The files that a path stands for, and what is left out of a folder.

A folder is read recursively: *.yaml, *.yml and *.json, sorted by path, without hidden names and without what a
`.peerauthignore` in it names. A path that was named itself is read whatever it is called.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from peerauth.errors import SourceError

STANDARD_INPUT = "-"
SUFFIXES = (".yaml", ".yml", ".json")
IGNORE_FILE = ".peerauthignore"
"""One pattern a line (`*.bak`, `policies/`, `drafts/*.yaml`), `#` begins a comment; relative to its own folder."""


def files_of(paths: Sequence[str]) -> Iterator[str]:
    """The files to read for `paths`, each once, in order; raises SourceError for a path that does not exist."""
    seen: set[str] = set()
    for path in paths:
        for name in _expand(path):
            if name not in seen:
                seen.add(name)
                yield name


def _expand(path: str) -> Iterator[str]:
    if path == STANDARD_INPUT:
        yield path
    elif os.path.isdir(path):
        yield from _folder(Path(path), ancestors=())
    elif os.path.exists(path):
        yield path
    else:
        raise SourceError(f"{path} does not exist", hint="name a file, a folder, or - for standard input")


def _folder(folder: Path, *, ancestors: tuple[str, ...]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in ancestors:
        return  # a link to a folder above: what is in it is being read
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        ignored = _patterns(folder)
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{folder} cannot be read: {error}") from error
    for entry in entries:
        is_folder = entry.is_dir()
        if entry.name.startswith(".") or _is_ignored(entry.name, ignored, is_folder=is_folder):
            continue
        if is_folder:
            below = [pattern.split("/", 1) for pattern in ignored if "/" in pattern.rstrip("/")]
            deeper = tuple(rest for head, rest in below if fnmatchcase(entry.name, head))
            for name in _folder(folder / entry.name, ancestors=(*ancestors, real)):
                if not _is_ignored(PurePosixPath(name).name, deeper, is_folder=False):
                    yield name
        elif entry.name.endswith(SUFFIXES):
            yield str(folder / entry.name)


def _patterns(folder: Path) -> tuple[str, ...]:
    ignore = folder / IGNORE_FILE
    if not ignore.is_file():
        return ()
    lines = (line.split("#", 1)[0].strip() for line in ignore.read_text("utf-8").splitlines())
    return tuple(line.removeprefix("/") for line in lines if line)


def _is_ignored(name: str, patterns: Sequence[str], *, is_folder: bool) -> bool:
    return any(fnmatchcase(name, pattern.rstrip("/")) for pattern in patterns if is_folder or not pattern.endswith("/"))
