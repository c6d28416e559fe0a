"""What Kubernetes' API server takes for a name, a label and an annotation, by kind of text; nothing else is one.

Predicates over texts, remembered, since names repeat themselves. A prefix of a key is always in lower case; the name
part of a label's key may be in either, and an annotation's key as a whole. Sources: Kubernetes' API conventions,
"Object names and IDs", "Labels and selectors" and "Annotations", and the API server's validation of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

LARGEST_ANNOTATIONS = 256 << 10
"""In bytes: all keys and values of one object."""

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(rf"(?:{_QUALIFIED.pattern})?")

MOST_REMEMBERED = 4096
LONGEST_REMEMBERED = 256


Holds = Callable[[str], object]
"""A predicate over texts; what it returns is as good as true or false."""


class _Remembered(dict[str, bool]):
    """What a predicate says of texts that it was asked about. Its memory is bounded."""

    def __init__(self, holds: Holds) -> None:
        super().__init__()
        self._holds = holds

    def __missing__(self, text: str) -> bool:
        answer = bool(self._holds(text))
        if len(text) <= LONGEST_REMEMBERED:
            if len(self) >= MOST_REMEMBERED:
                self.clear()
            self[text] = answer
        return answer


def remembered(holds: Holds) -> Callable[[str], bool]:
    """The same predicate, which remembers its answers: names repeat themselves."""
    return _Remembered(holds).__getitem__


matches_subdomain: Holds = _SUBDOMAIN.fullmatch
"""Whether it is a DNS subdomain, as most names of objects are. Names of objects seldom repeat themselves."""
is_subdomain = remembered(matches_subdomain)
is_dns_label = remembered(_LABEL.fullmatch)
"""Whether it is a DNS label, as the names of namespaces and Services are."""
is_label_value = remembered(_VALUE.fullmatch)
"""Whether a label can have it as its value; the empty one it can."""


@remembered
def is_label_key(text: str) -> bool:
    """Whether it is a name, with or without a prefix before a slash."""
    prefix, slash, name = text.rpartition("/")
    return _QUALIFIED.fullmatch(name) is not None and (not slash or is_subdomain(prefix))


@remembered
def is_annotation_key(text: str) -> bool:
    """Whether an annotation can have it as its key: a label's, in either case throughout."""
    return is_label_key(text.lower())


def size_of(text: str) -> int:
    """How many bytes a text has."""
    return len(text) if text.isascii() else len(text.encode())
