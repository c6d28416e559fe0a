"""The authorizations themselves: their form, which ztunnel reads literally, and how their names follow labels."""

from __future__ import annotations

import pytest

from peerauth.dataplane.ambient.authorization import (
    class_policy,
    policy_name,
    policy_name_of,
    relabelled_name,
    relabelled_policy,
)
from peerauth.model.inventory import Workload
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode, PortDecision
from peerauth.proto import authorization_pb2 as pb
from samples.meshes import meta, pairs, workload

STRICT, PERMISSIVE = EffectiveMode.STRICT, EffectiveMode.PERMISSIVE
NAME = policy_name("foo", pairs({"app": "finance"}))


def decided(mode: EffectiveMode, **ports: EffectiveMode) -> Decision:
    entries = tuple(PortDecision(int(port[1:]), said) for port, said in ports.items())
    return Decision(Dataplane.AMBIENT, mode, entries)


def the_match(policy: pb.Authorization) -> pb.Match:
    (group,) = policy.groups
    (rules,) = group.rules
    (match,) = rules.matches
    return match


def test_strict_denies_whoever_has_no_identity() -> None:
    policy = pb.Authorization.FromString(class_policy(NAME, decided(STRICT)))
    assert (policy.action, policy.scope, policy.dry_run) == (pb.DENY, pb.WORKLOAD_SELECTOR, False)
    match = the_match(policy)
    assert [each.WhichOneof("match_type") for each in match.not_principals] == ["presence"]
    assert (list(match.destination_ports), list(match.not_destination_ports)) == ([], [])


def test_ports_that_are_open_under_strict_are_left_out_and_strict_ones_under_permissive_are_all_that_is_denied() -> (
    None
):
    policy = pb.Authorization.FromString(class_policy(NAME, decided(STRICT, p80=PERMISSIVE, p90=STRICT, p7=PERMISSIVE)))
    assert list(the_match(policy).not_destination_ports) == [7, 80]
    policy = pb.Authorization.FromString(class_policy(NAME, decided(PERMISSIVE, p80=STRICT, p90=PERMISSIVE)))
    assert list(the_match(policy).destination_ports) == [80]


@pytest.mark.parametrize("said", [decided(PERMISSIVE), decided(PERMISSIVE, p80=PERMISSIVE)])
def test_where_nothing_is_required_the_policy_is_there_and_matches_nothing(said: Decision) -> None:
    policy = pb.Authorization.FromString(class_policy(NAME, said))
    assert f"{policy.namespace}/{policy.name}" == NAME
    assert not policy.groups


def test_equal_decisions_give_equal_bytes_whatever_order_their_ports_come_in() -> None:
    one = class_policy(NAME, decided(STRICT, p80=PERMISSIVE, p7=PERMISSIVE))
    assert one == class_policy(NAME, decided(STRICT, p7=PERMISSIVE, p80=PERMISSIVE))


def test_a_name_is_of_the_namespace_and_all_labels_and_tells_pairs_apart() -> None:
    names = [
        policy_name("foo", pairs({})),
        policy_name("bar", pairs({})),
        policy_name("foo", pairs({"a": "bc"})),
        policy_name("foo", pairs({"ab": "c"})),
        policy_name("foo", pairs({"a": "b", "c": ""})),
        policy_name("foo", pairs({"a": "b"})),
    ]
    assert len(set(names)) == len(names)
    assert policy_name_of(workload("foo/any", {"a": "bc"})) == names[2]


def test_the_relabelled_are_denied_by_address_in_both_families_and_never_without_one() -> None:
    placed = Workload(meta("foo/a"), addresses=("10.0.0.1", "fd00::1"))
    nowhere = Workload(meta("foo/b"))
    open_one = Workload(meta("foo/c"), addresses=("10.0.0.3",))
    said = [(placed, decided(STRICT, p80=PERMISSIVE)), (nowhere, decided(STRICT)), (open_one, decided(PERMISSIVE))]
    policy = pb.Authorization.FromString(relabelled_policy("foo", said))
    assert f"{policy.namespace}/{policy.name}" == relabelled_name("foo")
    assert policy.scope == pb.NAMESPACE
    match = the_match(policy)
    assert [(len(each.address), each.length) for each in match.destination_ips] == [(4, 32), (16, 128)]
    assert list(match.not_destination_ports) == [80]


def test_a_mover_without_an_address_or_a_demand_hides_none_that_comes_after_it() -> None:
    last = Workload(meta("foo/c"), addresses=("10.0.0.3",))
    for first in ((Workload(meta("foo/a")), decided(STRICT)), (Workload(meta("foo/b")), decided(PERMISSIVE))):
        policy = pb.Authorization.FromString(relabelled_policy("foo", [first, (last, decided(STRICT))]))
        assert [bytes(each.address) for each in the_match(policy).destination_ips] == [bytes([10, 0, 0, 3])]
