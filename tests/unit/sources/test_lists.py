"""A list of any size is read item by item: the limits are those of one item, and every position is the file's."""

from __future__ import annotations

import json

import pytest

from peerauth.model.inventory import Namespace
from peerauth.model.schema import Checked
from peerauth.model.schema.faults import LIMIT, SYNTAX
from peerauth.sources import blocklists, blockyaml, text, treebuilder
from peerauth.sources.blocklists import block_list
from peerauth.sources.files import collect
from peerauth.sources.reader import DocumentReader
from peerauth.sources.text import Chunk


def item(name: str) -> str:
    return f"- apiVersion: v1\n  kind: Namespace\n  metadata:\n    name: {name}\n"


def block(*items: str, kind: str = "List", indent: str = "") -> str:
    body = "".join(f"{indent}{line}\n" for one in items for line in one.splitlines())
    return f"apiVersion: v1\nitems:\n{body}kind: {kind}\nmetadata:\n  resourceVersion: ''\n"


def as_json(*names: str) -> str:
    items = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names]
    return json.dumps({"apiVersion": "v1", "items": items, "kind": "List"})


def checked(written: str) -> list[Checked]:
    return list(DocumentReader().stream(written.encode(), file="f"))


def names(found: list[Checked]) -> list[str]:
    return [one.meta.name for document in found for one in document.objects if isinstance(one, Namespace)]


MANY = [f"n{number}" for number in range(50)]


@pytest.mark.parametrize("written", [block(*map(item, MANY)), block(*map(item, MANY), indent="  "), as_json(*MANY)])
def test_the_limits_on_a_document_are_those_of_one_item(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "LARGEST_DOCUMENT", 200)
    monkeypatch.setattr(treebuilder, "MOST_VALUES", 20)
    monkeypatch.setattr(blockyaml, "MOST_CHARACTERS", 0)  # so that the exact reader counts
    found = checked(written)
    assert names(found) == MANY
    assert not [one for document in found for one in document.diagnostics]


def test_one_item_over_the_limit_is_refused_and_the_others_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "LARGEST_DOCUMENT", 300)
    for written, line in ((block(item("a"), item("b" * 400), item("c")), 7), (as_json("a", "b" * 400, "c"), 1)):
        found = checked(written)
        assert names(found) == ["a", "c"]
        (fault,) = [one for document in found for one in document.diagnostics]
        assert (fault.code, fault.origin.line) == (LIMIT.code, line)


def test_what_is_too_large_and_no_list_is_refused_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "LARGEST_DOCUMENT", 60)
    for written in (block(item("a"), kind="Other"), block(item("a &x"), item("*x")), '{"a": "' + "x" * 100 + '"}'):
        (found,) = checked(written)
        assert [one.code for one in found.diagnostics] == [LIMIT.code]


def test_a_list_of_very_many_items_is_read_as_one_document_which_is_over_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocklists, "MOST_VALUES", 10)
    assert block_list(Chunk(block(*["- 1"] * 10))) is not None
    assert block_list(Chunk(block(*["- 1"] * 11))) is None


def test_a_broken_item_hides_no_other() -> None:
    found = checked(block(item("a"), "- a: [1, 2\n", item("c")))
    assert names(found) == ["a", "c"]
    assert [(one.code, str(one.origin)) for one in found[1].diagnostics] == [(SYNTAX.code, "f:7:6")]


def test_a_list_counts_as_its_items() -> None:
    for written in (block(item("a"), item("b")), as_json("a", "b"), "kind: List\nitems: [{}, {}]\n"):
        assert collect(checked(written)).documents == 2
    for written in ("kind: List\nitems: []\n", "kind: List\nitems:\n", '{"kind": "List", "items": []}'):
        assert collect(checked(written)).documents == 1


@pytest.mark.parametrize(
    "written",
    [
        block("- a: 1", kind="Other"),
        block("- &x {a: 1}", "- *x"),
        block("- a: 1", "-x: 2"),
        "items:\n- a: 1\nkind: List\nkind: List\n",
        "items:\n- a: 1\n&x kind: List\n" + "\tb",
        "items: [a]\nkind: List\n",
        "items:\n  a: 1\nkind: List\n",
        "x:\n  items:\n  - a\nkind: List\n",
    ],
)
def test_what_is_not_certain_is_read_as_a_whole(written: str) -> None:
    assert block_list(Chunk(written)) is None


def test_anchors_within_an_item_are_no_reason_to_read_the_whole() -> None:
    written = block("- a: &x 1\n  b: *x", "- a: &x 2\n  b: *x\n  c: a && b\n  d: 'x &y'")
    assert block_list(Chunk(written)) is not None
    assert block_list(Chunk(block("- a: &x 1\n", "- b: *x\n  a: &x 2"))) is None
