r"""From bytes to the documents of a stream, before any of them is parsed.

Documents are cut at the lines `---` and `...`, which YAML allows nowhere inside one, quoted strings and block scalars
included: what is wrong with one document cannot hide the next. Line breaks are made `\n` first, as YAML does.
Source: YAML 1.2.2, sections 5.2 (encodings), 5.4 (line breaks), 9.1 (documents).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

import msgspec

from peerauth.model.diagnostic import Diagnostic
from peerauth.model.meta import Origin
from peerauth.model.schema.faults import ENCODING, LIMIT, UNSUPPORTED_YAML

LARGEST_FILE = 1 << 30
"""In bytes. `kubectl get pod -A` of a cluster of 10,000 pods writes one list of about 100 MB."""
LARGEST_DOCUMENT = 64 << 20
"""In characters; each item of a list is a document."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark its own begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BOUNDARY = re.compile(r"\n(?:---|\.\.\.)(?=[ \t\n]|\Z)")
_AFTER_MARKER = ("\n", " ", "\t", "")
_SAYS_SOMETHING = re.compile(r"^(?![ \t]*+(?:#|$)|%|---[ \t]*+(?:#|$))", re.MULTILINE)
_BEGINS_WITH_A_KEY = re.compile(r"(?:---[ \t]*\n)?[A-Za-z]")
_BEGINS_WITH_A_BRACE = re.compile(r"(?:---)?[ \t\n]*\{")
_DIRECTIVE = re.compile(r"^%.*$", re.MULTILINE)
_HARMLESS_DIRECTIVE = re.compile(r"%YAML[ \t]+1\.[0-9]+[ \t]*(?:#.*)?")


class Chunk(msgspec.Struct, frozen=True):
    """The text of one document, its `---` included. `line` is where it begins in the file, from 1."""

    text: str
    line: int = 1
    file: str = ""


def decode(data: bytes, *, file: str) -> str | Diagnostic:
    """The text of a file: UTF-8, or UTF-16 or UTF-32 with a byte order mark. Broken bytes are refused."""
    if len(data) > LARGEST_FILE:
        message = f"the file has {len(data) >> 20} MiB, and at most {LARGEST_FILE >> 20} are read"
        return LIMIT.at(Origin(file), message=message, hint="split it into several files")
    encoding, body = "utf-8", data
    for mark, name in _BOMS:
        if data.startswith(mark):
            encoding, body = name, data[len(mark) :]
            break
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        return _broken(body, error, file)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _broken(body: bytes, error: UnicodeDecodeError, file: str) -> Diagnostic:
    before = body[: error.start].decode(error.encoding, "replace")
    lines = before.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    origin = Origin(file, len(lines), len(lines[-1]) + 1)
    message = f"byte 0x{body[error.start]:02x} is not {error.encoding.upper()}: {error.reason}"
    return ENCODING.at(origin, message=message, hint="save the file as UTF-8")


def split(text: str, *, file: str) -> Iterator[Chunk | Diagnostic]:
    """The documents of a stream; those that are empty, or only comments, are left out."""
    start, line = 0, 1
    for end in _boundaries(text):
        part = text[start:end]
        if len(part) <= LARGEST_DOCUMENT and _BEGINS_WITH_A_KEY.match(part):  # most do
            yield Chunk(part, line, file)
        else:
            yield from _chunk(part, line, file)
        line += part.count("\n")
        start = end


def _boundaries(text: str) -> Iterator[int]:
    """Where a line begins that is a marker, and where the text ends; one at the very beginning divides nothing."""
    if "\n..." in text:
        yield from (found.end() - 3 for found in _BOUNDARY.finditer(text))
        yield len(text)
        return
    at = text.find("\n---")  # several times faster than a pattern
    while at >= 0:
        if text[at + 4 : at + 5] in _AFTER_MARKER:
            yield at + 1
        at = text.find("\n---", at + 4)
    yield len(text)


def _chunk(text: str, line: int, file: str) -> Iterator[Chunk | Diagnostic]:
    if text.startswith("...") and text[3:4] in _AFTER_MARKER:
        # The marker ends what came before it; what follows on its line can only be a comment, or is a fault to find.
        text = "   " + text[3:]
    refused = None if _may_be_several(text) else too_large(len(text), Origin(file, line))
    if refused is not None:
        yield refused
    elif _BEGINS_WITH_A_KEY.match(text) or _SAYS_SOMETHING.search(text):
        yield Chunk(text, line, file)
    else:
        for found in _DIRECTIVE.finditer(text):
            if not _HARMLESS_DIRECTIVE.fullmatch(found[0]):
                at = Origin(file, line + text.count("\n", 0, found.start()), 1)
                yield UNSUPPORTED_YAML.at(at, message=f"the directive {found[0][:40]!r} is not supported")


def _may_be_several(text: str) -> bool:
    """Whether the text may be a list, or JSON documents after one another, of which each is read for itself."""
    return _BEGINS_WITH_A_BRACE.match(text) is not None or "\nitems:" in text or text.startswith("items:")


def too_large(size: int, origin: Origin) -> Diagnostic | None:
    """The refusal of a document with so many characters; None if it is not too large."""
    if size <= LARGEST_DOCUMENT:
        return None
    message = f"the document has {size >> 20} MiB, and at most {LARGEST_DOCUMENT >> 20} are read"
    return LIMIT.at(origin, message=message, hint="split it: one `---` between objects")
