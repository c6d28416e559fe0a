"""One discovery stream as a sans-I/O state machine: events in (`receive`), commands out.

It owns the dialogue (who the client is, nonces, which message answers what) and the order between types; what a single
type holds and owes is `watch`'s. Both variants of the protocol run through the same code: they differ in how a request
is read and in how an answer is written.

Order. Changes go out clusters, endpoints, listeners, routes, secrets. What may refer to a name that is new to the
client waits until the client has acknowledged it; what only changes holds nothing back, since a client applies answers
in the order in which they come. Removals go the other way: a cluster goes after the client has acknowledged listeners
that no longer use it, and stays while a listener update is refused, because then the old listener is what runs. What a
client asks for by name is answered at once. What is had only by asking (on demand) stands outside of this order:
nothing refers to it, so that nothing waits for it and its removal waits for nobody. ztunnel's addresses wait for the
policies that they name, without exception: an unknown policy is an open door.

Facts: xDS protocol, "Eventual consistency considerations"; Envoy sends its Node on the first message only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from google.protobuf.message import DecodeError

from peerauth.dataplane.type_urls import (
    ADDRESS,
    AUTHORIZATION,
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    SECRET,
    WORKLOAD,
    TypeUrl,
)
from peerauth.xds import wire
from peerauth.xds.answer import Clearance
from peerauth.xds.subscription import WILDCARD, Subscription
from peerauth.xds.watch import Watch
from peerauth.xds.wire import Close, CloseCode, Command, DeltaRequest, Event, ProxyKey, StateRequest, Variant

# A client that subscribes without end is cut off before it fills memory.
MAX_TYPES = 64
MAX_NAMES = 200_000

# Listeners are not held back for ever by clusters that change faster than the client acknowledges them.
MAX_OVERTAKEN = 8

_ADD_ORDER = (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET)
_NEEDS_POLICIES = (ADDRESS, WORKLOAD)
_REMOVED_AFTER: dict[TypeUrl, tuple[TypeUrl, ...]] = {
    CLUSTER: (LISTENER, ROUTE),
    ENDPOINT: (LISTENER, ROUTE),
    ROUTE: (LISTENER,),
    SECRET: (LISTENER, CLUSTER),
    AUTHORIZATION: _NEEDS_POLICIES,
}
_RESUMED_TOGETHER = {(CLUSTER, LISTENER), (AUTHORIZATION, ADDRESS)}
_RANK = {each: rank for rank, each in enumerate((*_ADD_ORDER, AUTHORIZATION, *_NEEDS_POLICIES))}


class Session:
    """A stream's state. `proxy` is who was authenticated, `view` what it is to have; `only` limits it to one type."""

    def __init__(self, proxy: ProxyKey, *, variant: Variant, view: wire.View, only: TypeUrl | None = None) -> None:
        self._proxy = proxy
        self._variant = variant
        self._view = view
        self._only = only
        self._watches: dict[TypeUrl, Watch] = {}
        self._answers = 0
        self._identified = False
        self.closed = False

    def receive(self, event: Event) -> list[Command]:
        """What to do about an event, in this order; nothing once the session is closed."""
        if self.closed:
            return []
        commands = list(self._handle(event))
        if not self.closed:
            commands.extend(self._flush())
        return commands

    @property
    def refused(self) -> bool:
        """Whether the client goes without something that it has refused."""
        return any(watch.refused for watch in self._watches.values())

    def _handle(self, event: Event) -> Iterator[Command]:
        match event:
            case wire.ResourcesChanged(names=changed, anew=anew):
                if anew:
                    yield from self._ask_anew()
                for type_url, names in changed.items():
                    if watch := self._watches.get(type_url):
                        watch.mark(names, self._view)
            case wire.SecondChance():
                for watch in self._watches.values():
                    watch.try_again(self._view)
            case wire.RequestReceived(data=data):
                try:
                    request = wire.parse_state(data) if self._variant is Variant.STATE else wire.parse_delta(data)
                except DecodeError:
                    yield self._close(CloseCode.INVALID_ARGUMENT, "the message is not a discovery request")
                    return
                yield from self._admit(request)

    def _admit(self, request: StateRequest | DeltaRequest) -> Iterator[Command]:
        """Checks who speaks and about what. Only the first message's node counts: later ones are not looked at."""
        if not self._identified and not wire.speaks_for(request.node_id, self._proxy):
            yield self._close(
                CloseCode.PERMISSION_DENIED,
                f"node {request.node_id!r} is not the proxy that this connection was authenticated as",
            )
            return
        self._identified = True
        type_url = request.type_url or self._only
        if not type_url or (self._only and type_url != self._only):
            yield self._close(CloseCode.INVALID_ARGUMENT, f"type {type_url!r} is not served on this stream")
            return
        watch = self._watches.get(type_url)
        if watch is None:
            if len(self._watches) >= MAX_TYPES:
                yield self._close(CloseCode.RESOURCE_EXHAUSTED, f"more than {MAX_TYPES} types on one stream")
                return
            yield from self._open(type_url, request)
        else:
            yield from self._continue(watch, request)
        if len(self._watches[type_url].subscription.names) > MAX_NAMES:
            yield self._close(CloseCode.RESOURCE_EXHAUSTED, f"more than {MAX_NAMES} names of {type_url}")

    def _open(self, type_url: TypeUrl, request: StateRequest | DeltaRequest) -> Iterator[Command]:
        """The first request of a type on this stream. A nonce in it is from an earlier stream and means nothing."""
        home = self._proxy if type_url in _NEEDS_POLICIES else ""
        subscription = Subscription(legacy_wildcard=type_url in wire.FULL_STATE_TYPES, home=home)
        watch = Watch(type_url, variant=self._variant, subscription=subscription)
        match request:
            case StateRequest():
                self._view.ask(type_url, ())  # what is on demand is not served in this variant
                watch.begin(request.version, subscription.replace(request.names), self._view)
            case DeltaRequest():
                subscribe = set(request.subscribe)
                if type_url in _NEEDS_POLICIES and WILDCARD in request.unsubscribe:
                    subscribe.update(request.held)  # ztunnel resumes its demands by listing them as held only
                change = subscription.adjust(subscribe=subscribe, unsubscribe=request.unsubscribe)
                yield from self._ask(watch, change.asked)
                watch.resume(request.held, watch.with_related(change, self._view), self._view)
        self._watches[type_url] = watch
        yield wire.RecordHeld(type_url, dict(watch.known))

    def _continue(self, watch: Watch, request: StateRequest | DeltaRequest) -> Iterator[Command]:
        answers = watch.in_flight is not None and request.nonce == watch.in_flight.nonce
        if answers:
            yield from self._acknowledge(watch, request)
        match request:
            case DeltaRequest():
                change = watch.subscription.adjust(subscribe=request.subscribe, unsubscribe=request.unsubscribe)
                yield from self._ask(watch, change.asked)
                self._view.drop(watch.type_url, change.dropped)
                watch.resubscribe(watch.with_related(change, self._view), self._view)
            case StateRequest() if request.nonce == watch.last_nonce:
                before = frozenset(watch.subscription.names)
                watch.resubscribe(watch.subscription.replace(request.names), self._view)
                repeated = not answers and before == watch.subscription.names and request.refusal is None
                if repeated and watch.type_url not in wire.FULL_STATE_TYPES:
                    watch.ask_again()
            case StateRequest():
                pass  # stale: the client has yet to read an answer, and will say everything again in reply to it

    def _ask(self, watch: Watch, names: Collection[str]) -> Iterator[Command]:
        """Tells the view what is asked for by name. What it does not keep is answered, and forgotten here too."""
        if forgotten := self._view.ask(watch.type_url, names):
            for each in (*self._watches.values(), watch):
                each.subscription.forget(forgotten)
            yield wire.RecordForgotten(len(forgotten))

    def _ask_anew(self) -> Iterator[Command]:
        for watch in self._watches.values():
            if self._variant is Variant.DELTA:
                names = tuple(watch.subscription.names)
                yield from self._ask(watch, names)
                watch.mark((name for name in names if self._view.is_on_demand(watch.type_url, name)), self._view)

    def _acknowledge(self, watch: Watch, request: StateRequest | DeltaRequest) -> Iterator[Command]:
        if request.refusal is None:
            yield wire.RecordAck(watch.type_url, watch.accept(self._view))
        else:
            versions, isolated = watch.refuse(self._view)
            yield wire.RecordNack(watch.type_url, versions, request.refusal, isolated)

    def _flush(self) -> Iterator[Command]:
        """Sends every answer that may go out now. Earlier types come first, so that later ones see them in flight."""
        for watch in sorted(self._watches.values(), key=lambda each: (_RANK.get(each.type_url, -1), each.type_url)):
            if watch.in_flight is not None:
                continue
            data = watch.compose(self._clearance(watch), nonce=str(self._answers + 1), view=self._view)
            if watch.notes:
                yield wire.RecordAck(watch.type_url, watch.notes)
                watch.notes = {}
            if data is not None:
                self._answers += 1
                self._overtake(watch)
                yield wire.Send(data)

    def _clearance(self, watch: Watch) -> Clearance:
        if watch.type_url in _NEEDS_POLICIES:
            allowed = self._policies_known()
            return Clearance(changes=allowed, asked=allowed, removals=True)
        waits = any(each.introduces(self._view) for each in self._earlier(watch))
        changes = watch.overtaken >= MAX_OVERTAKEN or not waits
        return Clearance(changes=changes, asked=True, removals=changes and self._unused(watch))

    def _earlier(self, watch: Watch) -> list[Watch]:
        if watch.type_url not in _ADD_ORDER:
            return []
        before = _ADD_ORDER[: _ADD_ORDER.index(watch.type_url)]
        return [self._watches[each] for each in before if each in self._watches]

    def _unused(self, watch: Watch) -> bool:
        """Whether nothing that the client runs can still refer to what this type removes."""
        for user in _REMOVED_AFTER.get(watch.type_url, ()):
            other = self._watches.get(user)
            if other is not None and not other.settled(self._view):
                return False
            # A client that resumes with clusters is about to resume its listeners too: they have to go first.
            if other is None and (watch.type_url, user) in _RESUMED_TOGETHER and watch.resumed:
                return False
        return True

    def _policies_known(self) -> bool:
        policies = self._watches.get(AUTHORIZATION)
        if policies is None:
            return not self._view.names(AUTHORIZATION)
        return not policies.busy(self._view) and not policies.refused

    def _overtake(self, sent: Watch) -> None:
        for watch in self._watches.values():
            if sent in self._earlier(watch) and watch.busy(self._view):
                watch.overtaken += 1

    def _close(self, code: CloseCode, reason: str) -> Close:
        self.closed = True
        return Close(code, reason)
