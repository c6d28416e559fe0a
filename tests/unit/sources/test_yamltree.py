"""The exact reader: values, positions, and refusals with their place."""

from __future__ import annotations

import pytest

from peerauth.model.diagnostic import Diagnostic
from peerauth.model.schema import Path
from peerauth.model.schema.faults import DUPLICATE_KEY, ENCODING, LIMIT, SYNTAX, UNSUPPORTED_YAML, Fault
from peerauth.sources import treebuilder
from peerauth.sources.text import Chunk
from peerauth.sources.yamltree import Document, read_exactly

TEXT = """\
---
# a comment
spec:
  mtls: {mode: STRICT}
  ports:
  - name: "http"   # quoted
    number: 8080
  empty:
  list: [a, b]
"""


def read(text: str) -> Document:
    document = read_exactly(Chunk(text, 10, "f.yaml"))
    assert isinstance(document, Document), document
    return document


def refused(text: str) -> Diagnostic:
    found = read_exactly(Chunk(text, 10, "f.yaml"))
    assert isinstance(found, Diagnostic), found
    return found


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ((), "f.yaml:12:1", "f.yaml:12:1"),
        (("spec",), "f.yaml:12:1", "f.yaml:12:1"),
        (("spec", "mtls", "mode"), "f.yaml:13:16", "f.yaml:13:10"),
        (("spec", "ports", 0), "f.yaml:15:5", "f.yaml:15:5"),
        (("spec", "ports", 0, "name"), "f.yaml:15:11", "f.yaml:15:5"),
        (("spec", "ports", 0, "number"), "f.yaml:16:13", "f.yaml:16:5"),
        (("spec", "empty"), "f.yaml:17:3", "f.yaml:17:3"),
        (("spec", "list", 1), "f.yaml:18:13", "f.yaml:18:13"),
        (("spec", "absent"), "f.yaml:12:1", "f.yaml:12:1"),
    ],
)
def test_every_value_and_key_has_its_line_and_column(path: Path, value: str, key: str) -> None:
    place = read(TEXT).place
    assert (str(place.value(path)), str(place.key(path))) == (value, key)


def test_json_is_yaml() -> None:
    assert read('{"a": [1, "8080", true, null, {"b": "\\u0041"}]}').value == {"a": [1, "8080", True, None, {"b": "A"}]}


def test_aliases_and_merges_are_written_out_and_keep_the_place_of_what_they_repeat() -> None:
    document = read("base: &b\n  mode: STRICT\n  x: 1\nuse: *b\nmore:\n  <<: *b\n  x: 2\n")
    assert document.value == {
        "base": {"mode": "STRICT", "x": 1},
        "use": {"mode": "STRICT", "x": 1},
        "more": {"mode": "STRICT", "x": 2},
    }
    assert str(document.place.value(("use", "mode"))) == "f.yaml:11:9"
    assert str(document.place.value(("more", "mode"))) == "f.yaml:11:9"
    assert str(document.place.value(("more", "x"))) == "f.yaml:16:6"


def test_of_several_mappings_that_are_merged_the_first_that_has_a_key_counts() -> None:
    document = read(
        "a: &a {p: 1, q: 1}\nb: &b {p: 2, q: 2, r: 2}\nc: &c {r: 3, s: 3}\nm:\n  <<: [*a, *b, *c]\n  q: 9\n"
    )
    assert isinstance(document.value, dict)
    assert document.value["m"] == {"q": 9, "p": 1, "r": 2, "s": 3}
    where = {key: str(document.place.value(("m", key))) for key in "pqrs"}
    assert where == {"p": "f.yaml:10:11", "q": "f.yaml:15:6", "r": "f.yaml:11:23", "s": "f.yaml:12:17"}


@pytest.mark.parametrize(
    ("mapping", "said", "line"),
    [
        ("{p: 9, <<: *a}", 1, 10),
        ("{<<: *a, p: 9}", 9, 12),
        ("{<<: *a, <<: *b}", 2, 11),
        ("{<<: *a, p: 9, <<: *b}", 2, 11),
        ("{p: 9, <<: {p: 3}}", 3, 12),
        ("{p: 9, <<: [*b, *a]}", 2, 11),
        ("{p: 9, <<: {q: 3}}", 9, 12),
    ],
)
def test_what_is_merged_replaces_the_keys_before_it_as_it_does_in_kubernetes(
    mapping: str, said: int, line: int
) -> None:
    """As sigs.k8s.io/yaml 1.6 reads these very documents: what kubectl applies is what counts."""
    document = read(f"a: &a {{p: 1}}\nb: &b {{p: 2}}\nm: {mapping}\n")
    assert isinstance(document.value, dict)
    assert document.value["m"]["p"] == said
    assert document.place.value(("m", "p")).line == document.place.key(("m", "p")).line == line


@pytest.mark.parametrize(
    ("text", "fault", "line", "column"),
    [
        ("a: 1\nb: 2\na: 3\n", DUPLICATE_KEY, 12, 1),
        ('a:\n  8080: x\n  "8080": y\n', DUPLICATE_KEY, 12, 3),
        ("{8080: x, 0x1F90: y}", DUPLICATE_KEY, 10, 11),
        ("on: x\ntrue: y\n", DUPLICATE_KEY, 11, 1),
        ("a: [1, 2", SYNTAX, 10, 4),
        ("a: 'b\n", SYNTAX, 10, 4),
        ("a:\n\t- b\n", SYNTAX, 11, 1),
        ("a: b: c\n", SYNTAX, 10, 5),
        ("a: *x\n", SYNTAX, 10, 4),
        ("a: b\x00c", ENCODING, 10, 5),
        ("x: 1\na: \x07", ENCODING, 11, 4),
        ("a: &a [*a]", UNSUPPORTED_YAML, 10, 8),
        ("? [a]\n: b\n", UNSUPPORTED_YAML, 10, 3),
        ("~: a", UNSUPPORTED_YAML, 10, 1),
        ("a: .inf", UNSUPPORTED_YAML, 10, 4),
        ("a: !!python/object:os.system b", UNSUPPORTED_YAML, 10, 4),
        ("a: !!set {b}", UNSUPPORTED_YAML, 10, 4),
        ("a: !!int b", SYNTAX, 10, 4),
        ("a: &x b\n*x : c", UNSUPPORTED_YAML, 11, 1),
        ("a:\n  <<: b", SYNTAX, 11, 7),
    ],
)
def test_what_is_refused_is_refused_where_it_stands(text: str, fault: Fault, line: int, column: int) -> None:
    found = refused(text)
    assert (found.code, found.origin.line, found.origin.column) == (fault.code, line, column), found
    assert found.origin.file == "f.yaml"


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 10)]
    found = refused("\n".join(lines))
    assert found.code == LIMIT.code
    assert "aliases" in found.message


@pytest.mark.parametrize("anchored", ["[x, x, x, x]", "{a: x, b: x}", "[[x], {a: x}]"])
def test_an_alias_counts_every_value_that_it_stands_for(anchored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written_out = f"a: {anchored}\nb: {anchored}\nc: {anchored}\n"
    aliased = f"a: &a {anchored}\nb: *a\nc: *a\n"
    counted = {}
    for text in (written_out, aliased):
        limits = (limit for limit in range(1, 100) if _is_read(text, monkeypatch, at_most=limit))
        counted[text] = next(limits)
    assert counted[written_out] == counted[aliased]


def _is_read(text: str, monkeypatch: pytest.MonkeyPatch, *, at_most: int) -> bool:
    monkeypatch.setattr(treebuilder, "MOST_VALUES", at_most)
    return isinstance(read_exactly(Chunk(text)), Document)


@pytest.mark.parametrize("opening", ["[", "{a: "])
def test_depth_is_limited(opening: str) -> None:
    assert refused(opening * 10_000).code == LIMIT.code
    assert isinstance(read(opening * 50 + ("]" if opening == "[" else "}") * 50), Document)


def test_block_depth_is_limited() -> None:
    assert refused("\n".join(" " * depth + "a:" for depth in range(10_000))).code == LIMIT.code


def test_the_number_of_values_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(treebuilder, "MOST_VALUES", 1000)
    assert refused("\n".join("- a" for _ in range(1001))).code == LIMIT.code


def test_yaml_in_a_literal_block_keeps_the_positions_of_the_file() -> None:
    document = read("data:\n  mesh: |-\n\n    trustDomain: td\n    a:\n      b: c\n")
    inside = document.place.embedded(("data", "mesh"), "\ntrustDomain: td\na:\n  b: c")
    assert inside.value == {"trustDomain": "td", "a": {"b": "c"}}
    assert str(inside.place.value(("trustDomain",))) == "f.yaml:13:18"
    assert str(inside.place.value(("a", "b"))) == "f.yaml:15:10"


def test_an_empty_document_is_none() -> None:
    assert read_exactly(Chunk("# only a comment\n")) is None
    assert read("~").value is None
