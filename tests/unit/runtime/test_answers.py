"""What is said of proxies' answers: each trouble once, and when it is over."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

from peerauth.local.mesh import LocalMesh
from peerauth.model.diagnostic import Diagnostic
from peerauth.runtime.answers import Answers
from peerauth.xds.status import ProxyStatus
from peerauth.xds.wire import ProxyKey

FINANCE = ProxyKey("finance")


class Heard:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def trouble(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.said += [each.message.partition(":")[0] for each in diagnostics]

    def mended(self, sentence: str) -> None:
        self.said.append(sentence)

    def acknowledged(self, proxies: int) -> None:
        raise AssertionError(proxies)


def test_a_proxy_that_asks_for_more_than_is_kept_is_told_of_once_and_when_that_is_over() -> None:
    status: dict[ProxyKey, ProxyStatus] = {}
    mesh = SimpleNamespace(
        discovery=SimpleNamespace(status=lambda: status),
        proxies=lambda: {FINANCE: "foo/finance"},
        control_plane=SimpleNamespace(outstanding=SimpleNamespace(follow=lambda _: None)),
    )
    heard = Heard()
    answers = Answers(cast("LocalMesh", mesh), heard)
    for forgotten in (0, 1, 500, 0):
        status[FINANCE] = ProxyStatus(connected=True, acked={}, refused={}, last_nack=None, forgotten=forgotten)
        answers.tell_refusals()
    asks = "foo/finance asks for more than 20,000 destinations"
    assert heard.said == [asks, f"no longer: {asks}"]
