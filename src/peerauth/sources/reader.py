"""A stream of bytes as checked documents: cut, read, validated, each for itself.

The fast reader is asked first; what it leaves, and nothing else, is read by the exact one. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from peerauth.model.diagnostic import Diagnostic
from peerauth.model.schema import DEFAULT_NAMESPACE, Checked, check
from peerauth.sources.blockyaml import BlockReader
from peerauth.sources.text import Chunk, decode, split
from peerauth.sources.yamltree import read_exactly


def read_stream(
    data: bytes, *, file: str, default_namespace: str = DEFAULT_NAMESPACE, reader: BlockReader | None = None
) -> Iterator[Checked]:
    """What each document of a file says, in order; a file that is not text is one fault.

    A `reader` that is handed from file to file knows the lines of those before.
    """
    text = decode(data, file=file)
    if isinstance(text, Diagnostic):
        yield Checked(diagnostics=(text,))
        return
    reader = reader or BlockReader()
    for chunk in split(text, file=file):
        if isinstance(chunk, Diagnostic):
            yield Checked(diagnostics=(chunk,))
        else:
            yield read_chunk(chunk, reader=reader, default_namespace=default_namespace)


def read_chunk(chunk: Chunk, *, reader: BlockReader, default_namespace: str = DEFAULT_NAMESPACE) -> Checked:
    """What one document says."""
    document = reader.read(chunk) or read_exactly(chunk)
    if document is None:
        return Checked()
    if isinstance(document, Diagnostic):
        return Checked(diagnostics=(document,))
    return check(document.value, place=document.place, default_namespace=default_namespace)
