"""A text that is copied is looked at by whoever asks anything of it, knowing of it or not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from peerauth.model.meta import Meta
from peerauth.model.schema.watched import CopiedText, Watch, WatchedMapping, copied, holds, label_set, made_of

LINE = 3


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def text(watch: Watch) -> CopiedText:
    found = copied(WatchedMapping({"name": "finance"}, {"name": LINE}, watch), "name")
    assert isinstance(found, CopiedText)
    return found


@pytest.mark.parametrize(
    ("look", "seen"),
    [
        (lambda text: text == "web", False),
        (lambda text: text != "web", True),
        (lambda text: text < "web", True),
        (lambda text: text in {"web", "api"}, False),
        (lambda text: text in ("finance", "api"), True),
        ({"finance": 1}.get, 1),
        (lambda text: "nan" in text, True),
        (lambda text: text.startswith("fin"), True),
        (lambda text: text.partition("-"), ("finance", "", "")),
        (len, 7),
        (lambda text: text[0], "f"),
        (sorted, ["a", "c", "e", "f", "i", "n", "n"]),
        (lambda text: text + "-v1", "finance-v1"),
        (lambda text: "the-" + text, "the-finance"),
        (lambda text: f"{text}!", "finance!"),
        (lambda text: "%s!" % text, "finance!"),  # noqa: UP031
        (str, "finance"),
        (repr, "'finance'"),
    ],
)
def test_asking_is_looking(watch: Watch, text: CopiedText, look: Callable[[str], object], seen: object) -> None:
    assert watch.looked_at == set()
    assert look(text) == seen
    assert watch.looked_at == {LINE}


def test_copying_is_not(watch: Watch, text: CopiedText) -> None:
    assert (text or "default") is text
    assert holds(str.islower, text)
    made_of(str.encode, text)
    labels = label_set([("app", text)])
    Meta(text, text, labels=labels)
    assert watch.looked_at == set()
    assert {name for name, _ in labels} == {"app"}


def test_a_text_of_which_nothing_can_be_made_has_been_looked_at(watch: Watch, text: CopiedText) -> None:
    assert made_of(lambda _: None, text) is None
    assert watch.looked_at == {LINE}
