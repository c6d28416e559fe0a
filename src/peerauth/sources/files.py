"""Reads paths: documents as a stream, one at a time, or all that they say at once.

Only what could not be read at all is an exception (SourceError); whatever is wrong inside a file is a Diagnostic, and
the next document is read all the same. `documents` holds one file's text and one document's tree at a time.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from peerauth.errors import SourceError
from peerauth.model.changes import MeshObject
from peerauth.model.diagnostic import Diagnostic
from peerauth.model.meta import Origin
from peerauth.model.schema import DEFAULT_NAMESPACE, Checked
from peerauth.model.schema.faults import UNREADABLE
from peerauth.sources.reader import DocumentReader
from peerauth.sources.regular import read_named, read_regular
from peerauth.sources.tree import files_of


class Loaded(msgspec.Struct, frozen=True):
    """All that some paths say. `passed_over` counts documents by kinds that are not understood, `documents` all."""

    objects: tuple[MeshObject, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    passed_over: Mapping[str, int] = {}
    documents: int = 0


def load(paths: Sequence[str], *, default_namespace: str = DEFAULT_NAMESPACE) -> Loaded:
    """Everything in `paths`: files, folders, `-`. Raises SourceError when a path is missing or cannot be read."""
    with collection_paused():
        return collect(documents(paths, default_namespace=default_namespace))


@contextmanager
def collection_paused() -> Iterator[None]:
    """Keeps the garbage collector still while much is read, or by a command that soon ends.

    What is read stays and has no cycles; looking through it again and again for garbage took half of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def documents(
    paths: Sequence[str], *, default_namespace: str = DEFAULT_NAMESPACE, pipes: bool = False
) -> Iterator[Checked]:
    """What each document says, in order. Raises SourceError like `load`, before the first document where it can.

    A member of a folder that cannot be read, or is no regular file, is a fault like those of documents. `pipes` says
    that a path may be a pipe, whose writer is waited for.
    """
    reader = DocumentReader(default_namespace=default_namespace)
    for name in list(files_of(paths)):
        try:
            data = read_named(name, pipes=pipes) if name in paths else read_regular(name).data
        except SourceError as error:
            if name in paths:
                raise
            yield unreadable(name, error)
        else:
            checked = reader.stream(data, file=name)
            del data  # which the stream lets go of once it is text
            yield from checked


def collect(checked: Iterable[Checked]) -> Loaded:
    """Many documents as one result."""
    objects: list[MeshObject] = []
    diagnostics: list[Diagnostic] = []
    passed_over: Counter[str] = Counter()
    count = 0
    for document in checked:
        count += document.documents
        objects += document.objects
        diagnostics += document.diagnostics
        for kind in document.passed_over:
            passed_over[kind] += 1
    return Loaded(tuple(objects), tuple(diagnostics), dict(passed_over), count)


def unreadable(name: str, error: SourceError) -> Checked:
    """What a file says that cannot be read: that, and nothing else."""
    message = error.message.removeprefix(f"{name} ")
    return Checked(diagnostics=(UNREADABLE.at(Origin(name), message=message, hint=error.hint),))
