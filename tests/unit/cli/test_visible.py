"""What a terminal would obey is shown instead, and means the same in JSON."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.cli.jsontext import json_bytes, visible_json
from peerauth.cli.visible import visible, visible_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("foo/finance", "foo/finance"),
        ("✓ naïve \u65e5\u672c", "✓ naïve \u65e5\u672c"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nerror: b", r"a\nerror: b"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("\u202efdp.exe\u2066", r"\u202efdp.exe\u2066"),
        ("a\u2028b", r"a\u2028b"),
        ("caf\udce9", r"caf\udce9"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_control_characters_are_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    categories = {unicodedata.category(character) for character in visible(text)}
    assert not categories & {"Cc", "Cs", "Zl", "Zp"}


def test_what_has_lines_keeps_them_apart_from_ours() -> None:
    assert visible_lines("one\nerror: two\x1b[0m\n") == "one\n  error: two\\x1b[0m"


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.text('\x00\x1b\x7f\x9b\u202e\u2028\\"\U000e0041')
    )
)
def test_json_means_the_same_and_has_no_control_characters(document: dict[str, str]) -> None:
    raw = json.dumps(document, ensure_ascii=False).encode()
    shown = visible_json(raw)
    assert json.loads(shown) == document
    assert not {"\x7f", "\x9b", "\u202e", "\u2028"} & set(shown.decode())


def test_a_file_name_that_is_not_utf_8_is_written_with_replacement_characters() -> None:
    said = json_bytes({"findings": [{"file": "caf\udce9.yaml", "line": 1}]})
    assert json.loads(said) == {"findings": [{"file": "caf\ufffd.yaml", "line": 1}]}
