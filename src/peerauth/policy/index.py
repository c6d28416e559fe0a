"""The decisions of all workloads, kept up to date change by change, at a cost that follows the change.

A state machine without I/O: changes in, the workloads whose decision changed out. It decides about classes of workloads
(`classes`), and only about those that a change can reach: a policy with a selector reaches the classes it matches
before or after, a namespace's its classes, the mesh's all; classes about which the same policies speak share one
`Decision` object. `resolve` over everything is its oracle: a stateful property test holds them together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import msgspec

from peerauth.model.changes import Change, Edit, Ledger
from peerauth.model.inventory import Namespace, Workload, WorkloadKey
from peerauth.model.mesh import DEFAULT_MESH, MeshConfig
from peerauth.model.meta import Labels
from peerauth.model.peerauth import PeerAuthentication
from peerauth.policy.classes import ClassKey, ClassTable, WorkloadClass, class_key
from peerauth.policy.decision import Dataplane, Decision
from peerauth.policy.membership import membership_of
from peerauth.policy.resolve import Contenders, decide
from peerauth.policy.shelf import PolicyShelf


class DecisionChange(msgspec.Struct, frozen=True, gc=False):
    """One workload whose decision is another now: `old` None if the workload is new, `new` None if it is gone."""

    key: WorkloadKey
    old: Decision | None
    new: Decision | None


class _Step(msgspec.Struct):
    """What the edits of one step have made stale. Nothing is decided until all of them are in.

    `before` has the earlier decision of every workload that appeared, moved to another class or went. `stale` classes
    are looked at afresh, and so are those that the selectors of `selecting` policies match; those of `namespaces` may
    have another data plane or another namespace policy; if `whole_mesh`, every class has another mesh policy; if
    `another_root`, all are stale.
    """

    before: dict[WorkloadKey, Decision | None] = {}
    stale: dict[WorkloadClass, None] = {}
    left: dict[WorkloadClass, None] = {}
    selecting: list[PeerAuthentication] = []
    namespaces: dict[str, None] = {}
    whole_mesh: bool = False
    another_root: bool = False
    other_policies: bool = False
    visited: int = 0


class PolicyIndex:
    """Decisions by workload. Feed it by `apply`, or by `update` with a World's edits; never by both.

    `visited` counts the classes that the last step made it look at: the measure that cost follows the change.
    """

    def __init__(self) -> None:
        self.visited = 0
        self._ledger = Ledger()
        self._root_namespace = DEFAULT_MESH.root_namespace
        self._namespace_labels: dict[str, Labels] = {}
        self._policies = PolicyShelf()
        self._classes = ClassTable()
        self._class_of: dict[WorkloadKey, WorkloadClass] = {}
        self._undecided = decide(Contenders(), dataplane=Dataplane.NONE)
        self._decided: dict[_Speakers, tuple[Contenders, Decision]] = {}

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

    def apply(self, change: Change) -> tuple[DecisionChange, ...]:
        """Takes one source's change; objects that no decision depends on are passed over."""
        return self.update(self._ledger.apply(change))

    def update(self, edits: Iterable[Edit]) -> tuple[DecisionChange, ...]:
        """Takes edits of the world as one step; returns each workload whose decision it changed, in any order."""
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
                case MeshConfig():
                    self._take_mesh(edit, step)
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

    def _take_mesh(self, edit: Edit, step: _Step) -> None:
        mesh = edit.after if isinstance(edit.after, MeshConfig) else DEFAULT_MESH
        if mesh.root_namespace != self._root_namespace:
            self._root_namespace = mesh.root_namespace
            step.another_root = True

    def _reach(self, policy: PeerAuthentication, step: _Step) -> None:
        """Marks the classes that a policy speaks about, or would if its selector had an effect."""
        if policy.selector:
            step.selecting.append(policy)
        elif policy.meta.namespace == self._root_namespace:
            step.whole_mesh = True
        else:
            step.namespaces[policy.meta.namespace] = None

    def _reach_selected(self, step: _Step) -> None:
        """Makes the classes stale that selectors match; those that are new in this step are stale already."""
        for policy in step.selecting if len(step.stale) < len(self._classes) else ():
            namespace = policy.meta.namespace
            in_root = namespace == self._root_namespace
            for found in self._classes.candidates(policy.selector, namespace=None if in_root else namespace):
                step.visited += 1
                if policy.selector <= found.key.labels:
                    step.stale[found] = None

    def _settle(self, step: _Step) -> Iterator[DecisionChange]:
        if step.other_policies or step.another_root:
            self._decided.clear()
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

    def _reached(self, step: _Step) -> Collection[WorkloadClass]:
        """Every class that the step may have changed, once, those without members included."""
        if step.whole_mesh or step.another_root:
            return tuple(self._classes)
        reached = dict(step.stale)
        for namespace in step.namespaces:
            reached.update(dict.fromkeys(self._classes.in_namespace(namespace)))
        return reached

    def _refresh(self, found: WorkloadClass, step: _Step) -> None:
        """Brings up to date what a class keeps of the policies and of its namespace."""
        namespace, labels, traits = found.key
        stale = step.another_root or found in step.stale
        if stale or namespace in step.namespaces:
            own = self._namespace_labels.get(namespace)
            found.dataplane = membership_of(labels, traits, namespace=namespace, namespace_labels=own).dataplane
        if stale:
            in_root = namespace == self._root_namespace
            found.ignored = self._policies.selecting(labels, namespace=self._root_namespace)
            found.selecting = () if in_root else self._policies.selecting(labels, namespace=namespace)

    def _decide(self, found: WorkloadClass) -> Decision:
        namespace = found.key.namespace
        mesh = self._policies.broad(self._root_namespace)
        own = () if namespace == self._root_namespace else self._policies.broad(namespace)
        # Identity stands for content: `_decided` holds every tuple that its keys were made from.
        who = (id(mesh), id(own), id(found.selecting), id(found.ignored), found.dataplane)
        decided = self._decided.get(who)
        if decided is None:
            speakers = Contenders(mesh, own, found.selecting, found.ignored)
            decided = self._decided[who] = speakers, decide(speakers, dataplane=found.dataplane)
        return decided[1]


_Speakers = tuple[int, int, int, int, Dataplane]
