"""A discovery session against any view, any client and any timing.

The client of this model refuses whole answers that hold something bad, reads late, subscribes and drops, and comes back
with whatever it holds. The view never has a listener that uses a cluster it does not have; the client must never get
into that state either.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from unittest import mock

from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from peerauth.dataplane.type_urls import CLUSTER, LISTENER, SECRET, TypeUrl
from peerauth.xds import order
from peerauth.xds.answer import Clearance
from peerauth.xds.cache import ResourceCache
from peerauth.xds.delivery import Delivery
from peerauth.xds.dialect import ENVOY
from peerauth.xds.names import Stage
from peerauth.xds.session import Session
from peerauth.xds.status import ProxyRecord
from peerauth.xds.wire import (
    Close,
    Event,
    ProxyKey,
    RequestReceived,
    Resource,
    ResourcesChanged,
    SecondChance,
    Send,
    Variant,
)
from rigs.destinations import Source

PROXY = ProxyKey("proxy")
TYPES = (CLUSTER, LISTENER, SECRET)
SECRETS = ("default", "ROOTCA", "other")
CLUSTERS = st.sets(st.sampled_from(["c0", "c1"]))
DESTINATIONS = ("dst|a", "dst|b")
ALL = Clearance(changes=True, asked=True, removals=True)
MAX_STEPS = 400  # to come to rest; a loop of refusals would never

Held = dict[TypeUrl, dict[str, bytes]]
Snapshot = tuple[dict[str, bytes], dict[str, bytes]]


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Clusters, and listeners that use only these; a body is `name=content`."""
    clusters = {name: f"{name}={draw(st.integers(0, 1))}".encode() for name in sorted(draw(CLUSTERS))}
    listeners: dict[str, bytes] = {}
    if clusters:
        for name in sorted(draw(st.sets(st.sampled_from(["l0", "l1", "l2"])))):
            uses = draw(st.sampled_from(sorted(clusters)))
            quality = draw(st.sampled_from(["good", "fine", "bad"]))
            listeners[name] = f"{name}={uses},{quality}".encode()
    return clusters, listeners


def state_of(delivery: Delivery) -> tuple[dict[str, str], dict[str, str], dict[str, str], dict[str, Stage]]:
    names = delivery.names
    return dict(names.has), dict(names.refuses), dict(names.sent), dict(names.pending())


def dangling(held: Held) -> bool:
    uses = {body.partition(b"=")[2].partition(b",")[0].decode() for body in held[LISTENER].values()}
    return not uses <= held[CLUSTER].keys()


class Dialogue(RuleBasedStateMachine):
    variant: Variant

    @initialize(
        first=snapshots(),
        before=snapshots(),
        secrets=st.dictionaries(st.sampled_from(SECRETS), st.just(b"k")),
        dialled=st.sets(st.sampled_from(DESTINATIONS)),
    )
    def begin(self, first: Snapshot, before: Snapshot, secrets: dict[str, bytes], dialled: set[str]) -> None:
        self.patience = mock.patch.object(order, "MAX_OVERTAKEN", 10**9)
        self.patience.start()
        self.cache, self.source = ResourceCache(), Source()
        self.cache.on_demand(PROXY, self.source)
        self.dialled = dialled if self.variant is Variant.DELTA else set()  # the client has these
        self.source.put({(CLUSTER, name): f"{name}=good".encode() for name in DESTINATIONS})
        self.view_becomes(first)
        clusters, listeners = before
        has = {name: self.source.bodies[CLUSTER, name] for name in self.dialled}
        self.held: Held = {CLUSTER: clusters | has, LISTENER: {}, SECRET: secrets}
        self.held[LISTENER] = {name: body for name, body in listeners.items() if b"bad" not in body}
        self.wanted: set[str] = set()
        self.accepted: dict[TypeUrl, str] = {}
        self.connect()

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.come_to_rest()
            self.patience.stop()

    # --- the client --------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        self.view = self.cache.open(PROXY, lambda: None)
        self.session = Session(PROXY, variant=self.variant, dialect=ENVOY, view=self.view)
        self.record = ProxyRecord()
        self.record.opened(1)
        self.inbox: deque[bytes] = deque()
        self.spoken: set[TypeUrl] = set()
        self.based: set[TypeUrl] = set()
        self.nonces: dict[TypeUrl, str] = {}
        self.unacknowledged: dict[TypeUrl, int] = dict.fromkeys(TYPES, 0)
        # State of the world does not say which clusters a client has, so a first answer may take some away too early.
        self.guarded = not dangling(self.held) and self.variant is Variant.DELTA
        self.ask(CLUSTER)

    def ask(self, type_url: TypeUrl, *, subscribe: tuple[str, ...] = (), unsubscribe: tuple[str, ...] = ()) -> None:
        first = type_url not in self.spoken
        self.spoken.add(type_url)
        names = tuple(sorted(self.wanted)) if type_url == SECRET else ()
        if type_url == CLUSTER and self.dialled:
            names = ("*", *sorted(self.dialled))
        if self.variant is Variant.STATE:
            state = discovery_pb2.DiscoveryRequest(
                type_url=type_url,
                resource_names=names,
                version_info=self.accepted.get(type_url, ""),
                response_nonce=self.nonces.get(type_url, ""),
            )
            self.say(state.SerializeToString())
            return
        delta = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url,
            resource_names_subscribe=names if first else subscribe,
            resource_names_unsubscribe=() if first else unsubscribe,
        )
        if first:
            for name, body in self.held[type_url].items():
                if type_url != SECRET or name in self.wanted:
                    delta.initial_resource_versions[name] = Resource.of(type_url, name=name, body=body).version
        self.say(delta.SerializeToString())

    def say(self, data: bytes) -> None:
        self.hear_of_changes()
        self.hear(RequestReceived(data))

    def hear_of_changes(self) -> None:
        if (news := self.view.drain()) is not None:
            self.hear(news)

    def hear(self, event: Event) -> None:
        for command in self.session.receive(event):
            assert not isinstance(command, Close)
            if isinstance(command, Send):
                self.check_sent(command.data)
                self.inbox.append(command.data)
            else:
                self.record.record(1, command, now=0)

    def read(self, data: bytes) -> tuple[TypeUrl, str, dict[str, bytes], set[str]]:
        if self.variant is Variant.STATE:
            state = discovery_pb2.DiscoveryResponse.FromString(data)
            bodies = {each.value.partition(b"=")[0].decode(): each.value for each in state.resources}
            whole = state.type_url != SECRET
            gone = self.held[TypeUrl(state.type_url)].keys() - bodies.keys() if whole else set()
            return TypeUrl(state.type_url), state.nonce, bodies, set(gone)
        delta = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
        bodies = {each.name: each.resource.value for each in delta.resources}
        return TypeUrl(delta.type_url), delta.nonce, bodies, set(delta.removed_resources)

    def check_sent(self, data: bytes) -> None:
        type_url, _, bodies, _ = self.read(data)
        assert type_url in self.spoken
        if type_url == SECRET:
            assert bodies.keys() <= self.wanted, "a resource was sent that the client did not ask for"
        for name in bodies.keys() & DESTINATIONS:
            assert name in self.dialled, "what is on demand was sent unasked"
            assert self.held[type_url].get(name) != bodies[name], "what the client has was sent again"
        if self.session._deliveries[type_url].form.all_or_nothing:
            assert bodies.keys() == set(self.cache.view(PROXY).names(type_url)), "less than all, to who has nothing yet"
        self.unacknowledged[type_url] += 1
        assert self.unacknowledged[type_url] == 1, "at most one answer of a type is unacknowledged"

    def apply(self) -> None:
        """The client reads one answer, takes it or refuses it as a whole, and says so."""
        type_url, nonce, bodies, gone = self.read(data := self.inbox.popleft())
        self.nonces[type_url] = nonce
        self.unacknowledged[type_url] -= 1
        if self.variant is Variant.STATE:
            reply_state = discovery_pb2.DiscoveryRequest(
                type_url=type_url,
                response_nonce=nonce,
                resource_names=sorted(self.wanted) if type_url == SECRET else (),
            )
            reply: discovery_pb2.DiscoveryRequest | discovery_pb2.DeltaDiscoveryRequest = reply_state
        else:
            reply = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce)
        if any(b"bad" in body for body in bodies.values()):
            reply.error_detail.message = "bad"
        else:
            held = self.held[type_url]
            for name in gone:
                held.pop(name, None)
            held.update((name, body) for name, body in bodies.items() if type_url != SECRET or name in self.wanted)
            self.based.add(type_url)
            if self.variant is Variant.STATE:
                self.accepted[type_url] = discovery_pb2.DiscoveryResponse.FromString(data).version_info
            if self.guarded:
                assert not dangling(self.held), "a listener without its cluster"
        if isinstance(reply, discovery_pb2.DiscoveryRequest):
            reply.version_info = self.accepted.get(type_url, "")
        self.say(reply.SerializeToString())

    # --- what may happen ---------------------------------------------------------------------------------------------

    @rule(snapshot=snapshots())
    def view_becomes(self, snapshot: Snapshot) -> None:
        clusters, listeners = snapshot
        self.cache.set(PROXY, CLUSTER, clusters)
        self.cache.set(PROXY, LISTENER, listeners)

    @rule(name=st.sampled_from(SECRETS), content=st.sampled_from([b"1", b"2", None]))
    def secret_becomes(self, name: str, content: bytes | None) -> None:
        if content is None:
            self.cache.update(PROXY, SECRET, {}, removed=[name])
        else:
            self.cache.update(PROXY, SECRET, {name: name.encode() + b"=" + content})

    @rule()
    def session_hears_of_it(self) -> None:
        self.hear_of_changes()

    @rule()
    def time_passes(self) -> None:
        self.session_hears_of_it()
        self.hear(SecondChance())

    @precondition(lambda self: self.inbox)
    @rule()
    def client_reads(self) -> None:
        self.apply()

    @precondition(lambda self: LISTENER not in self.spoken)
    @rule()
    def client_asks_for_listeners(self) -> None:
        self.ask(LISTENER)

    @rule(name=st.sampled_from(SECRETS))
    def client_subscribes(self, name: str) -> None:
        self.session_hears_of_it()
        self.wanted.add(name)
        self.ask(SECRET, subscribe=(name,))

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def client_unsubscribes(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.wanted)))
        self.session_hears_of_it()
        self.wanted.discard(name)
        self.held[SECRET].pop(name, None)
        self.ask(SECRET, unsubscribe=(name,))

    @rule(nonce=st.sampled_from(["", "0", "999"]), refuse=st.booleans())
    def client_says_something_stale(self, nonce: str, refuse: bool) -> None:
        if self.variant is Variant.STATE and not nonce:
            return  # before any answer this is a request, and it would say that the client wants nothing
        stale: discovery_pb2.DiscoveryRequest | discovery_pb2.DeltaDiscoveryRequest
        if self.variant is Variant.STATE:
            stale = discovery_pb2.DiscoveryRequest(type_url=CLUSTER, response_nonce=nonce)
        else:
            stale = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=nonce)
        if refuse:
            stale.error_detail.message = "stale"
        self.say(stale.SerializeToString())

    @rule()
    def client_reconnects(self) -> None:
        self.view.close()
        self.connect()

    @precondition(lambda self: self.variant is Variant.DELTA)
    @rule(name=st.sampled_from(DESTINATIONS), content=st.sampled_from(["good", "fine", "bad", None]))
    def destination_becomes(self, name: str, content: str | None) -> None:
        self.source.put({(CLUSTER, name): f"{name}={content}".encode() if content else None})
        self.cache.changed(self.source, [name])

    @precondition(lambda self: self.variant is Variant.DELTA)
    @rule(name=st.sampled_from(DESTINATIONS))
    def client_dials(self, name: str) -> None:
        """As Envoy does: a name is asked for once, and on every later stream again."""
        if name not in self.dialled:
            self.session_hears_of_it()
            self.dialled.add(name)
            self.ask(CLUSTER, subscribe=(name,))

    # --- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def to_ask_what_there_is_to_say_changes_nothing(self) -> None:
        """And what is asked holds whenever it is asked: `plan` and the questions of the order between types."""
        for delivery in self.session._deliveries.values() if hasattr(self, "session") else ():
            before = state_of(delivery)
            plan = delivery.plan(ALL)
            delivery.settled(), delivery.busy(), delivery.introduces()
            assert (delivery.plan(ALL), state_of(delivery)) == (plan, before)
            assert not plan.adds.keys() & set(plan.drops)

    @invariant()
    def what_was_acknowledged_is_what_the_client_has(self) -> None:
        if not hasattr(self, "session") or self.variant is Variant.STATE:
            return
        for type_url, versions in self.record.status().acked.items():
            for name, version in versions.items():
                if type_url == SECRET and name not in self.wanted:
                    continue  # dropped since
                body = self.held[type_url].get(name)
                if body is not None:
                    assert Resource.of(type_url, name=name, body=body).version == version

    def come_to_rest(self) -> None:
        for type_url in TYPES:
            if type_url not in self.spoken:
                self.ask(type_url)
        self.hear_of_changes()
        for _ in range(MAX_STEPS):
            if not self.inbox:
                break
            self.apply()
        assert not self.inbox, "the dialogue does not end"
        for type_url in TYPES:
            self.check_converged(type_url)
        names = {type_url: tuple(self.names_of(type_url)) for type_url in TYPES}
        self.hear(ResourcesChanged(names))
        assert not self.inbox, "something was sent again although nothing has changed"

    def names_of(self, type_url: TypeUrl) -> Iterator[str]:
        yield from self.cache.view(PROXY).names(type_url)
        yield from self.held[type_url]

    def check_converged(self, type_url: TypeUrl) -> None:
        view = {name: resource.body for name, resource in self.cache.view(PROXY).by_type.get(type_url, {}).items()}
        dialled = {name: body for name in self.dialled if (body := self.source.bodies.get((type_url, name)))}
        if type_url == SECRET:
            view = {name: body for name, body in view.items() if name in self.wanted}
        held = {name: body for name, body in self.held[type_url].items() if name not in DESTINATIONS}
        for name in self.dialled if type_url == CLUSTER else ():
            has, wanted = self.held[CLUSTER].get(name), dialled.get(name)
            assert has == wanted or (wanted is not None and b"bad" in wanted), f"{name} is not what it is to be"
        bad = any(b"bad" in body for body in view.values())
        if bad and self.variant is Variant.STATE and type_url not in self.based:
            return  # refused as a whole, and without knowing what the client has nothing less can be sent
        for name, body in view.items():
            assert held.get(name) == body or b"bad" in body, f"{name} is not up to date"
        listeners_refused = any(b"bad" in body for body in self.cache_bodies(LISTENER))
        keeps_more = type_url != LISTENER and listeners_refused  # what the last good listener may still use
        if not keeps_more and not (type_url == SECRET and self.variant is Variant.STATE):
            extra = held.keys() & (self.wanted if type_url == SECRET else held.keys()) - view.keys()
            assert not extra, f"{extra} should be gone"
        if type_url != SECRET and not keeps_more:
            versions = self.cache.versions(PROXY, type_url)
            assert self.record.outcome(type_url, versions, names=None) is not None, "nobody who waits would be told"

    def cache_bodies(self, type_url: TypeUrl) -> list[bytes]:
        return [resource.body for resource in self.cache.view(PROXY).by_type.get(type_url, {}).values()]


class DeltaDialogue(Dialogue):
    variant = Variant.DELTA


class StateDialogue(Dialogue):
    variant = Variant.STATE


TestDeltaDialogue = DeltaDialogue.TestCase
TestStateDialogue = StateDialogue.TestCase
TestDeltaDialogue.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestStateDialogue.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
