"""One resource type on one stream: what the client holds, what it is owed, what it refused, what is on its way.

The bookkeeping is per name for both variants. Delta writes just the names that differ; state of the world writes the
whole set that results, so that a name held back (a cluster still in use, a refused listener) stays in it as the client
has it. This is the only place that knows what ACK and NACK mean; the order between types is `session`'s.

Invariants: at most one answer is in flight. A version that was refused alone is not offered again until it changes, or
the client asks for it, or another change of the type has gone through (two listeners may have wanted one address), or
the session says that it has waited long enough.
Memory is bounded by the view, the subscription and what the client claimed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from peerauth.dataplane.type_urls import TypeUrl
from peerauth.xds.answer import ABSENT, Answer, Clearance, Plan
from peerauth.xds.subscription import Subscription, SubscriptionChange
from peerauth.xds.wire import FULL_STATE_TYPES, Resource, Variant, View, encode_delta, encode_state, set_version

# Of a thousand refused resources, each tried alone, a client that is asked again and again would do little else.
MOST_AGAIN = 16


@dataclass(slots=True)
class Watch:
    """State of one type; every method is synchronous and cheap in what changed."""

    type_url: TypeUrl
    variant: Variant
    subscription: Subscription
    known: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    in_flight: Answer | None = None
    last_nonce: str = ""
    resumed: bool = False  # the client came with state from an earlier stream
    overtaken: int = 0  # answers of earlier types that were sent while this type had to wait
    notes: dict[str, str] = field(default_factory=dict)  # what the client has now, learned without an answer
    _due: set[str] = field(default_factory=set)
    _owed: set[str] = field(default_factory=set)
    _trials: list[set[str]] = field(default_factory=list)
    _greeting: bool = False  # an answer is expected even if it is empty
    _held: dict[str, Resource] = field(default_factory=dict)  # state of the world only
    _based: bool = False  # state of the world only: `_held` is really what the client has

    @property
    def _complete(self) -> bool:
        """Whether an answer lists all there is, so that a name left out of it is removed."""
        return self.variant is Variant.STATE and self.type_url in FULL_STATE_TYPES

    # --- the client speaks -------------------------------------------------------------------------------------------

    def with_related(self, change: SubscriptionChange, view: View) -> SubscriptionChange:
        """The change together with the names that go with those that it asks for."""
        along = self.subscription.bring_along(change.asked, lambda name: view.related(self.type_url, name))
        return msgspec.structs.replace(change, asked=change.asked | along) if along else change

    def resume(self, held: Mapping[str, str], change: SubscriptionChange, view: View) -> None:
        """The first delta request of the type: `held` is name to version as the client has it."""
        covers = self.subscription.covers
        self.known = {name: version for name, version in held.items() if version and covers(name)}
        self.resumed = bool(self.known)
        self._greeting = self.subscription.wildcard and not held
        self._due.update(change.asked, self.known)
        self._owed.update(name for name in change.asked if name not in self.known)
        if self.subscription.wildcard:
            self._due.update(view.names(self.type_url))

    def begin(self, version: str, change: SubscriptionChange, view: View) -> None:
        """The first state-of-the-world request of the type: `version` is that of the set the client has, or empty."""
        names = view.names(self.type_url) if self.subscription.wildcard else self.subscription.names
        current = {name: resource for name in names if (resource := view.get(self.type_url, name))}
        # Only a complete answer's version says what the client holds; the others are answered afresh.
        if self._complete and version and version == set_version(current.values()):
            self._held, self._based = current, True
            self.known = {name: resource.version for name, resource in current.items()}
            return
        self._greeting = self._complete
        self._due.update(current, change.asked)
        self._owed.update(change.asked)

    def resubscribe(self, change: SubscriptionChange, view: View) -> None:
        for name in change.dropped:
            if not self.subscription.covers(name):
                self._forget(name)
            elif self.variant is Variant.DELTA:
                self._ask(name)
        if change.wildcard_ended:
            sent = self.in_flight.versions if self.in_flight else {}
            for name in (self.known | self.refused | sent).keys() - self.subscription.names:
                self._forget(name)
            self._due &= self.subscription.names
        for name in change.asked:
            self._ask(name)
        if change.wildcard_began:
            self._greeting = True
            self._due.update(view.names(self.type_url), self.known)

    def ask_again(self) -> None:
        """State of the world: the client repeats what it said, as Envoy does for a cluster that warms again."""
        for name in self.subscription.names:
            self._ask(name)

    def accept(self, view: View) -> dict[str, str]:
        """The answer in flight was applied; returns what the client has now for the names in it."""
        answer, self.in_flight = self._landed(), None
        changed = any(self.known.get(name, ABSENT) != version for name, version in answer.versions.items())
        for name, version in answer.versions.items():
            self.refused.pop(name, None)
            if version == ABSENT:
                self.known.pop(name, None)
                self._held.pop(name, None)
            else:
                self.known[name] = version
                if self.variant is Variant.STATE:
                    self._held[name] = answer.resources[name]
        self._based = True
        if changed and self.refused and not answer.trial:
            self._reconsider(view)
        return answer.versions

    def refuse(self, view: View) -> tuple[dict[str, str], bool]:
        """The answer in flight was refused. Returns its versions and whether they are to blame.

        An answer with several names is split and tried again by halves, so that one bad resource holds nothing back.
        """
        answer, self.in_flight = self._landed(), None
        if len(answer.versions) > 1 and (self._based or not self._complete):
            suspects = sorted(name for name, version in answer.versions.items() if self._target(name, view) == version)
            self._due.update(answer.versions)
            middle = (len(suspects) + 1) // 2
            self._trials[:0] = [set(half) for half in (suspects[:middle], suspects[middle:]) if half]
            return answer.versions, False
        self.refused.update(answer.versions)
        return answer.versions, True

    # --- the view changes --------------------------------------------------------------------------------------------

    def mark(self, names: Iterable[str], view: View) -> None:
        """These names may differ from what the client has."""
        self.subscription.follow(lambda name: view.related(self.type_url, name))
        fresh = {name for name in names if self.subscription.covers(name) and self._matters(name, view)}
        if not fresh:
            return
        self._due |= fresh
        for group in self._trials:
            group.difference_update(fresh)
        if self._complete and not self._based and any(self.refused.get(n) != self._target(n, view) for n in fresh):
            self._begin_anew()

    def try_again(self, view: View) -> None:
        """What was refused may be offered once more: what stood in its way may be no part of the configuration."""
        if not self.refused or self.in_flight is not None:
            return
        if self._complete and not self._based:
            self._begin_anew()
        else:
            self._reconsider(view, most=MOST_AGAIN)

    # --- answers -----------------------------------------------------------------------------------------------------

    def plan(self, view: View) -> Plan:
        """What differs now."""
        adds: list[str] = []
        drops: list[str] = []
        for name in sorted(self._due):
            target = self._target(name, view)
            if not self._nothing_to_say(name, target):
                (adds if target else drops).append(name)
        return Plan(adds, drops)

    def settled(self, view: View) -> bool:
        """The client has what the view has, and said so; but for what is on demand, which nothing refers to."""
        if self._on_its_way(view):
            return False
        plan = self.plan(view)
        refused = (name for name in self.refused if self._target(name, view) != self.known.get(name, ABSENT))
        return not any(self._ordered((*plan.adds, *plan.drops, *refused), view))

    def busy(self, view: View) -> bool:
        """Something new that others may refer to is on its way to the client, or waits to be."""
        return self._on_its_way(view) or any(self._ordered(self.plan(view).adds, view))

    def introduces(self, view: View) -> bool:
        """Names that the client lacks, or is losing, are on their way or wait to be: what may refer to them waits."""
        sent = self.in_flight.versions if self.in_flight is not None else {}
        if any(sent[name] == ABSENT or name not in self.known for name in self._ordered(sent, view)):
            return True
        new = (name for name in self._due if name not in self.known and self._target(name, view) != ABSENT)
        return any(self._ordered(new, view))

    def compose(self, clearance: Clearance, *, nonce: str, view: View) -> bytes | None:
        """The next answer, put in flight; None if there is nothing to say or nothing that may be said yet."""
        if self._tidy(view) and self.refused:
            self._reconsider(view)
        plan = self.plan(view)
        tried = set[str]().union(*self._trials)
        asked = self._owed if clearance.asked else set[str]()
        free = {name for name in (*plan.adds, *plan.drops) if view.is_on_demand(self.type_url, name)}
        adds = [
            name for name in plan.adds if name not in tried and (clearance.changes or name in free or name in asked)
        ]
        # To say of a name that the client does not have that it does not exist is an answer, not a removal.
        drops = [
            name
            for name in plan.drops
            if name not in tried and (name in free or (clearance.removals if name in self.known else name in asked))
        ]
        if self._complete and not self._based and adds != plan.adds:
            return None
        trial = False
        if not adds and not drops and clearance.changes:
            adds, drops = self._next_trial(plan, free if not clearance.removals else None)
            trial = bool(adds or drops)
        if not adds and not drops and not (self._greeting and clearance.changes):
            return None
        resources = {name: resource for name in adds if (resource := view.get(self.type_url, name))}
        versions = {name: resource.version for name, resource in resources.items()} | dict.fromkeys(drops, ABSENT)
        self.in_flight = Answer(nonce=nonce, versions=versions, resources=resources, trial=trial)
        self.last_nonce = nonce
        self.overtaken = 0
        self._greeting = False
        self._due.difference_update(versions)
        self._owed.difference_update(versions)
        return self._encode(self.in_flight, drops)

    def _encode(self, answer: Answer, drops: Collection[str]) -> bytes:
        if self.variant is Variant.DELTA:
            resources = answer.resources.values()
            return encode_delta(resources, type_url=self.type_url, nonce=answer.nonce, removed=drops)
        whole = {name: resource for name, resource in self._held.items() if name not in drops} | answer.resources
        ordered = [whole[name] for name in sorted(whole)]
        return encode_state(ordered, type_url=self.type_url, nonce=answer.nonce, version=set_version(ordered))

    def _next_trial(self, plan: Plan, removable: Collection[str] | None) -> tuple[list[str], list[str]]:
        """The next part of a refused answer; of removals only the `removable` ones, or with None any."""
        while self._trials:
            group = self._trials.pop(0)
            adds = [name for name in plan.adds if name in group]
            drops = [name for name in plan.drops if name in group and (removable is None or name in removable)]
            if adds or drops:
                return adds, drops
        return [], []

    def _ordered(self, names: Iterable[str], view: View) -> Iterator[str]:
        """Those of the names that take part in the order between types."""
        return (name for name in names if not view.is_on_demand(self.type_url, name))

    def _on_its_way(self, view: View) -> bool:
        """Whether an answer is unacknowledged that has more in it than what is on demand."""
        sent = self.in_flight.versions if self.in_flight is not None else None
        return sent is not None and (not sent or any(self._ordered(sent, view)))

    # --- small steps -------------------------------------------------------------------------------------------------

    def _target(self, name: str, view: View) -> str:
        resource = view.get(self.type_url, name) if self.subscription.covers(name) else None
        return resource.version if resource else ABSENT

    def _nothing_to_say(self, name: str, target: str) -> bool:
        if target == ABSENT and self.variant is Variant.STATE and not self._complete:
            return True  # such an answer cannot express absence
        if name in self._owed:
            return False
        return target in {self.known.get(name, ABSENT), self.refused.get(name)}

    def _tidy(self, view: View) -> bool:
        """Forgets what there is nothing to say of; returns whether a refusal ended because the view came back."""
        relieved = False
        for name in tuple(self._due):
            target = self._target(name, view)
            if not self._nothing_to_say(name, target):
                continue
            if target == ABSENT and self.variant is Variant.STATE and not self._complete:
                self._forget(name)
            elif target == self.known.get(name, ABSENT) and self.refused.pop(name, None) is not None:
                self.notes[name] = target
                relieved = True
            self._due.discard(name)
            self._owed.discard(name)
        return relieved

    def _matters(self, name: str, view: View) -> bool:
        """Keeps names that came and went while the client was slow from piling up."""
        if view.get(self.type_url, name) is not None or name in self.known or name in self.refused:
            return True
        return self.in_flight is not None and name in self.in_flight.versions

    def _ask(self, name: str) -> None:
        self._owed.add(name)
        self._due.add(name)

    def _forget(self, name: str) -> None:
        """The client no longer wants the name, so whatever is on its way does not count as held."""
        for names in (self.known, self.refused, self._held):
            names.pop(name, None)
        self.notes[name] = ABSENT
        self._due.discard(name)
        self._owed.discard(name)
        if self.in_flight is not None:
            self.in_flight.versions.pop(name, None)

    def _begin_anew(self) -> None:
        """The client has refused all it was offered on this stream: only a whole set can follow."""
        self._due.update(self.refused)
        self.refused.clear()
        self._greeting = True

    def _reconsider(self, view: View, *, most: int | None = None) -> None:
        """Gives what was refused first one more chance, all together; refused again, it is split as any answer is."""
        refused = dict(islice(self.refused.items(), most))
        group = {name for name, version in refused.items() if self._target(name, view) == version}
        for name in refused:
            del self.refused[name]
        self._due |= group
        self._trials.append(group)

    def _landed(self) -> Answer:
        assert self.in_flight is not None, "an ACK or NACK is only looked at when its answer is in flight"  # noqa: S101
        return self.in_flight
