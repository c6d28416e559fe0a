"""JSON is read as JSON: characters in pairs, documents after one another, positions, and refusals with their place."""

from __future__ import annotations

import json

import pytest

from peerauth.model.diagnostic import Diagnostic
from peerauth.model.inventory import Namespace
from peerauth.model.schema import Checked
from peerauth.model.schema.faults import DUPLICATE_KEY, ENCODING, LIMIT, NOT_A_RESOURCE, SYNTAX, Fault
from peerauth.sources import jsontext
from peerauth.sources.jsontree import JsonDocument, JsonSpan, json_spans
from peerauth.sources.reader import DocumentReader
from peerauth.sources.text import Chunk

TEXT = """
{
  "spec": {
    "mtls": {"mode": "STRICT"},
    "ports": [ {"name": "\\ud83d\\ude00", "number": 8080}, 7],
    "empty": {}, "none": null, "": ""
  }
}
"""


def read(text: str) -> JsonDocument | Diagnostic:
    spans = json_spans(Chunk(text, 10, "f.json"))
    assert spans is not None
    (span,) = spans
    assert isinstance(span, JsonSpan)
    return span.read()


def checked(text: str) -> list[Checked]:
    return list(DocumentReader().stream(text.encode(), file="f"))


def names(text: str) -> list[str]:
    found = checked(text)
    assert not [one for document in found for one in document.diagnostics]
    return [one.meta.name for document in found for one in document.objects if isinstance(one, Namespace)]


def namespace(name: str, **more: object) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, **more}}


def test_a_character_that_is_written_as_a_surrogate_pair_hides_nothing() -> None:
    text = json.dumps(namespace("a", annotations={"note": "done \U0001f600"}))
    assert "\\ud83d\\ude00" in text
    (found,) = checked(text)
    (one,) = found.objects
    assert isinstance(one, Namespace)
    assert one.meta.annotations == {("note", "done \U0001f600")}


@pytest.mark.parametrize("half", ["\\ud83d", "\\ude00", "\\ude00\\ud83d", "x\\uD83D y"])
def test_half_a_surrogate_pair_is_a_fault_where_it_stands(half: str) -> None:
    in_value = '{"apiVersion": "v1",\n "kind": "Namespace", "metadata": {"name": "' + half + '"}}'
    in_key = '{"apiVersion": "v1",\n "kind": "Namespace", "metadata": {"' + half + '": 1}}'
    for text, column in ((in_value, 44), (in_key, 36 + len(half) + 4)):
        (found,) = checked(text)
        assert [(one.code, str(one.origin)) for one in found.diagnostics] == [(ENCODING.code, f"f:2:{column}")]


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ((), "f.json:11:1", "f.json:11:1"),
        (("spec",), "f.json:12:3", "f.json:12:3"),
        (("spec", "mtls", "mode"), "f.json:13:22", "f.json:13:14"),
        (("spec", "ports", 0), "f.json:14:16", "f.json:14:16"),
        (("spec", "ports", 0, "number"), "f.json:14:51", "f.json:14:41"),
        (("spec", "ports", 1), "f.json:14:58", "f.json:14:58"),
        (("spec", "empty"), "f.json:15:5", "f.json:15:5"),
        (("spec", "none"), "f.json:15:26", "f.json:15:18"),
        (("spec", ""), "f.json:15:36", "f.json:15:32"),
        (("spec", "absent", "more"), "f.json:12:3", "f.json:12:3"),
    ],
)
def test_every_value_and_key_has_its_line_and_column(path: tuple[str | int, ...], value: str, key: str) -> None:
    document = read(TEXT)
    assert isinstance(document, JsonDocument)
    assert (str(document.place.value(path)), str(document.place.key(path))) == (value, key)


@pytest.mark.parametrize("between", ["", "\n", " \n\n", "\n---\n"])
def test_documents_may_stand_after_one_another(between: str) -> None:
    assert names(between.join(json.dumps(namespace(name)) for name in "abc")) == ["a", "b", "c"]


def test_documents_after_one_another_know_their_lines() -> None:
    first, second = checked(json.dumps(namespace("a"), indent=1) + "\n" + json.dumps(namespace("B")))
    assert len(first.objects) == 1
    assert [str(one.origin) for one in second.diagnostics] == ["f:8:64"]


def test_a_list_is_read_item_by_item() -> None:
    items = [namespace("a"), 7, namespace("B"), {"apiVersion": "v1", "kind": "List", "items": [namespace("c")]}]
    text = json.dumps({"apiVersion": "v1", "items": items, "kind": "List"}, indent=1)
    found = checked(text)
    assert [len(one.objects) for one in found] == [1, 0, 0, 1]
    faults = [one for document in found for one in document.diagnostics]
    assert [(one.code, one.path) for one in faults] == [
        (NOT_A_RESOURCE.code, "items[1]"),
        ("PA0013", "items[2].metadata.name"),
    ]
    lines = text.split("\n")
    assert [lines[one.origin.line - 1].strip() for one in faults] == ["7,", '"name": "B"']


def test_the_items_of_a_typed_list_need_no_kind() -> None:
    assert names('{"items": [{"metadata": {"name": "a"}}], "kind": "NamespaceList", "apiVersion": "v1"}') == ["a"]


@pytest.mark.parametrize(
    ("text", "fault", "line", "column"),
    [
        ('{"a": 1,\n "b": {"c": 1, "c": 2}}', DUPLICATE_KEY, 11, 16),
        ('{"a": [{"b": 1,\n"b": 2}], "a": {"x": 1, "x": 2}}', DUPLICATE_KEY, 11, 11),
        ('{"a": ' + "[" * 200 + "]" * 200 + "}", LIMIT, 10, 1),
        ('{"a": [' + "1," * 1_500_000 + "1]}", LIMIT, 10, 1),
    ],
)
def test_what_is_refused_is_refused_where_it_stands(text: str, fault: Fault, line: int, column: int) -> None:
    found = read(text)
    assert isinstance(found, Diagnostic), found
    assert (found.code, found.origin.line, found.origin.column) == (fault.code, line, column), found


@pytest.mark.parametrize("text", ["{a: 1}", '{"a": 1,}', '{"a": 1} x', '{"a": 1', "# c\n{}", "[1]", '{"a" 1}'])
def test_what_is_not_json_throughout_is_left_to_yaml(text: str) -> None:
    assert json_spans(Chunk(text)) is None


def test_flow_yaml_is_read_as_yaml_however_much_it_looks_like_json() -> None:
    for inside in ("{name: a}", '{"name": a}', '{"name": "a", "annotations": {"x": \'}\'}}', '{"name": "a"} # c\n'):
        assert names('{"apiVersion": "v1", "kind": "Namespace", "metadata": ' + inside + "} # c") == ["a"]


def test_one_broken_document_hides_neither_those_before_it_nor_the_other_items_of_a_list() -> None:
    good, bad = json.dumps(namespace("a")), '{"apiVersion": "v1", "kind": tru}'
    for written, found in (
        (f"{good}\n{bad}\n{good}", [["a"], [], ["a"]]),
        (f"{good}\n{good}\n{{x", [["a"], ["a"], []]),
        (f'{{"kind": "List", "items": [{good},\n{bad}, {good}]}}', [["a"], [], ["a"]]),
    ):
        documents = checked(written)
        assert [[one.meta.name for one in each.objects if isinstance(one, Namespace)] for each in documents] == found
        (fault,) = [one for each in documents for one in each.diagnostics]
        assert (fault.code, fault.origin.line) == (SYNTAX.code, 3 if "x" in written else 2)


def test_a_list_of_very_many_items_is_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsontext, "MOST_VALUES", 10)
    for text in ('{"kind": "List", "items": [' + "1," * 20 + "1]}", "{" + '"": 0,' * 20 + '"": 0}'):
        found = json_spans(Chunk(text)) or ()
        assert [one.code for one in found if isinstance(one, Diagnostic)] == [LIMIT.code]


def test_bottomless_nesting_is_refused() -> None:
    deep = '{"a":' + "[" * 5_000 + "]" * 5_000 + "}"
    for text in ('{"a":' * 100_000, '{"a":' + "[" * 100_000, deep, '{"kind": "List", "items": [' + deep + "]}"):
        (found,) = checked(text)
        assert [one.code for one in found.diagnostics] == [LIMIT.code]
