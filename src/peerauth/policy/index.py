"""The decisions of all workloads, kept up to date change by change, at a cost that follows the change.

A state machine without I/O: edits in, the workloads whose decision changed out. It decides about classes of workloads
(`classes`), and only about those that a change can reach: a policy with a selector reaches the classes it matches
before or after, a namespace's its classes, the mesh's all of its revision; classes about which the same policies speak
share one `Decision` object. `resolve` over everything is its oracle: a stateful property test holds them together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import msgspec

from peerauth.model.changes import Edit
from peerauth.model.inventory import Namespace, Workload, WorkloadKey
from peerauth.model.mesh import Injector, MeshConfig
from peerauth.model.meta import Labels
from peerauth.model.peerauth import PeerAuthentication
from peerauth.policy.classes import ClassKey, ClassTable, WorkloadClass, class_key
from peerauth.policy.decision import Dataplane, Decision, Level
from peerauth.policy.istiods import Istiods
from peerauth.policy.resolve import Contenders, decide
from peerauth.policy.revisions import Asked, Istiod, Standing, standing
from peerauth.policy.shelf import NOTHING_SAID, PolicyShelf, Said


class DecisionChange(msgspec.Struct, frozen=True, gc=False):
    """One workload whose decision is another now: `old` None if the workload is new, `new` None if it is gone."""

    key: WorkloadKey
    old: Decision | None
    new: Decision | None


class _Step(msgspec.Struct):
    """What the edits of one step have made stale. Nothing is decided until all of them are in.

    `before` has the earlier decision of every workload that appeared, moved to another class or went. `stale` classes
    are looked at afresh. So are those that the selectors of `selecting` policies match, those of `namespaces`, which
    may have another data plane or revision, and those that ask for a revision of `istiods`: they have another istiod,
    or it reads other policies. Those of `namespace_policies`, and those that ask for a revision of `mesh_policies`,
    have another policy at that level.
    """

    before: dict[WorkloadKey, Decision | None] = {}
    stale: dict[WorkloadClass, None] = {}
    left: dict[WorkloadClass, None] = {}
    selecting: list[PeerAuthentication] = []
    namespaces: dict[str, None] = {}
    namespace_policies: dict[str, None] = {}
    mesh_policies: dict[Asked, None] = {}
    istiods: dict[Asked, None] = {}
    other_policies: bool = False
    visited: int = 0


class PolicyIndex:
    """Decisions by workload. `update` takes what a World edited; `policy.mesh` keeps the two together.

    `visited` counts the classes that the last step made it look at: the measure that cost follows the change.
    """

    def __init__(self) -> None:
        self.visited = 0
        self._istiods = Istiods()
        self._namespace_labels: dict[str, Labels] = {}
        self._policies = PolicyShelf()
        self._classes = ClassTable()
        self._class_of: dict[WorkloadKey, WorkloadClass] = {}
        self._said_to_all: dict[str, Said] = {}  # the mesh policies of each revision, in one step
        self._asking: dict[Asked, dict[WorkloadClass, None]] = {}
        self._undecided = decide(Contenders(), dataplane=Dataplane.NONE)
        self._decided: dict[tuple[object, ...], tuple[tuple[object, ...], Decision]] = {}

    def __len__(self) -> int:
        return len(self._class_of)

    def __iter__(self) -> Iterator[WorkloadKey]:
        return iter(self._class_of)

    def __contains__(self, key: WorkloadKey) -> bool:
        return key in self._class_of

    def decision(self, key: WorkloadKey) -> Decision:
        """What is decided for a workload; KeyError if it is not known."""
        return self._class_of[key].decision

    def items(self) -> Iterator[tuple[WorkloadKey, Decision]]:
        """Every workload and its decision."""
        return ((key, found.decision) for key, found in self._class_of.items())

    def revisions(self) -> frozenset[str]:
        """The revisions that decide for a workload of the mesh."""
        decisions = [found.decision for found in self._classes]
        return frozenset([each.revision for each in decisions if each.dataplane is not Dataplane.NONE])

    def update(self, edits: Iterable[Edit]) -> tuple[DecisionChange, ...]:
        """Takes edits of the world as one step; returns each workload whose decision it changed, in any order.

        Objects that no decision depends on are passed over.
        """
        step = _Step()
        for edit in edits:
            kind = edit.after if edit.after is not None else edit.before
            match kind:
                case Workload():
                    self._take_workload(edit, step)
                case PeerAuthentication():
                    self._take_policy(edit, step)
                case Namespace():
                    self._take_namespace(edit, step, kind.meta.name)
                case MeshConfig() | Injector():
                    step.istiods.update(dict.fromkeys(self._istiods.take(edit, self._asking)))
        changes = tuple(self._settle(step))
        self.visited = step.visited
        return changes

    def _take_workload(self, edit: Edit, step: _Step) -> None:
        wanted = class_key(edit.after) if isinstance(edit.after, Workload) else None
        if isinstance(edit.before, Workload):
            if wanted == class_key(edit.before):
                return
            self._leave(edit.before.key, step)
        if wanted is not None and isinstance(edit.after, Workload):
            self._join(edit.after.key, wanted, step)

    def _leave(self, key: WorkloadKey, step: _Step) -> None:
        found = self._class_of.pop(key)
        step.before.setdefault(key, found.decision)
        del found.members[key]
        step.left[found] = None

    def _join(self, key: WorkloadKey, wanted: ClassKey, step: _Step) -> None:
        joined = self._classes.get(wanted)
        if joined is None:
            joined = self._classes.add(wanted, decision=self._undecided)
            step.stale[joined] = None
        step.before.setdefault(key, None)
        joined.members[key] = None
        self._class_of[key] = joined

    def _take_policy(self, edit: Edit, step: _Step) -> None:
        step.other_policies = True
        if isinstance(edit.before, PeerAuthentication):
            self._policies.drop(edit.before)
            self._reach(edit.before, step)
        if isinstance(edit.after, PeerAuthentication):
            self._policies.put(edit.after)
            self._reach(edit.after, step)

    def _take_namespace(self, edit: Edit, step: _Step, name: str) -> None:
        if isinstance(edit.after, Namespace):
            self._namespace_labels[name] = edit.after.meta.labels
        else:
            self._namespace_labels.pop(name, None)
        step.namespaces[name] = None
        for asked, istiod in self._with_root(name):
            if istiod.mesh.discovery_selectors:
                step.istiods[asked] = None

    def _with_root(self, namespace: str) -> Iterator[tuple[Asked, Istiod]]:
        """The istiods of the classes whose mesh policies stand in a namespace."""
        for asked in self._asking if namespace in self._istiods.roots else ():
            istiod = self._istiods.of(asked)
            if istiod.root_namespace == namespace:
                yield asked, istiod

    def _reach(self, policy: PeerAuthentication, step: _Step) -> None:
        """Marks the classes that a policy speaks about, or would if it were heard."""
        if policy.selector:
            step.selecting.append(policy)
            return
        step.namespace_policies[policy.meta.namespace] = None
        for asked, _ in self._with_root(policy.meta.namespace):
            step.mesh_policies[asked] = None

    def _reach_selected(self, step: _Step) -> None:
        """Makes the classes stale that selectors match; those that are new in this step are stale already."""
        for policy in step.selecting if len(step.stale) < len(self._classes) else ():
            namespace = policy.meta.namespace
            everywhere = namespace in self._istiods.roots
            for found in self._classes.candidates(policy.selector, namespace=None if everywhere else namespace):
                step.visited += 1
                if policy.selector <= found.key.labels:
                    step.stale[found] = None

    def _settle(self, step: _Step) -> Iterator[DecisionChange]:
        if step.other_policies or step.istiods:
            self._decided.clear()
        self._said_to_all.clear()
        self._reach_selected(step)
        for found in self._reached(step):
            if not found.members:
                continue
            step.visited += 1
            self._refresh(found, step)
            old, new = found.decision, self._decide(found)
            if new != old:
                found.decision = new
                yield from (DecisionChange(key, old, new) for key in found.members if key not in step.before)
        for key, before in step.before.items():
            now = self._class_of.get(key)
            after = now.decision if now else None
            if before != after:
                yield DecisionChange(key, before, after)
        for emptied in step.left:
            if not emptied.members:
                self._classes.drop(emptied)
                self._ask(emptied, None)

    def _reached(self, step: _Step) -> Collection[WorkloadClass]:
        """Every class that the step may have changed, once, those without members included."""
        reached = dict(step.stale)
        for namespace in (*step.namespaces, *step.namespace_policies):
            reached.update(dict.fromkeys(self._classes.in_namespace(namespace)))
        for asked in (*step.mesh_policies, *step.istiods):
            reached.update(self._asking.get(asked, {}))
        return reached

    def _refresh(self, found: WorkloadClass, step: _Step) -> None:
        """Brings up to date what a class keeps of the policies and of where it stands."""
        namespace, labels, traits = found.key
        stale = found in step.stale or (found.standing is not None and found.standing.asked in step.istiods)
        if not stale and namespace not in step.namespaces:
            return
        own = self._namespace_labels.get(namespace)
        stands = standing(labels, traits, namespace=namespace, namespace_labels=own, istiod_for=self._istiods.of)
        self._ask(found, stands)
        root, revision = stands.istiod.root_namespace, stands.istiod.revision
        found.ignored = self._policies.selecting(
            labels, namespace=root, revision=revision, is_read=self._reads(stands.istiod, root)
        ).heard
        found.selecting = NOTHING_SAID
        if namespace != root:
            found.selecting = self._policies.selecting(
                labels, namespace=namespace, revision=revision, is_read=self._reads(stands.istiod, namespace)
            )

    def _ask(self, found: WorkloadClass, stands: Standing | None) -> None:
        """Files a class under the revision that it asks for; None takes it out."""
        before, found.standing = found.standing, stands
        if before is not None and (stands is None or stands.asked != before.asked):
            del self._asking[before.asked][found]
            if not self._asking[before.asked]:
                del self._asking[before.asked]
        if stands is not None:
            self._asking.setdefault(stands.asked, {})[found] = None

    def _reads(self, istiod: Istiod, namespace: str) -> bool:
        if not istiod.mesh.discovery_selectors:
            return True
        return istiod.reads(namespace, self._namespace_labels.get(namespace))

    def _broad(self, namespace: str, istiod: Istiod) -> Said:
        is_read = self._reads(istiod, namespace)
        return self._policies.broad(namespace, revision=istiod.revision, is_read=is_read)

    def _decide(self, found: WorkloadClass) -> Decision:
        stands, namespace = found.standing, found.key.namespace
        if stands is None:
            return self._undecided
        istiod, dataplane, revision = stands.istiod, stands.membership.dataplane, stands.istiod.revision
        mesh = self._said_to_all.get(revision)
        if mesh is None:
            mesh = self._said_to_all[revision] = self._broad(istiod.root_namespace, istiod)
        own = NOTHING_SAID if namespace == istiod.root_namespace else self._broad(namespace, istiod)
        # Identity stands for content: `_decided` holds everything that its keys were made from.
        spoke = (mesh, own, found.selecting, found.ignored)
        who = (*map(id, spoke), dataplane, revision)
        decided = self._decided.get(who)
        if decided is None:
            speakers = Contenders(mesh.heard, own.heard, found.selecting.heard, found.ignored, _unheard(*spoke[:3]))
            decided = self._decided[who] = spoke, decide(speakers, dataplane=dataplane, revision=revision)
        return decided[1]


_LEVELS = (Level.MESH, Level.NAMESPACE, Level.WORKLOAD)


def _unheard(*said: Said) -> tuple[tuple[Level, PeerAuthentication], ...]:
    return tuple((level, policy) for level, one in zip(_LEVELS, said, strict=True) for policy in one.unheard)
