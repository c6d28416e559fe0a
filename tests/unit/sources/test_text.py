"""Bytes to documents: encodings, line breaks, and where one document ends."""

from __future__ import annotations

import codecs

import pytest

from peerauth.model.diagnostic import Diagnostic
from peerauth.model.schema.faults import ENCODING, LIMIT, UNSUPPORTED_YAML
from peerauth.sources import text as text_module
from peerauth.sources.blockyaml import BlockReader
from peerauth.sources.text import Chunk, decode, split


def chunks(text: str) -> list[tuple[int, str]]:
    found = list(split(text, file="f"))
    assert all(isinstance(chunk, Chunk) for chunk in found), found
    return [(chunk.line, chunk.text) for chunk in found if isinstance(chunk, Chunk)]


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_unicode_is_read_by_its_byte_order_mark(mark: bytes, encoding: str) -> None:
    assert decode(mark + "a: é\r\nb: c\rd: e\n".encode(encoding), file="f") == "a: é\nb: c\nd: e\n"


@pytest.mark.parametrize("data", [b"a: b\nc: \xff\n", b"a: b\r\nc: \xc3", codecs.BOM_UTF8 + b"a: b\rc: \xe9 x"])
def test_a_broken_byte_is_refused_at_its_place(data: bytes) -> None:
    found = decode(data, file="f")
    assert isinstance(found, Diagnostic)
    assert (found.code, str(found.origin)) == (ENCODING.code, "f:2:4")


def test_half_a_utf16_character_is_refused() -> None:
    found = decode(codecs.BOM_UTF16_LE + "a: b".encode("utf-16-le") + b"\x00", file="f")
    assert isinstance(found, Diagnostic)
    assert found.code == ENCODING.code


def test_documents_are_cut_at_their_markers_and_know_their_line() -> None:
    assert chunks("a: 1\n---\nb: 2\n--- # c\nc: 3\n...\n---\nd: 4") == [
        (1, "a: 1\n"),
        (2, "---\nb: 2\n"),
        (4, "--- # c\nc: 3\n"),
        (7, "---\nd: 4"),
    ]


def test_what_only_looks_like_a_marker_is_none() -> None:
    assert len(chunks("a: |\n  ---\n  b\nc: ---\n---x: y\n----\n...z: 1\n")) == 1
    assert chunks("...a: 1\n") == [(1, "...a: 1\n")]
    assert chunks("... # end\na: 1\n") == [(1, "    # end\na: 1\n")]


def test_empty_documents_are_left_out() -> None:
    assert chunks("") == []
    assert chunks("---\n---\n# c\n--- # d\n\n  \n...\n") == []


def test_content_on_the_line_of_the_marker_belongs_to_the_document() -> None:
    assert chunks("--- {a: 1}\n--- b\n") == [(1, "--- {a: 1}\n"), (2, "--- b\n")]


def test_directives_of_a_version_are_ignored_and_others_refused() -> None:
    assert chunks("%YAML 1.2\n---\na: 1\n") == [(2, "---\na: 1\n")]
    found = [chunk for chunk in split("# c\n%TAG !e! x\n---\na: 1\n", file="f") if isinstance(chunk, Diagnostic)]
    assert [(one.code, one.origin.line) for one in found] == [(UNSUPPORTED_YAML.code, 2)]


def test_a_document_over_the_limit_is_refused_and_the_next_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "LARGEST_DOCUMENT", 20)
    first, second = split("a: " + "x" * 30 + "\n---\nb: 1\n", file="f")
    assert isinstance(first, Diagnostic)
    assert first.code == LIMIT.code
    assert isinstance(second, Chunk)


def test_a_document_of_100_megabytes_is_refused() -> None:
    text = decode(b"a: " + b"x" * 100_000_000, file="f")
    assert isinstance(text, str)
    (found,) = split(text, file="f")
    assert isinstance(found, Diagnostic)
    assert found.code == LIMIT.code


def test_a_file_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "LARGEST_FILE", 20)
    found = decode(b"x" * 21, file="f")
    assert isinstance(found, Diagnostic)
    assert found.code == LIMIT.code


def test_blanks_before_a_comment_are_no_part_of_a_value() -> None:
    """Regular expressions of Python before 3.11.5 got this wrong (gh-106052)."""
    read = BlockReader().read(Chunk("name: legacy        # outside the mesh\nother: a b   c\n"))
    assert read is not None
    assert read.value == {"name": "legacy", "other": "a b   c"}
