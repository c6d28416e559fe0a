"""What is converted at once has no fault, and what is not has one, for both go by one description.

Documents are made from the description of each kind, with values of every type in places of any.
"""

from __future__ import annotations

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from peerauth.model.meta import NOWHERE
from peerauth.model.schema import FixedPlace
from peerauth.model.schema.description import Document, alternatives, described, plain, rules_of
from peerauth.model.schema.kinds import DOCUMENTS
from peerauth.model.schema.report import MOST_FAULTS, Report
from peerauth.model.schema.typed import typed
from peerauth.model.schema.walker import walk

TEXTS = [
    *(
        "a",
        "app.kubernetes.io/name",
        "x.y",
        "A",
        "-a",
        "a-",
        "A/b",
        "a/b/c",
        "",
        " ",
        "*",
        "a*",
        "é",
        "k" * 63,
        "k" * 64,
    ),
    *("80", "080", "0", "http", "TCP", "STRICT", "strict", "UNSET", "In", "NotIn", "Exists", "None", "MESH_INTERNAL"),
    *("10.0.0.1", "::1", "10.0.0.256", "2024-05-01T12:00:00Z", "2024-13-01T12:00:00Z", "5s", "5", "TLSV1_3"),
    *("AES128-SHA", "NONE", "istio", "Pending", "Always", "istio-proxy"),
]
texts = st.sampled_from(TEXTS)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    texts,
    st.sampled_from([0, 1, 80, 65535, 65536, -1, 1 << 70]),
    st.sampled_from([0.5, 80.0]),
)
anything: st.SearchStrategy[object] = st.one_of(
    scalars, st.lists(scalars, max_size=2), st.dictionaries(texts, scalars, max_size=2), st.just([{}]), st.just([None])
)


def value_of(kind: inspect.Type, odd: int) -> st.SearchStrategy[object]:
    """Values as a type describes them, and one in `odd` of another."""
    found = st.one_of(*(fitting(plain(one)[0], odd) for one in alternatives(kind)))
    return st.integers(0, odd).flatmap(lambda at: anything if at == 0 else found)


def fitting(kind: inspect.Type, odd: int) -> st.SearchStrategy[object]:
    """Values that a type describes, as far as it does."""
    found: st.SearchStrategy[object] = anything
    match kind:
        case inspect.StructType():
            found = mappings(kind, odd)
        case inspect.DictType():
            found = st.dictionaries(texts, value_of(kind.value_type, odd), max_size=3)
        case inspect.ListType():
            found = st.lists(value_of(kind.item_type, odd), max_size=3)
        case inspect.BoolType():
            found = st.booleans()
        case inspect.IntType():
            found = st.sampled_from([1, 80, 8080, 65535])
        case inspect.EnumType():
            found = st.sampled_from([member.value for member in kind.cls])
        case inspect.StrType():
            found = texts
    return found


def mappings(kind: inspect.StructType, odd: int) -> st.SearchStrategy[object]:
    required = {field.encode_name: value_of(field.type, odd) for field in kind.fields if field.required}
    others = {field.encode_name: value_of(field.type, odd) for field in kind.fields if not field.required}
    known = st.fixed_dictionaries(required, optional=others)
    unknown = known.map(lambda mapping: mapping | {"unknown": 1})
    return st.one_of(known, known, unknown)


documents = st.sampled_from(DOCUMENTS)
cases = documents.flatmap(
    lambda kind: st.tuples(
        st.just(kind), st.sampled_from([8, 40, 400]).flatmap(lambda odd: fitting(described(kind), odd))
    )
)


def report_of(value: object) -> Report:
    assert isinstance(value, dict)
    return Report(value, FixedPlace(NOWHERE), "default")


@settings(max_examples=600, deadline=None)
@given(cases)
def test_a_document_is_refused_if_and_only_if_the_walker_finds_a_fault(case: tuple[type[Document], object]) -> None:
    kind, value = case
    found, walked = report_of(value), report_of(value)
    document = typed(found, value, kind)
    walk(walked, value, described(kind))
    event("accepted" if document is not None else "refused")
    assert (document is None) is bool(walked.faults), walked.faults
    assert found.faults == walked.faults


@pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: kind.__name__)
def test_every_description_is_one_that_both_can_read(kind: type[Document]) -> None:
    assert rules_of(kind) is not None
    walk(report_of({}), {}, described(kind))


def test_a_document_with_many_faults_has_no_more_than_help() -> None:
    value = {"metadata": {"name": "a", "labels": {f"*{number}": "*" for number in range(10 * MOST_FAULTS)}}}
    kind = next(kind for kind in DOCUMENTS if kind.__name__ == "Pod")
    report = report_of(value)
    assert typed(report, value, kind) is None
    assert len(report.faults) == MOST_FAULTS
