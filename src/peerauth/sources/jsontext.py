"""Where the values of a JSON text begin and end, found without making them: brackets are counted, strings passed over.

What stands between is not looked at: whoever makes a value of it finds out whether it is JSON. Source: RFC 8259.
"""

from __future__ import annotations

import json
import re

from peerauth.sources.treebuilder import MOST_VALUES

Entry = tuple[str | int, int, int, int]
"""What a container holds: step, where its key (in a list: its value) and its value begin, and where the value ends."""

_BLANKS = re.compile(r"[ \t\n]*")
_INSIDE = r'[^"\\]*+(?:\\.[^"\\]*+)*+'
_KEY = re.compile(rf'"({_INSIDE})"[ \t\n]*:[ \t\n]*')
_SCALAR = re.compile(rf'"{_INSIDE}"|[-+.0-9A-Za-z]+')
_AFTER = re.compile(r"[ \t\n]*([,}\]])[ \t\n]*")
_TO_BRACKET = re.compile(rf'[^"{{}}\[\]]*+(?:"{_INSIDE}"[^"{{}}\[\]]*+)*+([{{}}\[\]])')
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


class NotJson(Exception):  # noqa: N818 - an answer: where the text is no JSON
    """The text is not JSON at an offset."""

    def __init__(self, at: int, problem: str = "this is not JSON") -> None:
        super().__init__(problem)
        self.at = at
        self.problem = problem


class TooMany(Exception):  # noqa: N818 - ends the walk and becomes a Diagnostic
    """The container that begins at an offset holds more than is read."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at


def entries_of(text: str, at: int, *, known: bool = False) -> tuple[list[Entry], int]:
    """What stands in the container that begins at an offset, and where it ends; nothing stands in a scalar.

    `known`: the text is known to be JSON of a bounded size, and what is passed over may be made, which is faster.
    """
    opening, begin, found = text[at : at + 1], at, list[Entry]()
    if opening not in ("{", "["):
        return found, _end(text, at)
    closing, at = ("}" if opening == "{" else "]"), after_blanks(text, at + 1)
    if text[at : at + 1] == closing:
        return found, at + 1
    while len(found) < MOST_VALUES:
        step: str | int = len(found)
        key_at = at
        if opening == "{":
            step, at = _key(text, at)
        scalar = _SCALAR.match(text, at)
        end = scalar.end() if scalar else _end_by_making(text, at) if known else _end(text, at)
        found.append((step, key_at, at, end))
        after = _AFTER.match(text, end)
        if after is None or after[1] not in (",", closing):
            raise NotJson(end)
        at = after.end()
        if after[1] == closing:
            return found, after.end(1)
    raise TooMany(begin)


def _key(text: str, at: int) -> tuple[str, int]:
    """The key that begins at an offset, and where its value does."""
    found = _KEY.match(text, at)
    if found is None:
        raise NotJson(at)
    key = found[1] if "\\" not in found[1] else string_at(text, at)
    return key or "", found.end()


def string_at(text: str, at: int) -> str | None:
    """The string that begins at an offset, if one does."""
    if text[at : at + 1] != '"':
        return None
    try:
        return str(_DECODER.raw_decode(text, at)[0])
    except ValueError:
        raise NotJson(at) from None


def _end_by_making(text: str, at: int) -> int:
    return _DECODER.raw_decode(text, at)[1]


def _end(text: str, at: int) -> int:
    """Where the value that begins at an offset ends."""
    scalar = _SCALAR.match(text, at)
    if scalar is not None:
        return scalar.end()
    begin, depth = at, 0
    while depth or at == begin:
        found = _TO_BRACKET.match(text, at)
        if found is None or (at == begin and (found.start(1) != at or found[1] in "}]")):
            raise NotJson(at)
        depth += 1 if found[1] in "{[" else -1
        at = found.end()
    return at


def after_blanks(text: str, at: int) -> int:
    """The first character at an offset, or after it, that is no blank."""
    found = _BLANKS.match(text, at)
    return found.end() if found else at
