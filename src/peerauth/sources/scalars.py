"""What a plain scalar means, as Kubernetes reads YAML: 1.1's booleans and integers, no dates, no base 60.

The rules are those of the library that kubectl and the API server's clients use (sigs.k8s.io/yaml), which turns YAML
into JSON: what JSON cannot carry (infinity, a null key) is no value, and a float without a fraction is an integer.
Source: its behaviour, and YAML 1.1's types for bool, int, float and null.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

Scalar = str | int | float | bool | None

MERGE_KEY = "<<"

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_MAY_MEAN_MORE = frozenset("+-.0123456789yYnNtTfFoO~")
_INTEGER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|0[0-7]*|[1-9][0-9]*)")
_FLOAT = re.compile(r"[+-]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][+-]?[0-9]+)?")
_MAY_BE_A_NUMBER = re.compile(r"[+-]?[0-9_]*(?:[xXoObB][0-9a-fA-F_]*|(?:\.[0-9_]*)?(?:_*[eE]_*[+-]?[0-9_]*)?)")
"""Wider than both: most texts that begin with a digit are addresses, identifiers and times."""
_LONGEST_NUMBER = 400
_LOWEST, _HIGHEST = -(1 << 63), (1 << 64) - 1


def resolve(text: str) -> Scalar:
    """The value of a plain (unquoted, untagged) scalar. Infinity and NaN are returned as such."""
    if text and text[0] not in _MAY_MEAN_MORE:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "yYnNtTfFoO~" or len(text) > _LONGEST_NUMBER:
        return text
    return _number(text)


def _number(text: str) -> Scalar:
    if not _MAY_BE_A_NUMBER.fullmatch(text):
        return text
    # Underscores are allowed between the digits of everything that does not begin with a point.
    digits = text if text[0] == "." else text.replace("_", "")
    if _INTEGER.fullmatch(digits):
        value = _integer(digits)
        if _LOWEST <= value <= _HIGHEST:
            return value
    if not _FLOAT.fullmatch(digits):
        return text
    number = float(digits)
    if math.isinf(number):
        return text
    return int(number) if number.is_integer() and _LOWEST <= number <= _HIGHEST else number


def _integer(digits: str) -> int:
    sign = -1 if digits[0] == "-" else 1
    body = digits.lstrip("+-").lower()
    for prefix, base in (("0x", 16), ("0o", 8), ("0b", 2)):
        if body.startswith(prefix):
            return sign * int(body[2:], base)
    return sign * (int(body, 8) if body[0] == "0" else int(body))


@lru_cache(maxsize=4096)
def resolve_key(text: str) -> str | None:
    """A plain key as the string that JSON has for it: `8080` is `"8080"`, `on` is `"true"`; None if it has none."""
    return key_text(resolve(text))


def key_text(value: Scalar) -> str | None:
    """The JSON key of a scalar; None for null, infinity and NaN, which have none."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value) if math.isfinite(value) else None
        case _:
            return str(value)
