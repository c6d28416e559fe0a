"""A stream of bytes as checked documents: cut, read, validated, each for itself.

The fast reader is asked first; what it leaves, and nothing else, is read by the exact one. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from peerauth.model.diagnostic import Diagnostic
from peerauth.model.schema import DEFAULT_NAMESPACE, Checked, check
from peerauth.sources.blockyaml import BlockReader
from peerauth.sources.forms import FormReader
from peerauth.sources.text import Chunk, decode, split
from peerauth.sources.yamltree import read_exactly


class DocumentReader:
    """Reads documents, and remembers lines and forms from one to the next, from file to file."""

    def __init__(self, *, default_namespace: str = DEFAULT_NAMESPACE) -> None:
        self._default_namespace = default_namespace
        self._blocks = BlockReader()
        self._forms = FormReader(default_namespace=default_namespace)

    def stream(self, data: bytes, *, file: str) -> Iterator[Checked]:
        """What each document of a file says, in order; a file that is not text is one fault."""
        text = decode(data, file=file)
        if isinstance(text, Diagnostic):
            yield Checked(diagnostics=(text,))
            return
        for chunk in split(text, file=file):
            yield Checked(diagnostics=(chunk,)) if isinstance(chunk, Diagnostic) else self.document(chunk)

    def document(self, chunk: Chunk) -> Checked:
        """What one document says."""
        block = self._blocks.read(chunk)
        if block is not None:
            return self._forms.check(block)
        document = read_exactly(chunk)
        if document is None:
            return Checked()
        if isinstance(document, Diagnostic):
            return Checked(diagnostics=(document,))
        return check(document.value, place=document.place, default_namespace=self._default_namespace)


def read_stream(data: bytes, *, file: str, default_namespace: str = DEFAULT_NAMESPACE) -> Iterator[Checked]:
    """What each document of one file says, in order, by a reader of its own."""
    return DocumentReader(default_namespace=default_namespace).stream(data, file=file)
