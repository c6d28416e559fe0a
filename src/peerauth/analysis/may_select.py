"""Policies that may select some pods of a workload, by labels that those get only when they are created.

What would then be decided is `policy/`'s to say, for the labels that such pods would have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from peerauth.model.inventory import Workload, WorkloadKey
from peerauth.model.labels_to_come import comes_later, may_match
from peerauth.model.meta import Labels
from peerauth.model.peerauth import PeerAuthentication
from peerauth.model.tables import Name
from peerauth.model.world import World
from peerauth.policy.decision import Decision, Verdict
from peerauth.policy.resolve import resolve
from peerauth.policy.revisions import standing_in

Decide = Callable[[Workload], Decision]


class Possible(msgspec.Struct, frozen=True):
    """A policy that may select some pods of a workload, by `keys`, and what is decided for those."""

    workload: Workload
    policy: PeerAuthentication
    keys: tuple[str, ...]
    decision: Decision

    @property
    def sentence(self) -> str:
        """The same for people."""
        return f"{self.policy.meta.full_name} may select some of its pods: it selects by {self.by}."

    @property
    def is_heard(self) -> bool:
        """Whether what it says counts where it matches: no older policy speaks there."""
        said = [one.verdict for one in self.decision.reasons if one.policy == self.policy.meta.full_name]
        return not {Verdict.LOSES, Verdict.IGNORED}.intersection(said)

    @property
    def by(self) -> str:
        """The labels that are to come, as the end of a sentence."""
        return f"{', '.join(self.keys)}, which a pod has only once it is created"


def may_select(world: World, decide: Decide) -> dict[WorkloadKey, tuple[Possible, ...]]:
    """Every workload that a policy may select so, with those policies, each in the order of names."""
    found: dict[WorkloadKey, list[PeerAuthentication]] = {}
    candidates: dict[str, _Candidates] = {}
    for name in sorted(world.policies):
        policy = world.policies[name]
        if not any(comes_later(key) for key, _ in policy.selector):
            continue
        if name.namespace not in candidates:
            candidates[name.namespace] = _Candidates(world.workloads.in_namespace(name.namespace).values())
        for workload in candidates[name.namespace].of(policy.selector):
            found.setdefault(workload.key, []).append(policy)
    return {key: tuple(_possible(world, world.workloads[key], found[key], decide)) for key in sorted(found)}


class _Candidates:
    """The workloads of a namespace by each of their labels: a selector is tried on those that have its rarest one."""

    def __init__(self, workloads: Iterable[Workload]) -> None:
        self._all = tuple(workloads)
        self._having: dict[tuple[str, str], list[Workload]] = {}
        for workload in self._all:
            for pair in workload.meta.labels:
                self._having.setdefault(pair, []).append(workload)

    def of(self, selector: Labels) -> Iterator[Workload]:
        """Those that a selector may match later and does not match now."""
        known = [self._having.get(pair, ()) for pair in selector if not comes_later(pair[0])]
        return (one for one in min(known, key=len, default=self._all) if may_match(one, selector))


def _possible(
    world: World, workload: Workload, policies: Sequence[PeerAuthentication], decide: Decide
) -> Iterator[Possible]:
    spoken = {reason.policy for reason in decide(workload).reasons if reason.policy and reason.port is None}
    speaking = [_policy(world, full_name) for full_name in sorted(spoken)]
    for policy in policies:
        labels = workload.meta.labels | policy.selector
        rivals = [rival for rival in policies if rival.selector <= labels]
        keys = tuple(sorted(key for key, _ in policy.selector - workload.meta.labels))
        decision = _decided(world, workload, labels, policies=[*speaking, *rivals])
        yield Possible(workload, policy, keys, decision)


def _policy(world: World, full_name: str) -> PeerAuthentication:
    namespace, _, name = full_name.partition("/")
    return world.policies[Name(namespace, name)]


def _decided(world: World, workload: Workload, labels: Labels, *, policies: Iterable[PeerAuthentication]) -> Decision:
    """What is decided for pods of a workload that have these labels."""
    stands, namespaces = standing_in(workload, world), world.namespaces
    root, own = stands.istiod.root_namespace, workload.meta.namespace
    known: Mapping[str, Labels | None] = {
        name: namespaces[name].meta.labels if name in namespaces else None for name in (root, own)
    }
    return resolve(
        labels,
        own,
        policies=policies,
        root_namespace=root,
        dataplane=stands.membership.dataplane,
        revision=stands.istiod.revision,
        unread=[name for name, said in known.items() if not stands.istiod.reads(name, said)],
    )
