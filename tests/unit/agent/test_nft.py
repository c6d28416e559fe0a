"""The capture rules as text. What they do to packets is shown in e2e/test_redirect.py."""

from __future__ import annotations

from pathlib import Path

from peerauth.agent.nft import removal, ruleset

GOLDEN = Path(__file__).parents[2] / "golden" / "capture.nft"


def test_the_ruleset_is_the_one_that_was_reviewed() -> None:
    assert ruleset() == GOLDEN.read_text()


def test_rules_replace_themselves_in_the_same_transaction_and_can_be_removed_when_absent() -> None:
    assert ruleset().startswith(removal())
