"""A stream of bytes as checked documents: cut, read, validated, each for itself; of a list, each item for itself.

JSON is read as JSON. Of YAML the fast reader is asked first; what it leaves, and nothing else, is read by the exact
one. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from peerauth.model.diagnostic import Diagnostic
from peerauth.model.meta import Origin
from peerauth.model.schema import DEFAULT_NAMESPACE, Checked, FixedPlace, Place, check, check_item
from peerauth.sources.blocklists import BlockList, block_list
from peerauth.sources.blockyaml import BlockDocument, BlockReader
from peerauth.sources.jsontext import NotJson
from peerauth.sources.jsontree import JsonSpan, json_spans
from peerauth.sources.text import Chunk, decode, split, too_large
from peerauth.sources.yamltree import read_exactly

LARGEST_PLAIN = 1 << 16
"""In characters: a larger document may be a list, and is not read whole to find out."""


class DocumentReader:
    """Reads documents, and remembers lines and layouts from one to the next, from file to file."""

    def __init__(self, *, default_namespace: str = DEFAULT_NAMESPACE) -> None:
        self._default_namespace = default_namespace
        self._blocks = BlockReader()

    def stream(self, data: bytes, *, file: str) -> Iterator[Checked]:
        """What each document of a file says, in order; a file that is not text is one fault."""
        text = decode(data, file=file)
        del data  # as large as the text
        if isinstance(text, Diagnostic):
            yield Checked(diagnostics=(text,))
            return
        for chunk in split(text, file=file):
            if isinstance(chunk, Diagnostic):
                yield Checked(diagnostics=(chunk,))
            elif (checked := self._plainly(chunk)) is not None:
                yield checked
            else:
                yield from self._chunk(chunk)

    def _plainly(self, chunk: Chunk) -> Checked | None:
        """What a document says that is no list and that the fast reader takes, as most are; None of any other."""
        text = chunk.text
        if len(text) > LARGEST_PLAIN or not (text[0].isalpha() or (text.startswith("---\n") and text[4:5].isalpha())):
            return None
        block = self._blocks.read(chunk)
        return None if block is None or "items" in block.layout.root.slots else self._block(block)

    def document(self, chunk: Chunk) -> Checked:
        """What one document says, read as a whole."""
        block = self._blocks.read(chunk)
        if block is not None:
            return self._block(block)
        document = read_exactly(chunk)
        if document is None:
            return Checked()
        if isinstance(document, Diagnostic):
            return Checked(diagnostics=(document,))
        return self._check(document.value, document.place)

    def _block(self, block: BlockDocument) -> Checked:
        return check(block.value_read, place=block.place, default_namespace=self._default_namespace)

    def _chunk(self, chunk: Chunk) -> Iterator[Checked]:
        spans = json_spans(chunk)
        if spans is None:
            yield from self._yaml(chunk)
        elif len(spans) == 1 and isinstance(spans[0], JsonSpan) and spans[0].items is None:
            try:
                yield self._json(spans[0])
            except NotJson:
                yield from self._yaml(chunk)
        else:
            for span in spans:
                yield from self._one_of_several(span)

    def _yaml(self, chunk: Chunk) -> Iterator[Checked]:
        found = block_list(chunk)
        refused = too_large(len(chunk.text), Origin(chunk.file, chunk.line))
        if found is not None:
            yield from self._items(found)
        else:
            yield self.document(chunk) if refused is None else Checked(diagnostics=(refused,))

    def _json(self, span: JsonSpan) -> Checked:
        document = span.read()
        if isinstance(document, Diagnostic):
            return Checked(diagnostics=(document,))
        return self._check(document.value, document.place)

    def _one_of_several(self, span: JsonSpan | Diagnostic) -> Iterator[Checked]:
        """A document of which it is certain that it is meant to be JSON."""
        if isinstance(span, Diagnostic):
            yield Checked(diagnostics=(span,))
            return
        if not span.items:
            try:
                yield self._json(span)
            except NotJson as error:
                yield Checked(diagnostics=(span.refused(error),))
            return
        for index, item in enumerate(span.each()):
            try:
                document = item.read()
            except NotJson as error:
                document = item.refused(error)
            if isinstance(document, Diagnostic):
                yield Checked(diagnostics=(document,))
            else:
                yield self._item(document.value, index, document.place, kind=span.kind, api_version=span.api_version)

    def _items(self, found: BlockList) -> Iterator[Checked]:
        for index, chunk in enumerate(found.items()):
            here = Origin(chunk.file, chunk.line, found.column + 1)
            document = too_large(len(chunk.text), here) or self._blocks.read(chunk) or read_exactly(chunk)
            if isinstance(document, Diagnostic):
                yield Checked(diagnostics=(document,))
                continue
            value, place = (None, FixedPlace(here)) if document is None else (document.value, document.place)
            yield self._item(value, index, place, kind=found.kind, api_version=found.api_version)

    def _check(self, value: object, place: Place) -> Checked:
        return check(value, place=place, default_namespace=self._default_namespace)

    def _item(self, value: object, index: int, place: Place, *, kind: str, api_version: str) -> Checked:
        return check_item(
            value,
            index,
            place=place,
            kind=kind,
            api_version=api_version,
            default_namespace=self._default_namespace,
        )
