"""Plain scalars mean what they mean to Kubernetes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.sources.scalars import Scalar, key_text, resolve


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, True) for word in ("true", "True", "TRUE", "yes", "Yes", "on", "ON", "y", "Y")),
        *((word, False) for word in ("false", "no", "NO", "off", "Off", "n", "N")),
        *((word, None) for word in ("", "~", "null", "Null", "NULL")),
        *((word, word) for word in ("nULL", "tRUE", "yEs", "STRICT", "None", "nan", "inf", "-", "+", ".", "0x", "0o8")),
        ("8080", 8080),
        ("-1", -1),
        ("+1", 1),
        ("017", 15),
        ("0o17", 15),
        ("0x1F", 31),
        ("-0b11", -3),
        ("1_000", 1000),
        ("089", 89),
        ("8080.0", 8080),
        ("1e3", 1000),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e400", "1e400"),
        ("2001-01-01", "2001-01-01"),
        ("12:30:45", "12:30:45"),
        ("18446744073709551615", 18446744073709551615),
        ("1" * 5000, "1" * 5000),
    ],
)
def test_a_plain_scalar_has_the_value_that_kubernetes_gives_it(text: str, value: Scalar) -> None:
    found = resolve(text)
    assert (type(found), found) == (type(value), value)


def test_numbers_that_json_lacks_are_recognised() -> None:
    assert resolve("-.inf") == -math.inf
    assert math.isnan(float(str(resolve(".nan"))))


@pytest.mark.parametrize(
    ("value", "key"), [(8080, "8080"), (True, "true"), ("a", "a"), (1.5, "1.5"), (None, None), (math.inf, None)]
)
def test_keys_are_strings(value: Scalar, key: str | None) -> None:
    assert key_text(value) == key


@given(st.text("0123456789+-._abfxXoOeE", max_size=8), st.sampled_from("+-0123456789"))
def test_underscores_make_no_difference_to_a_number(rest: str, first: str) -> None:
    plain = resolve(first + rest.replace("_", ""))
    if not isinstance(plain, str):
        assert resolve(first + rest) == plain
