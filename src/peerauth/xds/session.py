"""One discovery stream as a sans-I/O state machine: events in (`receive`), commands out.

It owns the dialogue: who the client is, nonces, which message answers what. What a single type holds and owes is
`delivery`'s, the order between types is `order`'s, what kinds of clients need is a `Dialect`. Both variants of the
protocol run through the same code: they differ in how a request is read and in how an answer is written.

Facts: xDS protocol, "ACK and NACK", "Wildcard"; Envoy sends its Node on the first message only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial

from google.protobuf.message import DecodeError

from peerauth.dataplane.type_urls import TypeUrl
from peerauth.xds import wire
from peerauth.xds.delivery import Delivery
from peerauth.xds.dialect import Dialect
from peerauth.xds.forms import DeltaForm, StateForm
from peerauth.xds.order import Order
from peerauth.xds.subscription import WILDCARD, Subscription
from peerauth.xds.wire import Close, CloseCode, Command, DeltaRequest, Event, ProxyKey, StateRequest, Variant

# A client that subscribes without end is cut off before it fills memory.
MAX_TYPES = 64
MAX_NAMES = 200_000


class Session:
    """A stream's state. `proxy` is who was authenticated, `view` what it is to have; `only` limits it to one type."""

    def __init__(
        self, proxy: ProxyKey, *, variant: Variant, dialect: Dialect, view: wire.View, only: TypeUrl | None = None
    ) -> None:
        self._proxy = proxy
        self._variant = variant
        self._dialect = dialect
        self._view = view
        self._only = only
        self._deliveries: dict[TypeUrl, Delivery] = {}  # in the order in which they have their say
        self._order = Order(dialect, self._deliveries, view)
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
        return any(delivery.names.refuses for delivery in self._deliveries.values())

    def _handle(self, event: Event) -> Iterator[Command]:
        match event:
            case wire.ResourcesChanged(names=changed, anew=anew):
                if anew:
                    yield from self._ask_anew()
                for type_url, names in changed.items():
                    if delivery := self._deliveries.get(type_url):
                        delivery.mark(names)
            case wire.SecondChance():
                for delivery in self._deliveries.values():
                    delivery.try_again()
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
        delivery = self._deliveries.get(type_url)
        if delivery is None:
            if len(self._deliveries) >= MAX_TYPES:
                yield self._close(CloseCode.RESOURCE_EXHAUSTED, f"more than {MAX_TYPES} types on one stream")
                return
            delivery = self._open(type_url)
            yield from self._begin(delivery, request)
        else:
            yield from self._continue(delivery, request)
        if len(delivery.subscription.names) > MAX_NAMES:
            yield self._close(CloseCode.RESOURCE_EXHAUSTED, f"more than {MAX_NAMES} names of {type_url}")

    def _open(self, type_url: TypeUrl) -> Delivery:
        """A type that the client speaks of for the first time on this stream."""
        complete, accompanied = type_url in self._dialect.complete, type_url in self._dialect.accompanied
        subscription = Subscription(
            legacy_wildcard=complete,
            related=partial(self._view.related, type_url) if accompanied else None,
            home=self._proxy if accompanied else "",
        )
        form = DeltaForm(type_url) if self._variant is Variant.DELTA else StateForm(type_url, complete=complete)
        self._deliveries[type_url] = delivery = Delivery(type_url, subscription, form, self._view)
        ranked = sorted(self._deliveries.items(), key=lambda item: self._dialect.rank(item[0]))
        self._deliveries.clear()
        self._deliveries.update(ranked)
        return delivery

    def _begin(self, delivery: Delivery, request: StateRequest | DeltaRequest) -> Iterator[Command]:
        """The first request of a type on this stream. A nonce in it is from an earlier stream and means nothing."""
        subscription = delivery.subscription
        match request:
            case StateRequest():
                self._view.ask(delivery.type_url, ())  # what is on demand is not served in this variant
                delivery.begin(request.version, subscription.replace(request.names).asked)
            case DeltaRequest():
                subscribe = set(request.subscribe)
                if delivery.type_url in self._dialect.accompanied and WILDCARD in request.unsubscribe:
                    subscribe.update(request.held)
                change = subscription.adjust(subscribe=subscribe, unsubscribe=request.unsubscribe)
                yield from self._ask(delivery, change.asked)
                delivery.resume(request.held, change.asked)
        yield wire.RecordHeld(delivery.type_url, dict(delivery.names.has))

    def _continue(self, delivery: Delivery, request: StateRequest | DeltaRequest) -> Iterator[Command]:
        answers = delivery.in_flight is not None and request.nonce == delivery.in_flight.nonce
        if answers:
            yield from self._acknowledge(delivery, request)
        gone: dict[str, str] = {}
        match request:
            case DeltaRequest():
                change = delivery.subscription.adjust(subscribe=request.subscribe, unsubscribe=request.unsubscribe)
                yield from self._ask(delivery, change.asked)
                self._view.drop(delivery.type_url, change.dropped)
                gone = delivery.resubscribe(change)
            case StateRequest() if request.nonce == delivery.last_nonce:
                before = frozenset(delivery.subscription.names)
                gone = delivery.resubscribe(delivery.subscription.replace(request.names))
                repeated = not answers and before == delivery.subscription.names and request.refusal is None
                if repeated and delivery.type_url not in self._dialect.complete:
                    delivery.ask_again()
            case StateRequest():
                pass  # stale: the client has yet to read an answer, and will say everything again in reply to it
        if gone:
            yield wire.RecordAck(delivery.type_url, gone)

    def _ask(self, delivery: Delivery, names: Collection[str]) -> Iterator[Command]:
        """Tells the view what is asked for by name. What it does not keep is answered, and forgotten here too."""
        if forgotten := self._view.ask(delivery.type_url, names):
            for each in self._deliveries.values():
                each.subscription.forget(forgotten)
            yield wire.RecordForgotten(len(forgotten))

    def _ask_anew(self) -> Iterator[Command]:
        for delivery in self._deliveries.values():
            if self._variant is Variant.DELTA:
                names = tuple(delivery.subscription.names)
                yield from self._ask(delivery, names)
                delivery.mark(name for name in names if self._view.is_on_demand(delivery.type_url, name))

    def _acknowledge(self, delivery: Delivery, request: StateRequest | DeltaRequest) -> Iterator[Command]:
        if request.refusal is None:
            yield wire.RecordAck(delivery.type_url, delivery.accept())
        else:
            versions, isolated = delivery.refuse()
            yield wire.RecordNack(delivery.type_url, versions, request.refusal, isolated)

    def _flush(self) -> Iterator[Command]:
        """Sends every answer that may go out now. Earlier types come first, so that later ones see them in flight."""
        for type_url, delivery in self._deliveries.items():
            if delivery.in_flight is not None:
                continue
            data, learned = delivery.compose(self._order.clearance(delivery), nonce=str(self._answers + 1))
            if learned:
                yield wire.RecordAck(type_url, learned)
            if data is not None:
                self._answers += 1
                self._order.sent(type_url)
                yield wire.Send(data)

    def _close(self, code: CloseCode, reason: str) -> Close:
        self.closed = True
        return Close(code, reason)
