"""Control characters made visible: what a document or a file name says must not steer the terminal that shows it.

Names, values and file names reach the output as they are, and some terminals obey what is in them: escape sequences
(also the one-character ones from U+0080 on), and marks that turn the direction of text or break a line. Off a terminal
as well: a log is shown later. What text for people is made of goes through here, JSON through `jsontext`.
"""

from __future__ import annotations

import re

# C1 with DEL; marks of direction; separators of lines; what has no width and no place in a name (joiners have: they
# shape letters); halves of surrogate pairs, which also stand for the bytes of file names that are not UTF-8.
BEYOND_C0 = (
    "\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
)
_HIDDEN = re.compile(f"[\x00-\x1f{BEYOND_C0}]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def visible(text: str) -> str:
    """A piece of one line, its control characters as `\\x1b` or `\\u202e`, line breaks and tabs too."""
    return text if text.isprintable() else _HIDDEN.sub(_escaped, text)


def visible_lines(text: str) -> str:
    """What may have lines of its own, such as the words of a process: the further ones are indented, none is ours."""
    return "\n  ".join(map(visible, text.splitlines()))


def complaint(message: str, *, hint: str = "") -> str:
    """An error as whole lines: the fact, and below it the next step."""
    return f"error: {visible_lines(message)}\n" + (f"  hint: {visible_lines(hint)}\n" if hint else "")


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
