"""What Kubernetes' API server takes for a name, a label and an annotation, by kind of text; nothing else is one.

Predicates over texts, remembered, since names repeat themselves. A prefix of a key is always in lower case; the name
part of a label's key may be in either, and an annotation's key as a whole. Sources: Kubernetes' API conventions,
"Object names and IDs", "Labels and selectors" and "Annotations", and the API server's validation of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

LONGEST_LABEL = 63
LONGEST_SUBDOMAIN = 253
LARGEST_ANNOTATIONS = 256 << 10
"""In bytes: all keys and values of one object."""

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")

MOST_REMEMBERED = 4096
LONGEST_REMEMBERED = 256


class _Remembered(dict[str, bool]):
    """What a predicate says of texts that it was asked about. Its memory is bounded."""

    def __init__(self, holds: Callable[[str], bool]) -> None:
        super().__init__()
        self._holds = holds

    def __missing__(self, text: str) -> bool:
        answer = self._holds(text)
        if len(text) <= LONGEST_REMEMBERED:
            if len(self) >= MOST_REMEMBERED:
                self.clear()
            self[text] = answer
        return answer


def remembered(holds: Callable[[str], bool]) -> Callable[[str], bool]:
    """The same predicate, which remembers its answers: names repeat themselves."""
    return _Remembered(holds).__getitem__


@remembered
def is_subdomain(text: str) -> bool:
    """Whether it is a DNS subdomain, as most names of objects are."""
    return len(text) <= LONGEST_SUBDOMAIN and _SUBDOMAIN.fullmatch(text) is not None


@remembered
def is_dns_label(text: str) -> bool:
    """Whether it is a DNS label, as the names of namespaces and Services are."""
    return len(text) <= LONGEST_LABEL and _LABEL.fullmatch(text) is not None


@remembered
def is_label_key(text: str) -> bool:
    """Whether it is a name, with or without a prefix before a slash."""
    prefix, slash, name = text.rpartition("/")
    if slash and not is_subdomain(prefix):
        return False
    return len(name) <= LONGEST_LABEL and _QUALIFIED.fullmatch(name) is not None


@remembered
def is_label_value(text: str) -> bool:
    """Whether a label can have it as its value; the empty one it can."""
    return not text or (len(text) <= LONGEST_LABEL and _QUALIFIED.fullmatch(text) is not None)


@remembered
def is_annotation_key(text: str) -> bool:
    """Whether an annotation can have it as its key: a label's, in either case throughout."""
    return is_label_key(text.lower())


def size_of(text: str) -> int:
    """How many bytes a text has."""
    return len(text) if text.isascii() else len(text.encode())
