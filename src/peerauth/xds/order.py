"""The order between types: what of a type may go out now, as a question to the state of the others.

Changes go out along the chain of the dialect: clusters, endpoints, listeners, routes, secrets. What may refer to a name
that is new to the client waits until the client has acknowledged it; what only changes holds nothing back, since a
client applies answers in the order in which they come. Removals go the other way: a cluster goes after the client has
acknowledged listeners that no longer use it, and stays while a listener update is refused, because then the old
listener is what runs. What a client asks for by name is answered at once. What is had only by asking (on demand) stands
outside of this order: nothing refers to it, so that nothing waits for it and its removal waits for nobody. ztunnel's
addresses wait for the policies that they name, without exception: an unknown policy is an open door.

Facts: xDS protocol, "Eventual consistency considerations".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from peerauth.dataplane.type_urls import TypeUrl
from peerauth.xds.answer import Clearance
from peerauth.xds.delivery import Delivery
from peerauth.xds.dialect import Dialect
from peerauth.xds.wire import View

# Listeners are not held back for ever by clusters that change faster than the client acknowledges them.
MAX_OVERTAKEN = 8


class Order:
    """The rules of a dialect for one stream. Its only state is how often a type was overtaken while it had to wait."""

    __slots__ = ("_deliveries", "_dialect", "_overtaken", "_view")

    def __init__(self, dialect: Dialect, deliveries: Mapping[TypeUrl, Delivery], view: View) -> None:
        self._dialect = dialect
        self._deliveries = deliveries
        self._view = view
        self._overtaken: dict[TypeUrl, int] = {}  # answers of earlier types that were sent meanwhile

    def clearance(self, delivery: Delivery) -> Clearance:
        """What of a type may go out now."""
        type_url = delivery.type_url
        if (needed := self._dialect.needs.get(type_url)) is not None:
            allowed = self._known(needed)
            return Clearance(changes=allowed, asked=allowed, removals=True)
        waits = any(each.introduces() for each in self._before(type_url))
        changes = not waits or self._overtaken.get(type_url, 0) >= MAX_OVERTAKEN
        return Clearance(changes=changes, asked=True, removals=changes and self._unused(delivery))

    def sent(self, type_url: TypeUrl) -> None:
        """An answer of a type goes out: later types that have something to say are overtaken by it."""
        self._overtaken.pop(type_url, None)
        for other, delivery in self._deliveries.items():
            if type_url in self._dialect.before(other) and delivery.busy():
                self._overtaken[other] = self._overtaken.get(other, 0) + 1

    def _before(self, type_url: TypeUrl) -> Iterator[Delivery]:
        return (self._deliveries[each] for each in self._dialect.before(type_url) if each in self._deliveries)

    def _unused(self, delivery: Delivery) -> bool:
        """Whether nothing that the client runs can still refer to what this type removes."""
        type_url = delivery.type_url
        users = self._dialect.users.get(type_url, ())
        if not all(self._deliveries[user].settled() for user in users if user in self._deliveries):
            return False
        follows = self._dialect.resumed_before.get(type_url)
        return not delivery.resumed or follows is None or follows in self._deliveries

    def _known(self, needed: TypeUrl) -> bool:
        """Whether the client has all there is of a type that another one needs."""
        delivery = self._deliveries.get(needed)
        if delivery is None:
            return not self._view.names(needed)
        return not delivery.busy() and not delivery.names.refuses
