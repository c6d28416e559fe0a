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
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_TO_BRACKET = re.compile(r'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}\[\]]*+)*+([{}\[\]])')
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
_WORD = re.compile(r"[-+.0-9A-Za-z]+")


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
    end_of = _end_by_making if known else _end
    if opening not in ("{", "["):
        return found, end_of(text, at)
    closing, at = ("}" if opening == "{" else "]"), after_blanks(text, at + 1)
    while text[at : at + 1] != closing or found:
        step: str | int = len(found)
        key_at = at
        if opening == "{":
            step, at = _key(text, at)
        end = end_of(text, at)
        found.append((step, key_at, at, end))
        if len(found) > MOST_VALUES:
            raise TooMany(begin)
        at = after_blanks(text, end)
        if text[at : at + 1] == closing:
            break
        if text[at : at + 1] != ",":
            raise NotJson(at)
        at = after_blanks(text, at + 1)
    return found, at + 1


def _key(text: str, at: int) -> tuple[str, int]:
    """The key that begins at an offset, and where its value does."""
    key = string_at(text, at)
    if key is None:
        raise NotJson(at)
    at = after_blanks(text, _end(text, at))
    if text[at : at + 1] != ":":
        raise NotJson(at)
    return key, after_blanks(text, at + 1)


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
    if text[at : at + 1] not in ("{", "["):
        found = _STRING.match(text, at) or _WORD.match(text, at)
        if found is None:
            raise NotJson(at)
        return found.end()
    depth = 0
    while True:
        found = _TO_BRACKET.match(text, at)
        if found is None:
            raise NotJson(at)
        depth += 1 if found[1] in "{[" else -1
        at = found.end()
        if not depth:
            return at


def after_blanks(text: str, at: int) -> int:
    """The first character at an offset, or after it, that is no blank."""
    found = _BLANKS.match(text, at)
    return found.end() if found else at
