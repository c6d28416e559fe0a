"""Looks at paths: which files there are and what they say, reading only what is not as it was at the last look."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import msgspec

from peerauth.errors import SourceError
from peerauth.model.diagnostic import Diagnostic
from peerauth.model.meta import Origin
from peerauth.model.schema import DEFAULT_NAMESPACE, Checked
from peerauth.model.schema.faults import UNREADABLE
from peerauth.sources.files import unreadable
from peerauth.sources.reader import DocumentReader
from peerauth.sources.regular import read_regular, signature_of
from peerauth.sources.sighting import Look, Sighting, Signature
from peerauth.sources.tree import IGNORE_FILE, STANDARD_INPUT, Tree

_FRESH_NS = 2_000_000_000
"""A file that was changed within this of its reading may have been changed again without showing it: file systems count
time in ticks, the coarsest in seconds.
"""


class Looker:
    """Remembers every file as it was read last. `standard_input` is what was read there: nobody can look again."""

    def __init__(self, *, default_namespace: str = DEFAULT_NAMESPACE, standard_input: bytes = b"") -> None:
        self._reader = DocumentReader(default_namespace=default_namespace)
        self._seen: dict[str, Sighting] = {}
        self._fresh: set[str] = set()
        self._ignore_files: dict[str, bytes] = {}
        if standard_input:
            self._seen[STANDARD_INPUT] = Sighting(
                Signature(), standard_input, self._read(STANDARD_INPUT, standard_input)
            )

    def look(self, tree: Tree) -> Look:
        """What is there now."""
        faults = {
            each.path: UNREADABLE.at(Origin(each.path), message=each.error.message, hint=each.error.hint)
            for each in tree.unreadable
        }
        faults |= dict(self._unfinished_ignores(tree))
        seen = {name: (found, argument) for name, argument in tree.files.items() if (found := self._sight(name))}
        self._seen = {
            name: found if found.argument == argument else msgspec.structs.replace(found, argument=argument)
            for name, (found, argument) in seen.items()
        }
        self._fresh &= self._seen.keys()
        return Look(self._seen, faults)

    def _unfinished_ignores(self, tree: Tree) -> Iterator[tuple[str, Diagnostic]]:
        """The folders of which nobody knows what belongs to them: what says so is in writing, or has become empty."""
        before, self._ignore_files = self._ignore_files, {}
        for folder, found in tree.ignore_files.items():
            name = os.path.join(folder, IGNORE_FILE)
            self._ignore_files[folder] = before.get(folder) or found.data.strip()
            if found.in_writing:
                yield folder, UNREADABLE.at(Origin(name), message="a process has it open for writing")
            elif not found.data.strip() and before.get(folder):
                hint = "remove the file if nothing is to be left out"
                yield folder, UNREADABLE.at(Origin(name), message="it has become empty", hint=hint)
            else:
                self._ignore_files[folder] = found.data.strip()

    def _sight(self, name: str) -> Sighting | None:
        before = self._seen.get(name)
        if name == STANDARD_INPUT:
            return before
        try:
            signature = signature_of(os.stat(name))
            is_known = before is not None and before.signature == signature and not before.in_writing
            return before if is_known and name not in self._fresh else self._look_into(name, before)
        except FileNotFoundError:
            return None if not os.path.islink(name) else _lost(name, "leads to nothing")
        except OSError as error:
            return _lost(name, f"cannot be read: {error.strerror or error}")
        except SourceError as error:
            return Sighting(Signature(), documents=(unreadable(name, error),), is_readable=False)

    def _look_into(self, name: str, before: Sighting | None) -> Sighting:
        data, signature, in_writing = read_regular(name)
        self._fresh.discard(name)
        if time.time_ns() - signature.changed < _FRESH_NS:
            self._fresh.add(name)
        is_same = before is not None and before.is_readable and before.data == data
        documents = before.documents if before and is_same else self._read(name, data)
        return Sighting(signature, before.data if before and is_same else data, documents, in_writing=in_writing)

    def _read(self, name: str, data: bytes) -> tuple[Checked, ...]:
        return tuple(self._reader.stream(data, file=name))


def _lost(name: str, message: str) -> Sighting:
    documents = (unreadable(name, SourceError(message)),)
    return Sighting(Signature(), documents=documents, is_readable=False)
