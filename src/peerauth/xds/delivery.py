"""One resource type on one stream: what there is to say of it, and what the client's word about an answer means.

`names` has the state of every name, `form` writes; here is what the view has to do with them, and what is done about a
refusal. This is the only place that knows what ACK and NACK mean; the order between types is `order`'s.

Invariants: at most one answer is in flight. A version that was refused alone is not offered again until it changes, or
the client asks for it, or another change of the type has gone through (two listeners may have wanted one address), or
the session says that it has waited long enough. `plan`, `settled`, `introduces` and `busy` ask, and change nothing.
Memory is bounded by the view, the subscription and what the client claimed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from peerauth.dataplane.type_urls import TypeUrl
from peerauth.xds.answer import ABSENT, Clearance, InFlight, Plan
from peerauth.xds.forms import Form
from peerauth.xds.names import Names, Stage
from peerauth.xds.subscription import Subscription, SubscriptionChange
from peerauth.xds.wire import Resource, View

# Of a thousand refused resources, each tried alone, a client that is asked again and again would do little else.
MOST_AGAIN = 16


@dataclass(slots=True)
class Delivery:
    """State of one type; every method is synchronous and cheap in what changed.

    Methods that return names with versions return what the client has now of them, learned without an answer.
    """

    type_url: TypeUrl
    subscription: Subscription
    form: Form
    view: View
    names: Names = field(default_factory=Names)
    in_flight: InFlight | None = None
    last_nonce: str = ""
    resumed: bool = False  # the client came with state from an earlier stream
    _greeting: bool = False  # an answer is expected even if it is empty
    _trials: list[list[str]] = field(default_factory=list)  # the parts of refused answers, in their turn

    # --- the client speaks -------------------------------------------------------------------------------------------

    def resume(self, held: Mapping[str, str], asked: Iterable[str]) -> None:
        """The first delta request of the type: `held` is name to version as the client has it."""
        covers = self.subscription.covers
        self.names.claim({name: version for name, version in held.items() if version and covers(name)})
        self.resumed = bool(self.names.has)
        self._greeting = self.subscription.wildcard and not held
        self.names.may_differ(self.names.has)
        for name in asked:
            if name in self.names.has:
                self.names.may_differ((name,))
            else:
                self.names.ask((name,))
        if self.subscription.wildcard:
            self.names.may_differ(self.view.names(self.type_url))

    def begin(self, version: str, asked: Iterable[str]) -> None:
        """The first state-of-the-world request of the type: `version` is that of the set the client has, or empty."""
        names = self.view.names(self.type_url) if self.subscription.wildcard else self.subscription.names
        current = {name: resource for name in names if (resource := self.view.get(self.type_url, name))}
        if self.form.is_version_of(version, current.values()):
            self.names.claim({name: resource.version for name, resource in current.items()})
            self.form.taken(current, self.names.has)
            return
        # Any other version says nothing of what the client holds: all is sent afresh.
        self._greeting = self.form.says_absence
        self.names.may_differ(current)
        self.names.ask(asked)

    def resubscribe(self, change: SubscriptionChange) -> dict[str, str]:
        """The client wants something else, or asks again for what it has."""
        gone = self.names.drop(change.dropped - change.doubtful)
        if change.wildcard_ended:
            gone |= self.names.keep(self.subscription.names)
        self.form.lost(gone)
        self.names.ask(change.doubtful | change.asked)
        if change.wildcard_began:
            self._greeting = True
            self.names.may_differ(self.view.names(self.type_url))
            self.names.may_differ(self.names.has)
        return gone

    def ask_again(self) -> None:
        """State of the world: the client repeats what it said, as Envoy does for a cluster that warms again."""
        self.names.ask(self.subscription.names)

    def accept(self) -> dict[str, str]:
        """The answer in flight was applied; returns what the client has now for the names in it."""
        answer = self._landed()
        changed = any(self.names.has.get(name, ABSENT) != version for name, version in self.names.sent.items())
        versions = self.names.acknowledge()
        self.form.taken(answer.resources, versions)
        if changed and self.names.refuses and not answer.trial:
            self._reconsider()
        return versions

    def refuse(self) -> tuple[dict[str, str], bool]:
        """The answer in flight was refused. Returns its versions and whether they are to blame.

        An answer with several names is split and tried again by halves, so that one bad resource holds nothing back.
        """
        self._landed()
        sent = self.names.sent
        if len(sent) <= 1 or self.form.all_or_nothing:
            versions = self.names.refuse()
            if self.form.all_or_nothing and (self._changed(versions) or any(self._open())):
                self._begin_anew()
            return versions, True
        suspects = sorted(name for name, version in sent.items() if self._version(name) == version)
        middle = (len(suspects) + 1) // 2
        self._trials[:0] = [half for half in (suspects[:middle], suspects[middle:]) if half]
        return self.names.suspect(suspects), False

    # --- the view changes --------------------------------------------------------------------------------------------

    def mark(self, names: Iterable[str]) -> None:
        """These names may differ from what the client has."""
        self.subscription.follow()
        fresh = [name for name in names if self.subscription.covers(name) and self._matters(name)]
        self.names.may_differ(fresh)
        if self.form.all_or_nothing and any(self.names.refuses.get(name) != self._version(name) for name in fresh):
            self._begin_anew()

    def try_again(self) -> None:
        """What was refused may be offered once more: what stood in its way may be no part of the configuration."""
        if not self.names.refuses or self.in_flight is not None:
            return
        if self.form.all_or_nothing:
            self._begin_anew()
        else:
            self._reconsider(most=MOST_AGAIN)

    # --- what there is to say ----------------------------------------------------------------------------------------

    def plan(self, clearance: Clearance) -> Plan:
        """What can be said now."""
        adds: dict[str, Resource] = {}
        drops: list[str] = []
        quiet: dict[str, str] = {}
        partial = False
        pending = self.names.pending()
        for name in sorted(pending):
            resource = self._resource(name)
            version = resource.version if resource is not None else ABSENT
            if not self._differs(name, version):
                quiet[name] = version
            elif not self._may_go(name, pending[name], resource, clearance):
                partial |= resource is not None
            elif resource is not None:
                adds[name] = resource
            else:
                drops.append(name)
        return Plan(adds, tuple(drops), quiet, partial)

    def settled(self) -> bool:
        """The client has what the view has, and said so; but for what is on demand, which nothing refers to."""
        if self._on_its_way() or any(self._ordered(self._open())):
            return False
        has = self.names.has
        return not any(
            self._ordered(name for name in self.names.refuses if self._version(name) != has.get(name, ABSENT))
        )

    def busy(self) -> bool:
        """Something new that others may refer to is on its way to the client, or waits to be."""
        return self._on_its_way() or any(self._ordered(name for name in self._open() if self._version(name)))

    def introduces(self) -> bool:
        """Names that the client lacks, or is losing, are on their way or wait to be: what may refer to them waits."""
        has, sent = self.names.has, self.names.sent
        if any(self._ordered(name for name, version in sent.items() if version == ABSENT or name not in has)):
            return True
        return any(self._ordered(name for name in self.names.pending() if name not in has and self._version(name)))

    # --- answers -----------------------------------------------------------------------------------------------------

    def compose(self, clearance: Clearance, *, nonce: str) -> tuple[bytes | None, dict[str, str]]:
        """The next answer, put in flight: None if there is nothing to say or nothing that may be said yet."""
        plan = self.plan(clearance)
        learned = self._settle(plan.quiet)
        if self.form.all_or_nothing and plan.partial:
            return None, learned
        trial = False
        if not plan.adds and not plan.drops and clearance.changes:
            plan = self._next_trial(clearance)
            trial = bool(plan.adds or plan.drops)
        if not plan.adds and not plan.drops and not (self._greeting and clearance.changes):
            return None, learned
        versions = {name: resource.version for name, resource in plan.adds.items()} | dict.fromkeys(plan.drops, ABSENT)
        self.names.send(versions)
        self.in_flight = InFlight(nonce, plan.adds, trial)
        self.last_nonce = nonce
        self._greeting = False
        return self.form.write(plan.adds, plan.drops, nonce=nonce), learned

    def _settle(self, quiet: Mapping[str, str]) -> dict[str, str]:
        """Nothing has to be said of these. What was refused beside a refusal that ends by that gets another chance."""
        gone: dict[str, str] = {}
        if not self.form.says_absence:
            gone = self.names.drop([name for name, version in quiet.items() if version == ABSENT])
            self.form.lost(gone)
            quiet = {name: version for name, version in quiet.items() if version != ABSENT}
        relieved = self.names.settle(quiet)
        if relieved and self.names.refuses:
            self._reconsider()
        return gone | relieved

    def _next_trial(self, clearance: Clearance) -> Plan:
        """The next part of a refused answer that has something to say."""
        while self._trials:
            adds: dict[str, Resource] = {}
            drops: list[str] = []
            for name in self.names.clear_suspicion(self._trials.pop(0)):
                resource = self._resource(name)
                if not self._differs(name, resource.version if resource is not None else ABSENT):
                    continue
                if resource is not None:
                    adds[name] = resource
                elif clearance.removals or self.view.is_on_demand(self.type_url, name):
                    drops.append(name)
            if adds or drops:
                return Plan(adds, tuple(drops))
        return Plan({}, ())

    # --- small steps -------------------------------------------------------------------------------------------------

    def _resource(self, name: str) -> Resource | None:
        return self.view.get(self.type_url, name) if self.subscription.covers(name) else None

    def _version(self, name: str) -> str:
        """The version that the client is to have."""
        resource = self._resource(name)
        return resource.version if resource is not None else ABSENT

    def _changed(self, versions: Mapping[str, str]) -> bool:
        return any(self._version(name) != version for name, version in versions.items())

    def _differs(self, name: str, version: str) -> bool:
        """Whether there is something to say of a pending name that is to be of this version."""
        if version == ABSENT and not self.form.says_absence:
            return False
        if self.names.pending()[name] is Stage.OWED:
            return True
        return version != self.names.has.get(name, ABSENT) and version != self.names.refuses.get(name)

    def _may_go(self, name: str, stage: Stage, resource: Resource | None, clearance: Clearance) -> bool:
        """Whether the order lets something be said of a name now; a suspect waits for its turn."""
        if stage is Stage.SUSPECT:
            return False
        if resource is not None and clearance.changes:
            return True
        # To say of a name that the client does not have that it does not exist is an answer, not a removal.
        removal = resource is None and name in self.names.has
        cleared = clearance.removals if removal else clearance.asked and stage is Stage.OWED
        return cleared or self.view.is_on_demand(self.type_url, name)

    def _open(self) -> Iterator[str]:
        """The pending names of which there is something to say."""
        return (name for name in self.names.pending() if self._differs(name, self._version(name)))

    def _ordered(self, names: Iterable[str]) -> Iterator[str]:
        """Those of the names that take part in the order between types."""
        return (name for name in names if not self.view.is_on_demand(self.type_url, name))

    def _on_its_way(self) -> bool:
        """Whether an answer is unacknowledged that has more in it than what is on demand."""
        return self.in_flight is not None and (not self.names.sent or any(self._ordered(self.names.sent)))

    def _matters(self, name: str) -> bool:
        """Keeps names that came and went while the client was slow from piling up."""
        return self.names.concerns(name) or self.view.get(self.type_url, name) is not None

    def _begin_anew(self) -> None:
        """The client has refused all it was offered on this stream: only a whole set can follow."""
        self.names.forgive()
        self._greeting = True

    def _reconsider(self, *, most: int | None = None) -> None:
        """Gives what was refused first one more chance, all together; refused again, it is split as any answer is."""
        chosen = {name: self._version(name) for name in islice(self.names.refuses, most)}
        self.names.retry(chosen)
        self._trials.append(list(chosen))

    def _landed(self) -> InFlight:
        answer, self.in_flight = self.in_flight, None
        assert answer is not None, "an ACK or NACK is only looked at when its answer is in flight"  # noqa: S101
        return answer
