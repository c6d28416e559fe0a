"""What the rollout orders, event by event: who must do what, who is told what, and what is awaited in between."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from peerauth.model.changes import Change, Delete, MeshObject, ObjectRef, Reset, Upsert
from peerauth.model.inventory import Port, Workload, WorkloadKey
from peerauth.model.mesh import MeshConfig
from peerauth.policy.decision import EffectiveMode
from peerauth.policy.mesh import Mesh
from peerauth.policy.outbound import Transport, peer_of
from peerauth.policy.rollout import Orders, Rollout, Round
from samples.meshes import namespace, policy, workload

FINANCE = WorkloadKey("foo", "finance")
WEB = WorkloadKey("foo", "web")
MODES = ("DISABLE", "PERMISSIVE", "STRICT")
PLAIN, MUTUAL = Transport.PLAINTEXT, Transport.MUTUAL_TLS
NOTHING = Orders()


def placed(name: str, address: str) -> Workload:
    made = workload(f"foo/{name}", {"app": name}, ports=(Port(8080), Port(9000)))
    return msgspec.structs.replace(made, addresses=(address,))


class Dialogue:
    """A mesh of finance and web, both live and their first configuration in force."""

    def __init__(self, first: str = "DISABLE", **ports: str) -> None:
        self.mesh = Mesh()
        self.live = set[WorkloadKey]()
        self.rollout = Rollout(self.mesh, is_live=self.live.__contains__)
        injected = namespace("foo", {"istio-injection": "enabled"})
        self.decided(Reset("test", (injected, placed("finance", "10.0.0.1"), placed("web", "10.0.0.2"))))
        self.says(first, **ports)
        self.live.update({FINANCE, WEB})

    def decided(self, *changes: Change) -> Orders:
        return self.rollout.decided(self.mesh.apply(*changes))

    def upsert(self, obj: MeshObject) -> Orders:
        return self.decided(Upsert("test", obj))

    def says(self, mode: str, **ports: str) -> Orders:
        numbered = {int(port[1:]): said for port, said in ports.items()}
        return self.upsert(policy("foo/finance", mode, selector={"app": "finance"}, ports=numbered))

    def begun(self, mode: str, **ports: str) -> Round:
        begun = self.says(mode, **ports).begun
        assert begun is not None
        return begun

    def goes_away(self) -> Orders:
        return self.decided(Delete("test", ObjectRef("Pod", "foo", "finance")))


def enforced(orders: Orders) -> dict[str, str]:
    return {key.name: "gone" if told is None else told.mode.value for key, told in orders.enforce.items()}


def announced(orders: Orders) -> dict[str, str]:
    return {key.name: "gone" if told is None else told.transport.value for key, told in orders.announce.items()}


@pytest.mark.parametrize(
    ("old", "new", "before", "after"), [("DISABLE", "STRICT", PLAIN, MUTUAL), ("STRICT", "DISABLE", MUTUAL, PLAIN)]
)
def test_servers_take_both_then_clients_change_over_then_servers_take_the_new_alone(
    old: str, new: str, before: Transport, after: Transport
) -> None:
    dialogue = Dialogue(old)
    orders = dialogue.says(new)
    assert (enforced(orders), announced(orders)) == ({"finance": "PERMISSIVE"}, {})
    assert dialogue.rollout.announced[FINANCE].transport is before
    assert orders.begun is not None
    assert orders.begun.servers == (FINANCE,)
    clients = dialogue.rollout.acknowledged(orders.begun)
    assert (enforced(clients), announced(clients)) == ({}, {"finance": after.value})
    assert dialogue.rollout.goes_on(orders.begun)
    last = dialogue.rollout.acknowledged(orders.begun)
    assert (enforced(last), announced(last)) == ({"finance": new}, {})
    assert dialogue.rollout.is_calm
    assert not dialogue.rollout.goes_on(orders.begun)


@pytest.mark.parametrize("acknowledged", [0, 1])
def test_when_the_time_is_over_the_target_is_in_force_whoever_has_not_answered(acknowledged: int) -> None:
    dialogue = Dialogue("DISABLE")
    begun = dialogue.begun("STRICT")
    for _ in range(acknowledged):
        dialogue.rollout.acknowledged(begun)
    assert enforced(dialogue.rollout.elapsed(begun)) == {"finance": "STRICT"}
    assert dialogue.rollout.announced[FINANCE].transport is MUTUAL


def test_what_comes_after_the_end_of_a_round_orders_nothing() -> None:
    dialogue = Dialogue("DISABLE")
    begun = dialogue.begun("STRICT")
    dialogue.rollout.elapsed(begun)
    assert dialogue.rollout.acknowledged(begun) == NOTHING
    assert dialogue.rollout.elapsed(begun) == NOTHING


def test_a_first_configuration_is_in_force_and_announced_at_once() -> None:
    dialogue = Dialogue("DISABLE")
    dialogue.goes_away()
    dialogue.live.discard(FINANCE)
    dialogue.says("STRICT")
    orders = dialogue.upsert(placed("finance", "10.0.0.1"))
    assert (enforced(orders), announced(orders), orders.begun) == ({"finance": "STRICT"}, {"finance": "mtls"}, None)


def test_a_sidecar_that_is_not_live_has_no_clients_to_be_careful_with() -> None:
    dialogue = Dialogue("DISABLE")
    dialogue.live.discard(FINANCE)
    orders = dialogue.says("STRICT")
    assert (enforced(orders), announced(orders), orders.begun) == ({"finance": "STRICT"}, {"finance": "mtls"}, None)


def test_where_clients_need_not_change_only_the_server_is_told() -> None:
    dialogue = Dialogue("PERMISSIVE")
    orders = dialogue.says("STRICT")
    assert (enforced(orders), announced(orders), orders.begun) == ({"finance": "STRICT"}, {}, None)


def test_clients_that_would_not_change_over_are_not_waited_for() -> None:
    """Without automatic mutual TLS nothing is announced in between: the server goes on when it has taken up both."""
    dialogue = Dialogue("DISABLE")
    dialogue.upsert(MeshConfig(enable_auto_mtls=False))
    begun = dialogue.begun("STRICT")
    orders = dialogue.rollout.acknowledged(begun)
    assert (enforced(orders), announced(orders)) == ({"finance": "STRICT"}, {})
    assert dialogue.rollout.is_calm


def test_changes_of_one_step_go_in_one_round_and_those_of_two_steps_in_two() -> None:
    dialogue = Dialogue("DISABLE")
    dialogue.live.discard(WEB)
    dialogue.upsert(policy("foo/web", "DISABLE", selector={"app": "web"}))
    dialogue.live.add(WEB)
    both = dialogue.decided(
        Upsert("test", policy("foo/web", "STRICT", selector={"app": "web"})),
        Upsert("test", policy("foo/finance", "STRICT", selector={"app": "finance"})),
    )
    assert both.begun is not None
    assert both.begun.servers == (FINANCE, WEB)
    dialogue.rollout.elapsed(both.begun)
    first = dialogue.begun("DISABLE")
    second = dialogue.upsert(policy("foo/web", "DISABLE", selector={"app": "web"})).begun
    assert second is not None
    assert enforced(dialogue.rollout.elapsed(second)) == {"web": "DISABLE"}
    assert dialogue.rollout.goes_on(first)


def test_what_is_decided_meanwhile_goes_in_at_the_end_by_the_same_door() -> None:
    """It was to be DISABLE again: that is a stage of its own, since clients may speak mutual TLS by now."""
    dialogue = Dialogue("DISABLE")
    begun = dialogue.begun("STRICT")
    dialogue.rollout.acknowledged(begun)
    meanwhile = dialogue.says("DISABLE")
    assert (enforced(meanwhile), announced(meanwhile), meanwhile.begun) == ({"finance": "PERMISSIVE"}, {}, None)
    orders = dialogue.rollout.acknowledged(begun)
    assert (enforced(orders), announced(orders)) == ({"finance": "PERMISSIVE"}, {})
    assert orders.begun is not None
    assert announced(dialogue.rollout.acknowledged(orders.begun)) == {"finance": "plaintext"}
    assert enforced(dialogue.rollout.acknowledged(orders.begun)) == {"finance": "DISABLE"}


@pytest.mark.parametrize(("base", "target", "new"), list(itertools.product(MODES, repeat=3)))
def test_what_is_decided_in_a_stage_is_in_force_at_once_unless_clients_were_told_to_connect_in_another_way(
    base: str, target: str, new: str
) -> None:
    """Port 9000 keeps a stage going; what is asked of 8080 changes in it."""
    dialogue = Dialogue("STRICT", p8080=base, p9000="DISABLE")
    dialogue.begun("STRICT", p8080=target, p9000="STRICT")
    dialogue.says("STRICT", p8080=new, p9000="STRICT")
    in_plaintext = {mode == "DISABLE" for mode in (base, target, new)}
    now = dialogue.rollout.in_force[FINANCE]
    assert now.mode_of(8080) is EffectiveMode("PERMISSIVE" if len(in_plaintext) == 2 else new)
    assert now.mode_of(9000) is EffectiveMode.PERMISSIVE
    assert now.mode_of(7000) is EffectiveMode.STRICT


def test_an_address_is_announced_at_once_in_a_stage_too_and_says_what_clients_knew() -> None:
    dialogue = Dialogue("DISABLE")
    begun = dialogue.begun("STRICT")
    orders = dialogue.upsert(placed("finance", "10.0.0.9"))
    assert announced(orders) == {"finance": "plaintext"}
    assert dialogue.rollout.announced[FINANCE].addresses == ("10.0.0.9",)
    assert announced(dialogue.rollout.acknowledged(begun)) == {"finance": "mtls"}


def test_a_workload_that_goes_is_taken_back_at_once_and_its_round_ends_with_nothing() -> None:
    dialogue = Dialogue("DISABLE")
    begun = dialogue.begun("STRICT")
    orders = dialogue.goes_away()
    assert (enforced(orders), announced(orders)) == ({"finance": "gone"}, {"finance": "gone"})
    assert dialogue.rollout.is_calm
    assert dialogue.rollout.acknowledged(begun) == NOTHING
    assert FINANCE not in dialogue.rollout.announced


def test_a_workload_that_came_back_does_not_belong_to_the_round_it_left() -> None:
    dialogue = Dialogue("DISABLE")
    old = dialogue.begun("STRICT")
    dialogue.goes_away()
    dialogue.says("DISABLE")
    dialogue.upsert(placed("finance", "10.0.0.1"))
    new = dialogue.begun("STRICT")
    assert dialogue.rollout.acknowledged(old) == NOTHING
    assert dialogue.rollout.elapsed(old) == NOTHING
    assert dialogue.rollout.in_force[FINANCE].mode is EffectiveMode.PERMISSIVE
    assert enforced(dialogue.rollout.elapsed(new)) == {"finance": "STRICT"}


def test_a_workload_that_leaves_the_sidecars_in_a_stage_is_announced_as_it_is() -> None:
    dialogue = Dialogue("DISABLE")
    dialogue.begun("STRICT")
    orders = dialogue.upsert(namespace("foo", {"istio.io/dataplane-mode": "ambient"}))
    assert enforced(orders) == {"finance": "gone", "web": "gone"}
    assert announced(orders) == {"finance": "hbone", "web": "hbone"}
    assert dialogue.rollout.is_calm


def test_only_what_is_another_is_announced_of_an_edited_mesh_configuration() -> None:
    dialogue = Dialogue("DISABLE")
    assert announced(dialogue.upsert(MeshConfig(enable_auto_mtls=False))) == {"web": "plaintext"}
    assert dialogue.upsert(MeshConfig(enable_auto_mtls=False, trust_domain="other")).announce.keys() == {FINANCE, WEB}


@pytest.mark.parametrize("modes", list(itertools.permutations(MODES)))
def test_a_policy_of_the_mesh_announces_those_for_whom_clients_have_another_way_and_no_one_else(
    modes: tuple[str, ...],
) -> None:
    dialogue = Dialogue("STRICT", p8080="DISABLE")
    dialogue.live.clear()
    for mode in modes:
        before = dict(dialogue.rollout.announced)
        orders = dialogue.upsert(policy("istio-system/default", mode))
        after = {
            key: peer_of(dialogue.mesh.world.workloads[key], decision=decision, mesh=dialogue.mesh.world.mesh)
            for key, decision in dialogue.mesh.decisions.items()
        }
        assert dialogue.rollout.announced == after
        assert orders.announce == {key: peer for key, peer in after.items() if peer != before[key]}
