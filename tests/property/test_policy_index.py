"""The index says what resolving everything from scratch says, and reports just what changed, after any history."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from peerauth.model.changes import Change, Delete, MeshObject, ObjectRef, Reset, Upsert, ref_of
from peerauth.model.inventory import Namespace, Workload, WorkloadKey
from peerauth.model.mesh import meshes_of
from peerauth.model.peerauth import PeerAuthentication
from peerauth.policy.decision import Decision
from peerauth.policy.mesh import Mesh
from peerauth.policy.resolve import resolve
from peerauth.policy.revisions import standing_of
from samples.meshes import changes, policy_objects


class Said:
    """Who said what, as a list in the order of the news: the plainest model of several sources."""

    def __init__(self) -> None:
        self.news: list[tuple[str, ObjectRef, MeshObject]] = []

    def apply(self, change: Change) -> None:
        match change:
            case Upsert(source, obj):
                self._say(source, obj)
            case Delete(source, ref):
                self.news = [entry for entry in self.news if entry[:2] != (source, ref)]
            case Reset(source, objects):
                last = {ref_of(obj): obj for obj in objects}
                self.news = [entry for entry in self.news if entry[0] != source or entry[1] in last]
                for obj in last.values():
                    self._say(source, obj)

    def _say(self, source: str, obj: MeshObject) -> None:
        entry = (source, ref_of(obj), obj)
        if entry not in self.news:
            self.news = [*(old for old in self.news if old[:2] != entry[:2]), entry]

    def standing(self) -> list[MeshObject]:
        return list({ref: obj for _, ref, obj in self.news}.values())


def from_scratch(objects: list[MeshObject]) -> dict[WorkloadKey, Decision]:
    meshes = meshes_of(objects)
    known = {obj.meta.name: obj for obj in objects if isinstance(obj, Namespace)}
    policies = [obj for obj in objects if isinstance(obj, PeerAuthentication)]
    places = {policy.meta.namespace for policy in policies}

    def decided(workload: Workload) -> Decision:
        stands = standing_of(workload, known.get(workload.meta.namespace), meshes)
        mesh = meshes.of(stands.istiod.revision)
        labels = {place: known[place].meta.labels if place in known else None for place in places}
        return resolve(
            workload.meta.labels,
            workload.meta.namespace,
            policies=policies,
            root_namespace=mesh.root_namespace,
            revision=stands.istiod.revision,
            unread=[place for place in places if mesh.reads(place, labels[place]) is False],
            dataplane=stands.membership.dataplane,
        )

    return {obj.key: decided(obj) for obj in objects if isinstance(obj, Workload)}


class IndexAgainstScratch(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.said = Said()
        self.mesh = Mesh()
        self.expected: dict[WorkloadKey, Decision] = {}

    @rule(change=changes(policy_objects()))
    def apply(self, change: Change) -> None:
        before = self.expected
        self.said.apply(change)
        self.expected = from_scratch(self.said.standing())
        reported = self.mesh.apply(change).decisions
        changed = {key for key in before.keys() | self.expected.keys() if before.get(key) != self.expected.get(key)}
        assert {entry.key for entry in reported} == changed
        assert len(reported) == len(changed)
        for entry in reported:
            assert (entry.old, entry.new) == (before.get(entry.key), self.expected.get(entry.key))

    @rule(several=st.lists(changes(policy_objects()), max_size=6))
    def apply_several_as_one_step(self, several: list[Change]) -> None:
        """Several changes may come as one step; what comes and goes within it is not reported."""
        before = self.expected
        for one in several:
            self.said.apply(one)
        step = self.mesh.apply(*several)
        assert len({edit.ref for edit in step.edits}) == len(step.edits)
        self.expected = from_scratch(self.said.standing())
        reported = {entry.key: (entry.old, entry.new) for entry in step.decisions}
        assert reported == {
            key: (before.get(key), self.expected.get(key))
            for key in before.keys() | self.expected.keys()
            if before.get(key) != self.expected.get(key)
        }

    @invariant()
    def agrees_with_scratch(self) -> None:
        world, decisions = self.mesh.world, self.mesh.decisions
        assert dict(decisions.items()) == self.expected
        assert set(decisions) == set(world.workloads)
        assert len(decisions) == len(world.workloads) == len(self.expected)


TestIndexAgainstScratch = IndexAgainstScratch.TestCase
TestIndexAgainstScratch.settings = settings(max_examples=100, stateful_step_count=15, deadline=None)
