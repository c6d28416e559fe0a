"""The chain of reasons, read as an operator reads it."""

from __future__ import annotations

import pytest

from peerauth.model.meta import Meta, Origin
from peerauth.model.peerauth import Mode, PeerAuthentication, PortMode
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode, Level, PortDecision, Reason, Verdict
from peerauth.policy.reasons import not_enforced
from peerauth.policy.resolve import resolve
from samples.meshes import ROOT, pairs, policy

FINANCE = {"app": "finance"}


def chain(*policies: PeerAuthentication) -> list[Reason]:
    decision = resolve(pairs(FINANCE), "foo", policies=policies, root_namespace=ROOT)
    return list(decision.reasons)


def told(reasons: list[Reason]) -> list[tuple[str, str, str, str]]:
    return [(r.level, r.policy, r.said, r.verdict) for r in reasons]


def test_without_policies_the_default_decides() -> None:
    [reason] = chain()
    assert (reason.level, reason.said, reason.verdict) == (Level.DEFAULT, Mode.PERMISSIVE, Verdict.DECIDES)
    assert "default" in reason.why


def test_the_chain_goes_from_the_widest_to_the_narrowest_and_says_what_became_of_each() -> None:
    reasons = chain(
        policy("foo/finance", "UNSET", selector=FINANCE, ports={9000: "UNSET", 8080: "DISABLE"}, age=3),
        policy("foo/default", "STRICT", age=2),
        policy(f"{ROOT}/default", "PERMISSIVE", age=1),
        policy("foo/late", "DISABLE", age=5),
        policy(f"{ROOT}/selecting", "STRICT", selector=FINANCE),
    )
    assert told(reasons) == [
        ("mesh", f"{ROOT}/default", "PERMISSIVE", "overridden"),
        ("namespace", "foo/default", "STRICT", "decides"),
        ("namespace", "foo/late", "DISABLE", "loses"),
        ("workload", "foo/finance", "UNSET", "inherits"),
        ("workload", f"{ROOT}/selecting", "STRICT", "ignored"),
        ("port", "foo/finance", "DISABLE", "decides"),
        ("port", "foo/finance", "UNSET", "inherits"),
    ]
    assert [r.port for r in reasons] == [None, None, None, None, None, 8080, 9000]


def test_unset_all_the_way_up_falls_to_the_default_which_is_told_first() -> None:
    reasons = chain(policy(f"{ROOT}/default"), policy("foo/finance", selector=FINANCE))
    assert told(reasons) == [
        ("default", "", "PERMISSIVE", "decides"),
        ("mesh", f"{ROOT}/default", "UNSET", "inherits"),
        ("workload", "foo/finance", "UNSET", "inherits"),
    ]
    assert "PERMISSIVE" in reasons[-1].why


def test_an_overridden_policy_is_told_by_whom() -> None:
    first, second, _ = chain(
        policy(f"{ROOT}/default", "STRICT"),
        policy("foo/default", "DISABLE"),
        policy("foo/finance", "STRICT", selector=FINANCE),
    )
    assert "foo/finance is narrower and says STRICT as well." in first.why
    assert second.why.endswith("but foo/finance is narrower and says STRICT.")


@pytest.mark.parametrize(
    ("winner_age", "loser_age", "because"),
    [
        (1, 2, "it is older (created 2024-01-02T00:00:00+00:00, this one 2024-01-03T00:00:00+00:00)"),
        (None, 2, "a policy without a creation time counts as the oldest"),
        (None, None, "neither has a creation time and its name comes first"),
        (1, 1, "both were created at the same time and its name comes first"),
    ],
)
def test_a_loser_is_told_to_whom_and_why_and_what_it_would_have_said(
    winner_age: int | None, loser_age: int | None, because: str
) -> None:
    reasons = chain(
        policy("foo/b", "STRICT", selector=FINANCE, ports={8080: "DISABLE"}, age=loser_age),
        policy("foo/a", "STRICT", selector=FINANCE, age=winner_age),
    )
    loser = reasons[1]
    assert (loser.verdict, loser.policy, loser.lost_to) == (Verdict.LOSES, "foo/b", "foo/a")
    assert because in loser.why
    assert "8080: DISABLE" in loser.why


def test_an_ignored_selector_names_the_root_namespace() -> None:
    reason = chain(policy(f"{ROOT}/x", "STRICT", selector=FINANCE))[1]
    assert reason.verdict is Verdict.IGNORED
    assert "app=finance" in reason.why
    assert ROOT in reason.why


def test_a_reason_points_at_the_line_that_said_it_and_at_the_policy_if_no_line_did() -> None:
    where, line, entry = Origin("p.yaml", 1, 1), Origin("p.yaml", 9, 11), Origin("p.yaml", 12, 13)
    said = PeerAuthentication(
        Meta("finance", "foo", origin=where),
        selector=pairs(FINANCE),
        mode=Mode.STRICT,
        mode_origin=line,
        ports=(PortMode(80, Mode.DISABLE, entry), PortMode(81, Mode.UNSET)),
    )
    assert [r.origin for r in chain(said)] == [line, entry, where]
    silent = PeerAuthentication(Meta("default", "foo", origin=where))
    assert [r.origin for r in chain(silent)][1] == where


def test_port_entries_of_a_policy_without_a_selector_have_no_effect() -> None:
    broad = PeerAuthentication(Meta("default", "foo"), mode=Mode.STRICT, ports=(PortMode(8080, Mode.DISABLE),))
    decision = resolve(pairs(FINANCE), "foo", policies=[broad], root_namespace=ROOT)
    assert decision.ports == ()


def test_deciding_finds_the_entry_of_a_port_or_what_the_port_inherits_from() -> None:
    said = policy("foo/finance", "STRICT", selector=FINANCE, ports={8080: "DISABLE", 9000: "UNSET"})
    decision = resolve(pairs(FINANCE), "foo", policies=[said], root_namespace=ROOT)
    assert decision.deciding(8080).level is Level.PORT
    assert decision.deciding(9000).level is Level.WORKLOAD
    assert decision.deciding(1).level is Level.WORKLOAD


def test_ambient_notes_name_what_it_cannot_do() -> None:
    ports = (PortDecision(80, EffectiveMode.STRICT), PortDecision(81, EffectiveMode.DISABLE))
    decision = Decision(Dataplane.AMBIENT, EffectiveMode.DISABLE, ports)
    assert [decision.in_force(port) for port in (None, 80, 81)] == ["PERMISSIVE", "STRICT", "PERMISSIVE"]
    whole, single = not_enforced(decision)
    assert "workload" in whole
    assert "81" in single
    assert "80," not in single


@pytest.mark.parametrize("asked", EffectiveMode)
def test_a_sidecar_enforces_what_was_decided_and_nothing_does_outside_the_mesh(asked: EffectiveMode) -> None:
    ports = (PortDecision(81, EffectiveMode.DISABLE),)
    for on in (Dataplane.SIDECAR, Dataplane.GATEWAY, Dataplane.NONE):
        decision = Decision(on, asked, ports)
        assert decision.in_force(None) is (asked if on is Dataplane.SIDECAR else EffectiveMode.DISABLE)
        assert not not_enforced(decision)


def test_the_entries_of_a_policy_that_lost_decide_no_port() -> None:
    winner = policy("foo/old", "STRICT", selector={"app": "finance"}, ports={9000: "PERMISSIVE"}, age=1)
    loser = policy("foo/new", "STRICT", selector={"app": "finance"}, ports={8080: "DISABLE"}, age=2)
    found = chain(loser, winner)
    assert [(reason.policy, reason.port) for reason in found if reason.port is not None] == [("foo/old", 9000)]
