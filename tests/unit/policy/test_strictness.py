"""What a change closes: judged by what is enforced, on every port that either decision names and on all others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peerauth.model.inventory import WorkloadKey
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode, PortDecision
from peerauth.policy.index import DecisionChange
from peerauth.policy.strictness import ModeChange, closed_by, loosens, tightened

DISABLE, PERMISSIVE, STRICT = EffectiveMode.DISABLE, EffectiveMode.PERMISSIVE, EffectiveMode.STRICT
ORDER = [DISABLE, PERMISSIVE, STRICT]
MODES = st.sampled_from(EffectiveMode)
PORTS = st.dictionaries(st.integers(1, 4), MODES)
EVERY = (None, 1, 2, 3, 4, 5)


def decision(mode: EffectiveMode, ports: dict[int, EffectiveMode] | None = None) -> Decision:
    entries = tuple(PortDecision(port, said) for port, said in sorted((ports or {}).items()))
    return Decision(Dataplane.SIDECAR, mode, entries)


DECISIONS = st.builds(decision, MODES, PORTS)


@given(DECISIONS, DECISIONS)
def test_a_port_is_among_them_if_and_only_if_it_lets_in_less(old: Decision, new: Decision) -> None:
    found = tightened(old, new)
    for port in EVERY:
        # A port that neither names is spoken for by all others.
        named = port is None or port in {entry.port for entry in (*old.ports, *new.ports)}
        stricter = ORDER.index(new.mode_of(port)) > ORDER.index(old.mode_of(port))
        change = ModeChange(port, old.mode_of(port), new.mode_of(port))
        assert (change in found) is (named and stricter)


def test_what_is_enforced_counts_and_not_what_was_asked_for() -> None:
    as_permissive = Decision(Dataplane.AMBIENT, DISABLE)
    assert tightened(as_permissive, decision(PERMISSIVE)) == ()
    outside = Decision(Dataplane.NONE, STRICT)
    assert tightened(outside, decision(STRICT)) == (ModeChange(None, DISABLE, STRICT),)


def test_a_change_says_itself() -> None:
    (every, one) = tightened(decision(PERMISSIVE), decision(STRICT, {8080: STRICT}))
    assert str(every) == "all other ports PERMISSIVE -> STRICT"
    assert str(one) == "port 8080 PERMISSIVE -> STRICT"


@given(DECISIONS, DECISIONS)
def test_a_workload_is_loosened_if_and_only_if_a_port_lets_in_more(old: Decision, new: Decision) -> None:
    assert loosens(old, new) is bool(tightened(new, old))


def test_a_workload_that_goes_leaves_its_data_plane_or_appears_open_is_loosened() -> None:
    outside = Decision(Dataplane.NONE, STRICT)
    assert loosens(decision(DISABLE), None)
    assert loosens(decision(DISABLE), outside)
    assert not loosens(outside, decision(DISABLE))
    assert not loosens(Decision(Dataplane.NONE, DISABLE), outside)
    assert loosens(decision(STRICT), Decision(Dataplane.AMBIENT, STRICT))
    assert loosens(None, decision(PERMISSIVE))
    assert loosens(None, decision(STRICT, {80: DISABLE}))
    assert not loosens(None, decision(STRICT, {80: STRICT}))
    assert loosens(None, outside)


def test_what_a_step_closes_is_said_of_the_workloads_of_one_data_plane() -> None:
    key, other = WorkloadKey("foo", "finance"), WorkloadKey("foo", "web")
    ambient = Decision(Dataplane.AMBIENT, PERMISSIVE)
    closed = Decision(Dataplane.AMBIENT, STRICT)
    said = {
        (ambient, closed): ["foo/finance all other ports PERMISSIVE -> STRICT"],
        (closed, ambient): [],
        (None, closed): [],
        (ambient, None): ["foo/finance: no longer served by this proxy"],
        (ambient, decision(STRICT)): ["foo/finance: no longer served by this proxy"],
        (decision(PERMISSIVE), decision(STRICT)): [],
    }
    for (old, new), sentences in said.items():
        changes = [DecisionChange(key, old, new), DecisionChange(other, ambient, closed)]
        others = ["foo/web all other ports PERMISSIVE -> STRICT"]
        assert list(closed_by(changes, on=Dataplane.AMBIENT)) == sentences + others
