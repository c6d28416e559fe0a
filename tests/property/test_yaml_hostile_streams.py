"""Whatever the bytes are, reading them ends, reports with places, and hides nothing that is right."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerauth.sources.files import collect
from peerauth.sources.reader import DocumentReader

GOOD = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {}\n"
BROKEN = [
    "a: [1, 2",
    "a: 'b",
    'a: "b',
    "a:\n\t- b",
    "a: *x",
    "a: b: c",
    "a: 1\na: 2",
    "a: \x00",
    "a: \x07",
    "- a\nb: c",
    "!!python/object:os.system a: b",
    "%TAG ! x",
    "a: &a [*a]",
    "? [a]\n: b",
    "~: a",
    "{",
    "just text",
    "- a list",
    "a: |\n b\nc",
    "a: .inf",
]


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "text",
    [
        " " * 1_000_000 + "\t",
        "\n" * 1_000_000 + "a",
        "a: " + "b " * 500_000 + "\x01",
        "a: " + "b:" * 500_000,
        "- " * 500_000,
        "#" * 1_000_000 + "\x01",
        '"' * 1_000_000,
        "a: '" + "''" * 500_000,
        "1" * 1_000_000,
        "---\n" * 250_000,
        "[" * 1_000_000,
        "{a: " * 250_000,
        "kind: PeerAuthentication\napiVersion: security.istio.io/v1\nspec:\n"
        + "".join(f"  mtlz{number}: 1\n" for number in range(50_000)),
    ],
    ids=lambda text: repr(text[:6]),
)
def test_a_megabyte_made_to_be_slow_is_not(text: str) -> None:
    """What takes quadratic time here takes hours; the limit is far above what linear time needs."""
    assert len(collect(DocumentReader().stream(text.encode(), file="f.yaml")).diagnostics) <= 101


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_exception(data: bytes) -> None:
    loaded = collect(DocumentReader().stream(data, file="f.yaml"))
    for found in loaded.diagnostics:
        assert found.origin.file == "f.yaml"
        assert found.origin.line >= 1
        assert found.origin.line <= data.count(b"\n") + data.count(b"\r") + 2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.sampled_from(BROKEN)), max_size=8))
def test_a_broken_document_is_reported_and_does_not_hide_the_others(documents: list[str | None]) -> None:
    texts = [GOOD.format(f"n{number}") if text is None else text for number, text in enumerate(documents)]
    loaded = collect(DocumentReader().stream("\n---\n".join(texts).encode(), file="f.yaml"))
    good = [f"n{number}" for number, text in enumerate(documents) if text is None]
    assert [found.meta.name for found in loaded.objects if hasattr(found, "meta")] == good
    broken = [text for text in documents if text is not None]
    assert len(loaded.diagnostics) == len(broken)
