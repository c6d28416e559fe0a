"""What is shown of a mesh, followed step by step, is what looking at all of it anew shows, at the cost of the step."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from peerauth.model.changes import Change, Delete, Upsert, ref_of
from peerauth.model.inventory import WorkloadKey
from peerauth.model.placement import Captor, Capture, Placement
from peerauth.policy.decision import Dataplane
from peerauth.policy.mesh import Mesh, Step
from peerauth.policy.rollout import Orders, Rollout, Round
from peerauth.view import MeshView, ServedPort, ServedWorkload
from samples.meshes import changes, objects

KEYS = st.builds(WorkloadKey, st.sampled_from(["foo", "bar"]), st.sampled_from(["a", "b"]), st.just("Pod"))
PLACEMENTS = st.builds(
    Placement,
    KEYS,
    st.just("here"),
    st.sampled_from([("10.0.0.1",), ("10.0.0.2", "fd00::2")]),
    st.sampled_from(Capture),
    st.sampled_from([*Captor, Captor.SIDECAR, Captor.NODE]),
)


class Shown(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.mesh = Mesh()
        self.rollout = Rollout(self.mesh, is_live=lambda key: True)
        self.view = MeshView(self.mesh.world)
        self.rounds: list[Round] = []

    def take(self, step: Step, orders: Orders) -> None:
        before = {served.key: served for served in self.view.served()}
        changed = self.view.update(step, orders)
        now = {served.key: served for served in self.view.served()}
        assert changed == {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
        assert self.view.visited >= len(changed)
        self.rounds += [orders.begun] if orders.begun else []

    @rule(several=st.lists(changes(objects()), min_size=1, max_size=3))
    def documents_change(self, several: list[Change]) -> None:
        step = self.mesh.apply(*several)
        self.take(step, self.rollout.decided(step))

    @rule(placement=PLACEMENTS, stays=st.sampled_from([True, True, False]))
    def a_workload_is_placed(self, placement: Placement, stays: bool) -> None:
        change = Upsert("here", placement) if stays else Delete("here", ref_of(placement))
        step = self.mesh.apply(change)
        self.take(step, self.rollout.decided(step))

    @rule(elapsed=st.booleans())
    def a_round_goes_on(self, elapsed: bool) -> None:
        if self.rounds:
            first = self.rounds[0]
            self.take(Step(), self.rollout.elapsed(first) if elapsed else self.rollout.acknowledged(first))
            self.rounds = [each for each in self.rounds if self.rollout.goes_on(each)]

    @invariant()
    def is_what_there_is(self) -> None:
        assert list(self.view.served()) == self.anew()

    def anew(self) -> list[ServedWorkload]:
        world, found = self.mesh.world, []
        for key, decided in sorted(self.mesh.decisions.items()):
            decision = self.rollout.in_force.get(key, decided)
            captor = {Dataplane.SIDECAR: Captor.SIDECAR, Dataplane.AMBIENT: Captor.NODE}.get(decision.dataplane)
            placement = world.placements.get(key)
            if captor is None or placement is None or placement.captor is not captor:
                continue
            numbers: list[int | None] = [port.number for port in world.declared_ports(world.workloads[key])]
            ports = tuple(
                ServedPort(number, decision.mode_of(number), decision.in_force(number), decision.deciding(number))
                for number in [*numbers, *([None] if placement.capture is Capture.TRANSPARENT else [])]
            )
            found.append(ServedWorkload(key, decision.dataplane, placement.addresses, ports))
        return found


TestShown = Shown.TestCase
TestShown.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
