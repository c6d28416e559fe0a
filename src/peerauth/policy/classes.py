"""Workloads that no policy can tell apart, as one: the classes that `index` decides about.

A policy sees a workload's namespace and labels; its data plane follows from these and a few traits. Workloads that
agree in all of them are one class and share one decision. The inverted index leads from a selector to the classes it
matches: among the classes that have one of its pairs, the rarest, the rest is checked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from peerauth.model.inventory import Workload, WorkloadKey
from peerauth.model.meta import Labels
from peerauth.model.peerauth import PeerAuthentication
from peerauth.policy.decision import Decision
from peerauth.policy.membership import Traits, traits_of
from peerauth.policy.revisions import Standing
from peerauth.policy.shelf import NOTHING_SAID


class ClassKey(NamedTuple):
    """Everything about a workload that its decision depends on."""

    namespace: str
    labels: Labels
    traits: Traits


def class_key(workload: Workload) -> ClassKey:
    """The class that a workload belongs to."""
    return ClassKey(workload.meta.namespace, workload.meta.labels, traits_of(workload))


class WorkloadClass:
    """One class: who is in it, where it stands, which policies select it, and what was decided.

    `ignored` are the policies of the root namespace that would select it, oldest first. `index` alone writes here, and
    decides about a class before the end of the step that made it: until then it has no standing. `members` is a
    dictionary for its order: that of joining.
    """

    __slots__ = ("decision", "ignored", "key", "members", "selecting", "standing")

    def __init__(self, key: ClassKey, *, decision: Decision) -> None:
        self.key = key
        self.members: dict[WorkloadKey, None] = {}
        self.standing: Standing | None = None
        self.selecting = NOTHING_SAID
        self.ignored: tuple[PeerAuthentication, ...] = ()
        self.decision = decision


_Classes = dict[WorkloadClass, None]
"""A set with an order, so that equal histories give equal output."""


class ClassTable:
    """All classes, by key, by namespace, and by each of their pairs: by these once someone asks for `candidates`."""

    def __init__(self) -> None:
        self._classes: dict[ClassKey, WorkloadClass] = {}
        self._by_namespace: dict[str, _Classes] = {}
        self._by_pair: dict[tuple[str, str], dict[str, _Classes]] = {}
        self._unfiled: _Classes = {}

    def __iter__(self) -> Iterator[WorkloadClass]:
        return iter(self._classes.values())

    def __len__(self) -> int:
        return len(self._classes)

    def get(self, key: ClassKey) -> WorkloadClass | None:
        """The class with this key, if any workload is in it."""
        return self._classes.get(key)

    def add(self, key: ClassKey, *, decision: Decision) -> WorkloadClass:
        """A new class without members; `decision` stands in for the one that is still to be made."""
        made = self._classes[key] = WorkloadClass(key, decision=decision)
        self._by_namespace.setdefault(key.namespace, {})[made] = None
        self._unfiled[made] = None
        return made

    def drop(self, gone: WorkloadClass) -> None:
        """Takes out a class that has lost its last member."""
        key = gone.key
        del self._classes[key]
        _discard(self._by_namespace, key.namespace, gone)
        if gone in self._unfiled:
            del self._unfiled[gone]
            return
        for pair in key.labels:
            namespaces = self._by_pair[pair]
            _discard(namespaces, key.namespace, gone)
            if not namespaces:
                del self._by_pair[pair]

    def in_namespace(self, namespace: str) -> Collection[WorkloadClass]:
        """The classes of one namespace."""
        return self._by_namespace.get(namespace, ())

    def candidates(self, selector: Labels, *, namespace: str | None) -> Iterable[WorkloadClass]:
        """The classes that have the rarest pair of a non-empty selector: those it matches are among them.

        `namespace` None looks in all of them.
        """
        self._file()
        if namespace is not None:
            return min((self._by_pair.get(pair, {}).get(namespace, {}) for pair in selector), key=len)
        namespaces = min((self._by_pair.get(pair, {}) for pair in selector), key=len)
        return (found for classes in namespaces.values() for found in classes)

    def _file(self) -> None:
        """Files new classes under their pairs."""
        for found in self._unfiled:
            namespace = found.key.namespace
            for pair in found.key.labels:
                self._by_pair.setdefault(pair, {}).setdefault(namespace, {})[found] = None
        self._unfiled = {}


def _discard(groups: dict[str, _Classes], name: str, gone: WorkloadClass) -> None:
    del groups[name][gone]
    if not groups[name]:
        del groups[name]
