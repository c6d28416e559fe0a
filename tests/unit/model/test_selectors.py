"""The selector index finds what trying every selector would find."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peerauth.model.meta import Labels
from peerauth.model.selectors import SelectorIndex
from samples.meshes import label_sets, pairs

SELECTORS = st.lists(st.tuples(st.sampled_from(["foo", "bar"]), label_sets(min_size=1).map(pairs)), max_size=12)


@given(SELECTORS, st.sets(st.integers(0, 11)), label_sets().map(pairs), st.sampled_from(["foo", "bar"]))
def test_matching_is_what_a_scan_finds(
    filed: list[tuple[str, Labels]], taken_out: set[int], labels: Labels, where: str
) -> None:
    index: SelectorIndex[int] = SelectorIndex()
    for number, (namespace, selector) in enumerate(filed):
        index.add(number, namespace=namespace, selector=selector)
    for number in taken_out & set(range(len(filed))):
        namespace, selector = filed[number]
        index.remove(number, namespace=namespace, selector=selector)
    expected = {
        n for n, (namespace, s) in enumerate(filed) if n not in taken_out and namespace == where and s <= labels
    }
    found = list(index.matching(labels, namespace=where))
    assert sorted(found) == sorted(expected)
