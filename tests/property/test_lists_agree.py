"""A list that is read item by item says what it says as a whole, at the same places; JSON says what it says as YAML."""

from __future__ import annotations

import json

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from judges.places import same_places
from peerauth.model.schema import Checked, check
from peerauth.sources.blocklists import block_list
from peerauth.sources.files import collect
from peerauth.sources.jsontree import JsonDocument, JsonSpan, json_spans
from peerauth.sources.reader import DocumentReader
from peerauth.sources.text import Chunk
from peerauth.sources.yamltree import Document, read_exactly

texts = st.sampled_from(
    ["a", "A", "", "a b", "- b", "#c", "x: y", "|", "é", "line\n- item\nmore", "'", "&x", "*x", "8080"]
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-1, 70000), st.floats(-10, 10), texts)
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
names = st.sampled_from(["a", "b", "a.b", "A", "-", 7, None])
metadata = st.fixed_dictionaries({"name": names}, optional={"labels": trees, "annotations": trees, "namespace": texts})
kinds = st.sampled_from(
    [("v1", "Namespace"), ("v1", "Pod"), ("x/v1", "Foo"), ("security.istio.io/v1", "PeerAuthentication")]
)
objects = st.builds(
    lambda kind, meta, spec: {"apiVersion": kind[0], "kind": kind[1], "metadata": meta, "spec": spec},
    kinds,
    metadata,
    trees,
)
items = st.lists(st.one_of(objects, objects, trees), min_size=1, max_size=4)
list_kinds = st.sampled_from(["List", "PodList", "NamespaceList", "FooList", "Foo"])
lists = st.builds(lambda kind, found: {"apiVersion": "v1", "items": found, "kind": kind}, list_kinds, items)


class Plain(yaml.CSafeDumper):
    """Writes as kubectl does: no aliases, keys in order."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def whole(text: str) -> Checked:
    document = read_exactly(Chunk(text, 1, "f"))
    assert isinstance(document, Document), (text, document)
    return check(document.value, place=document.place)


def streamed(text: str) -> Checked:
    found = list(DocumentReader().stream(text.encode(), file="f"))
    loaded = collect(found)
    passed_over = tuple(kind for one in found for kind in one.passed_over)
    return Checked(loaded.objects, loaded.diagnostics, passed_over, loaded.documents)


@settings(max_examples=400, deadline=None)
@given(lists, st.sampled_from([2, 4]), st.sampled_from([10, 80]), st.sampled_from([None, '"', "|"]))
@example({"apiVersion": "v1", "items": [None], "kind": "List"}, 2, 80, None)
def test_items_in_block_form_say_what_the_whole_says(
    tree: dict[str, object], indent: int, width: int, style: str | None
) -> None:
    text = yaml.dump(tree, Dumper=Plain, default_flow_style=False, indent=indent, width=width, default_style=style)
    assert streamed(text) == whole(text)


@settings(max_examples=400, deadline=None)
@given(lists, st.sampled_from([None, 1, 4]))
def test_items_in_json_say_what_the_whole_says(tree: dict[str, object], indent: int | None) -> None:
    text = json.dumps(tree, indent=indent)
    assert streamed(text) == whole(text)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(texts, trees, min_size=1), st.sampled_from([None, 0, 3]), st.booleans())
def test_json_has_the_values_and_places_that_it_has_as_yaml(tree: object, indent: int | None, plain: bool) -> None:
    text = json.dumps(tree, indent=indent, ensure_ascii=plain)
    (span,) = json_spans(Chunk(text, 7, "f")) or ()
    assert isinstance(span, JsonSpan)
    found, exact = span.read(), read_exactly(Chunk(text, 7, "f"))
    assert isinstance(found, JsonDocument), found
    assert isinstance(exact, Document), exact
    assert repr(found.value) == repr(exact.value)
    same_places(found.value, (), found.place, exact.place)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["- ", "-", "  ", "a: b", "a:", "'", '"', "|", "# c", "{", "}", "&x ", "*x", "kind: List"])
    )
)
def test_what_is_taken_for_a_list_is_one(parts: list[str]) -> None:
    """Whatever stands between: nothing is refused or said by its items that the whole does not refuse or say."""
    text = (
        "items:\n- a: 1\n" + "\n".join("".join(parts[at : at + 2]) for at in range(0, len(parts), 2)) + "\nkind: List\n"
    )
    exact = read_exactly(Chunk(text, 1, "f"))
    if block_list(Chunk(text, 1, "f")) is None:
        return
    found = streamed(text)
    if isinstance(exact, Document):
        assert found == check(exact.value, place=exact.place) or found.diagnostics
    else:
        assert found.diagnostics, "what cannot be read as a whole is not read in silence"
