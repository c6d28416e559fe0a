"""The laws of precedence, over arbitrary sets of policies, and an oracle that was written another way."""

from __future__ import annotations

from functools import reduce
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from peerauth.model.meta import Labels
from peerauth.model.peerauth import Mode, PeerAuthentication
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode, Level, Verdict
from peerauth.policy.reasons import not_enforced
from peerauth.policy.resolve import resolve
from samples.meshes import PORTS, ROOT, label_sets, meta, pairs, policy, policy_sets

LABELS = label_sets().map(pairs)
NAMESPACE = st.sampled_from([ROOT, "foo", "bar"])
MODES = st.sampled_from(list(EffectiveMode))


def decide(labels: Labels, where: str, said: list[PeerAuthentication], on: Dataplane = Dataplane.SIDECAR) -> Decision:
    return resolve(labels, where, policies=said, root_namespace=ROOT, dataplane=on)


def modes(decision: Decision) -> tuple[EffectiveMode, ...]:
    return (decision.mode, *(decision.mode_of(port) for port in PORTS))


def without(said: list[PeerAuthentication], names: set[str]) -> list[PeerAuthentication]:
    return [one for one in said if one.meta.full_name not in names]


def older(one: PeerAuthentication, other: PeerAuthentication) -> PeerAuthentication:
    """The oracle's idea of who wins a level."""
    mine, theirs = one.meta.created, other.meta.created
    if mine == theirs:
        return one if one.meta.name < other.meta.name else other
    if mine is None or (theirs is not None and mine < theirs):
        return one
    return other


def oracle(labels: Labels, where: str, said: list[PeerAuthentication], port: int) -> str:
    """Starts with PERMISSIVE and lets each level, the widest first, replace what it is handed."""
    levels = [
        [p for p in said if p.meta.namespace == ROOT and p.selector == frozenset()],
        [p for p in said if p.meta.namespace == where != ROOT and p.selector == frozenset()],
        [p for p in said if p.meta.namespace == where != ROOT and p.selector and all(x in labels for x in p.selector)],
    ]
    mode, winner = "PERMISSIVE", None
    for level in levels:
        winner = reduce(older, level) if level else None
        if winner and winner.mode.value != "UNSET":
            mode = winner.mode.value
    for entry in winner.ports if winner else ():
        if entry.port == port and entry.mode.value != "UNSET":
            return entry.mode.value
    return mode


@given(LABELS, NAMESPACE, policy_sets())
def test_every_port_has_the_mode_that_an_independent_reading_gives_it(
    labels: Labels, where: str, said: list[PeerAuthentication]
) -> None:
    decision = decide(labels, where, said)
    for port in PORTS:
        assert decision.mode_of(port) == oracle(labels, where, said, port)


@given(LABELS, NAMESPACE, policy_sets(), st.randoms())
def test_the_order_of_the_policies_means_nothing(
    labels: Labels, where: str, said: list[PeerAuthentication], random: Random
) -> None:
    shuffled = list(said)
    random.shuffle(shuffled)
    assert decide(labels, where, shuffled) == decide(labels, where, said)


@given(LABELS, NAMESPACE, policy_sets())
def test_losers_and_ignored_policies_contribute_nothing(
    labels: Labels, where: str, said: list[PeerAuthentication]
) -> None:
    decision = decide(labels, where, said)
    idle = {r.policy for r in decision.reasons if r.verdict in {Verdict.LOSES, Verdict.IGNORED}}
    left = decide(labels, where, without(said, idle))
    assert (left.mode, left.ports) == (decision.mode, decision.ports)


@given(LABELS, NAMESPACE, policy_sets())
def test_policies_of_other_namespaces_are_not_even_mentioned(
    labels: Labels, where: str, said: list[PeerAuthentication]
) -> None:
    near = [one for one in said if one.meta.namespace in {where, ROOT}]
    assert decide(labels, where, near) == decide(labels, where, said)


@given(LABELS, NAMESPACE, policy_sets())
def test_unset_without_ports_and_rivals_is_transparent(
    labels: Labels, where: str, said: list[PeerAuthentication]
) -> None:
    decision = decide(labels, where, said)
    contested = {r.lost_to for r in decision.reasons}
    silent = {p.meta.full_name for p in said if p.mode is Mode.UNSET and not p.ports} - contested
    assert modes(decide(labels, where, without(said, silent))) == modes(decision)


@given(LABELS, st.sampled_from(["foo", "bar"]), policy_sets(), st.tuples(MODES, MODES, MODES))
def test_the_narrower_level_wins_whatever_the_wider_ones_say(
    labels: Labels, where: str, said: list[PeerAuthentication], drawn: tuple[EffectiveMode, ...]
) -> None:
    assume(labels)
    own, port, wider = drawn
    # No creation time is the oldest age, and "" sorts before every other name: these win their levels.
    selecting = policy(f"{where}/", own, selector=dict(labels), ports={8080: port})
    decision = decide(labels, where, [*said, selecting, policy(f"{where}/!", wider)])
    assert (decision.mode, decision.mode_of(8080)) == (own, port)
    broad = [one for one in said if not one.selector]
    whole = decide(labels, where, [*broad, policy(f"{where}/", wider), policy(f"{ROOT}/", own)])
    assert set(modes(whole)) == {wider}


@given(LABELS, NAMESPACE, policy_sets(), st.integers(1, 65535))
def test_a_port_that_no_one_names_follows_the_workload(
    labels: Labels, where: str, said: list[PeerAuthentication], port: int
) -> None:
    decision = decide(labels, where, said)
    assume(port not in {entry.port for entry in decision.ports})
    assert decision.mode_of(port) == decision.mode


@given(LABELS, NAMESPACE, policy_sets())
def test_the_data_plane_changes_what_is_enforced_and_nothing_else(
    labels: Labels, where: str, said: list[PeerAuthentication]
) -> None:
    sidecar, *others = (decide(labels, where, said, on) for on in Dataplane)
    for other in others:
        assert (sidecar.mode, sidecar.ports, sidecar.reasons) == (other.mode, other.ports, other.reasons)
        if not other.dataplane.enforces:
            assert {other.in_force(port) for port in (None, *PORTS)} == {EffectiveMode.DISABLE}
    assert all(sidecar.in_force(port) is sidecar.mode_of(port) for port in (None, *PORTS))


@given(LABELS, NAMESPACE, policy_sets())
def test_ambient_enforces_what_was_asked_but_disable_as_permissive_and_says_so(
    labels: Labels, where: str, said: list[PeerAuthentication]
) -> None:
    decision = decide(labels, where, said, Dataplane.AMBIENT)
    served = [(decision.mode_of(port), decision.in_force(port)) for port in (None, *PORTS)]
    for asked, done in served:
        assert done == (EffectiveMode.PERMISSIVE if asked is EffectiveMode.DISABLE else asked)
    assert bool(not_enforced(decision)) == any(asked is not done for asked, done in served)


@given(LABELS, NAMESPACE, policy_sets())
def test_the_chain_names_every_policy_that_speaks_once_and_adds_up_to_the_decision(
    labels: Labels, where: str, said: list[PeerAuthentication]
) -> None:
    decision = decide(labels, where, said)
    speaks = {p.meta.full_name for p in said if p.selector <= labels and p.meta.namespace in {where, ROOT}}
    whole = [r for r in decision.reasons if r.port is None]
    assert sorted(r.policy for r in whole if r.level is not Level.DEFAULT) == sorted(speaks)
    assert [r.said for r in whole if r.verdict is Verdict.DECIDES] == [Mode(decision.mode)]
    order = [list(Level).index(r.level) for r in decision.reasons]
    assert order == sorted(order)
    for entry in decision.ports:
        assert decision.deciding(entry.port).said == Mode(entry.mode)
    winners = {(r.level, r.policy) for r in whole if r.verdict not in {Verdict.LOSES, Verdict.IGNORED}}
    assert len({level for level, _ in winners}) == len(winners)
    assert all((r.level, r.lost_to) in winners for r in whole if r.verdict is Verdict.LOSES)
    assert all(r.why.endswith(".") for r in decision.reasons)


@given(st.permutations(["a", "b", "c"]), st.lists(st.sampled_from([None, 0, 1]), min_size=3, max_size=3))
def test_the_oldest_wins_missing_counts_as_oldest_and_ties_go_by_name(names: list[str], ages: list[int | None]) -> None:
    said = [policy(f"foo/{name}", "STRICT", age=age) for name, age in zip(names, ages, strict=True)]
    first = min(said, key=lambda p: (p.meta.created or meta("x", age=-9).created, p.meta.name))
    assert decide(frozenset(), "foo", said).deciding().policy == first.meta.full_name
