"""A change is staged just where clients must connect in another way, and the stage is never stricter than both ends."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from peerauth.policy.decision import Dataplane, Decision, EffectiveMode, PortDecision
from peerauth.policy.rollout import meeting_point

MODES = st.sampled_from(EffectiveMode)
PORTS = st.dictionaries(st.integers(1, 4), MODES).map(
    lambda ports: tuple(PortDecision(port, mode) for port, mode in sorted(ports.items()))
)


def decision(mode: EffectiveMode, ports: tuple[PortDecision, ...] = ()) -> Decision:
    return Decision(Dataplane.SIDECAR, mode, ports)


DECISIONS = st.builds(decision, MODES, PORTS)


def test_disable_to_strict_goes_through_permissive() -> None:
    between = meeting_point(decision(EffectiveMode.DISABLE), decision(EffectiveMode.STRICT))
    assert between is not None
    assert between.mode is EffectiveMode.PERMISSIVE
    assert between.in_force(None) is EffectiveMode.PERMISSIVE


def test_permissive_to_strict_is_one_step() -> None:
    assert meeting_point(decision(EffectiveMode.PERMISSIVE), decision(EffectiveMode.STRICT)) is None


def test_only_the_port_that_changes_over_is_staged() -> None:
    old = decision(EffectiveMode.STRICT, (PortDecision(8080, EffectiveMode.DISABLE),))
    between = meeting_point(old, decision(EffectiveMode.STRICT))
    assert between is not None
    assert between.mode is EffectiveMode.STRICT
    assert between.mode_of(8080) is EffectiveMode.PERMISSIVE
    assert between.mode_of(9000) is EffectiveMode.STRICT


@given(old=DECISIONS, new=DECISIONS)
def test_the_stage_accepts_what_clients_of_both_ends_send(old: Decision, new: Decision) -> None:
    between = meeting_point(old, new) or new
    for port in range(6):
        ends = {old.mode_of(port), new.mode_of(port)}
        if between.mode_of(port) is not new.mode_of(port):
            assert between.mode_of(port) is EffectiveMode.PERMISSIVE
        if EffectiveMode.DISABLE in ends and len(ends) > 1:
            assert between.mode_of(port) is EffectiveMode.PERMISSIVE


@given(old=DECISIONS, new=DECISIONS)
def test_from_the_stage_the_rest_is_one_step_for_clients_that_moved(old: Decision, new: Decision) -> None:
    between = meeting_point(old, new)
    if between is not None:
        for port in range(6):
            staged = between.mode_of(port)
            assert staged is EffectiveMode.PERMISSIVE or staged is new.mode_of(port)


@given(only=DECISIONS)
def test_no_change_has_no_stage(only: Decision) -> None:
    assert meeting_point(only, only) is None


@given(old=DECISIONS, new=DECISIONS, on=st.sampled_from(Dataplane))
def test_what_is_in_force_meanwhile_is_what_the_data_plane_does_about_the_stage(
    old: Decision, new: Decision, on: Dataplane
) -> None:
    between = meeting_point(*(msgspec.structs.replace(end, dataplane=on) for end in (old, new)))
    if between is not None:
        for port in (None, *range(6)):
            assert between.in_force(port) is on.in_force(between.mode_of(port))
