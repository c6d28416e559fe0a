"""ztunnel's verdict is the decision: over the whole space of policies, for every port and both kinds of client."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from judges.ztunnelmodel import MESH_IDENTITY, NOBODY, Ztunnel
from peerauth.dataplane.ambient.address import ClusterNames, workload_address, workload_name
from peerauth.dataplane.ambient.authorization import class_policy, policy_name_of
from peerauth.dataplane.type_urls import ADDRESS, AUTHORIZATION
from peerauth.model.inventory import Workload
from peerauth.model.mesh import DEFAULT_MESH
from peerauth.model.peerauth import PeerAuthentication
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode
from peerauth.policy.resolve import resolve
from samples.meshes import PORTS, ROOT, label_sets, pairs, policy, policy_sets, workload

HERE = ClusterNames()
EVERY_PORT = (1, *PORTS, 15000)
SELECTED = {"app": "x"}


def ztunnel_with(where: Workload, decision: Decision) -> Ztunnel:
    """A ztunnel that was told of one workload and of what was decided about it."""
    name = policy_name_of(where)
    body = workload_address(
        where, dataplane=decision.dataplane, policies=[name], backends=(), mesh=DEFAULT_MESH, cluster=HERE
    )
    model = Ztunnel()
    model.take(AUTHORIZATION, {name: class_policy(name, decision)}, ())
    model.take(ADDRESS, {workload_name(where.key, cluster=HERE): body}, ())
    return model


def check(where: Workload, said: list[PeerAuthentication]) -> None:
    labels, namespace = where.meta.labels, where.meta.namespace
    decision = resolve(labels, namespace, policies=said, root_namespace=ROOT, dataplane=Dataplane.AMBIENT)
    model = ztunnel_with(where, decision)
    uid = workload_name(where.key, cluster=HERE)
    for port in EVERY_PORT:
        closed = decision.mode_of(port) is EffectiveMode.STRICT
        assert model.dial(uid, port, NOBODY) is not closed, f"plaintext to {port}, {decision.mode_of(port)}"
        assert model.dial(uid, port, MESH_IDENTITY), f"HBONE to {port}"
    assert not model.unknown


def at(name: str, labels: dict[str, str]) -> Workload:
    made = workload(name, labels)
    return Workload(made.meta, addresses=("10.0.0.1", "fd00::1"))


@given(label_sets(), st.sampled_from([ROOT, "foo", "bar"]), policy_sets())
def test_whatever_the_policies_say_plaintext_gets_in_where_it_may_and_hbone_always(
    labels: dict[str, str], where: str, said: list[PeerAuthentication]
) -> None:
    check(at(f"{where}/w", labels), said)


def test_every_combination_of_levels_and_two_ports() -> None:
    modes = ("UNSET", "DISABLE", "PERMISSIVE", "STRICT")
    broad = (None, *modes)
    own = [None, *product(modes, broad, broad)]
    for mesh, namespace, selected in product(broad, broad, own):
        said = [policy(f"{ROOT}/mesh", mesh)] if mesh else []
        said += [policy("foo/namespace", namespace)] if namespace else []
        if selected:
            mode, *ports = selected
            entries = {number: entry for number, entry in zip((80, 8080), ports, strict=True) if entry}
            said.append(policy("foo/own", mode, selector=SELECTED, ports=entries))
        check(at("foo/w", SELECTED), said)


@given(label_sets(), label_sets(), st.sampled_from(["foo", "bar"]), st.sampled_from(["foo", "bar"]))
def test_workloads_share_a_policy_exactly_if_no_policy_could_tell_them_apart(
    labels: dict[str, str], others: dict[str, str], where: str, elsewhere: str
) -> None:
    one, other = at(f"{where}/a", labels), at(f"{elsewhere}/b", others)
    same = (where, pairs(labels)) == (elsewhere, pairs(others))
    assert (policy_name_of(one) == policy_name_of(other)) is same
