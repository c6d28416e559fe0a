"""JSON as bytes that people may look at as well: valid UTF-8, and nothing in it that steers a terminal.

JSON itself escapes the control characters below U+0020; the others it may hold as they are.
"""

from __future__ import annotations

import re
import sys

import msgspec

from peerauth.cli.visible import BEYOND_C0

_HIDDEN = re.compile(f"[{BEYOND_C0}]")


def json_bytes(value: object) -> bytes:
    """A value of dictionaries, lists, strings and numbers; bytes of a file name that are not UTF-8 are replaced."""
    try:
        encoded = msgspec.json.encode(value)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_encodable(value))
    return visible_json(encoded)


def visible_json(document: bytes) -> bytes:
    """A JSON text with the same meaning, its control characters as `\\u009b`."""
    if document.isascii() and b"\x7f" not in document:
        return document
    return _HIDDEN.sub(_escaped, document.decode()).encode()


def write_json(document: dict[str, object]) -> None:
    """A whole document on standard output."""
    out = sys.stdout.buffer
    out.write(msgspec.json.format(json_bytes(document), indent=2) + b"\n")
    out.flush()


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"\\u{unit:04x}" for unit in memoryview(found[0].encode("utf-16-le")).cast("H"))


def _encodable(value: object) -> object:
    match value:
        case str():
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        case dict():
            return {_encodable(name): _encodable(member) for name, member in value.items()}
        case list() | tuple():
            return [_encodable(element) for element in value]
        case _:
            return value
