"""A Service of many endpoints as a client is told of it: in pieces, each asked for by its label."""

from __future__ import annotations

import msgspec

from peerauth.identity.spiffe import SpiffeId
from peerauth.model.changes import Edit, Reset, Upsert
from peerauth.model.inventory import Service, ServicePort, Workload, WorkloadKey
from peerauth.model.world import World
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.destinations import Asked, Destinations
from peerauth.policy.outbound import OutboundPeer, Transport
from peerauth.policy.shards import MOST_ENDPOINTS
from samples.meshes import meta, pairs

VIP = "10.96.0.1"
SERVICE = Service(meta("foo/shop"), selector=pairs({"app": "shop"}), ports=(ServicePort(80, 8080),), cluster_ips=(VIP,))


def pod(number: int) -> Workload:
    return Workload(meta(f"foo/{number}", {"app": "shop"}), addresses=(f"10.0.{number // 250}.{number % 250 + 1}",))


def told_of(*pods: Workload) -> dict[WorkloadKey, OutboundPeer]:
    return {each.key: OutboundPeer(each.addresses, SpiffeId("td", "foo", "default"), Transport.HBONE) for each in pods}


class Shop:
    """The Service with that many pods, all of whose pieces are asked for."""

    def __init__(self, pods: int) -> None:
        self.world = World()
        self.destinations = Destinations(self.world)
        self.destinations.ask(VIP, 80)
        self.step(self.world.apply(Reset("test", (SERVICE, *map(pod, range(pods))))), *map(pod, range(pods)))

    def step(self, edits: tuple[Edit, ...], *announced: Workload) -> frozenset[Asked]:
        return self.destinations.update(edits, told_of(*announced))

    def pieces(self) -> dict[str, tuple[DestinationEndpoint, ...]]:
        """What is in each of the pieces, which are asked for."""
        whole = self.destinations.at(VIP, 80)
        assert whole is not None
        assert whole.balanced
        found = {}
        for shard in whole.shards:
            self.destinations.ask(VIP, 80, shard.label)
            piece = self.destinations.at(VIP, 80, shard.label)
            assert piece is not None
            assert (piece.balanced, piece.shards, len(piece.endpoints)) == (True, (), shard.weight)
            found[shard.label] = piece.endpoints
        return found


def test_up_to_a_number_of_endpoints_a_service_is_in_one_piece() -> None:
    for pods in (MOST_ENDPOINTS, MOST_ENDPOINTS + 1):
        shop = Shop(pods)
        whole = shop.destinations.at(VIP, 80)
        assert whole is not None
        assert (len(whole.endpoints), bool(whole.shards)) == ((pods, False) if pods == MOST_ENDPOINTS else (0, True))


def test_one_pod_more_or_less_is_another_answer_for_its_piece_and_for_the_weights_alone() -> None:
    shop = Shop(300)
    before = shop.pieces()
    assert sum(map(len, before.values())) == 300
    new = pod(300)
    stale = shop.step(shop.world.apply(Upsert("test", new)), new)
    assert stale == {Asked(VIP, 80), *(Asked(VIP, 80, label) for label in before)}
    after = shop.pieces()
    differ = {label for label in before | after if before.get(label) != after.get(label)}
    assert len(differ) == 1
    (gained,) = {end.address for label in differ for end in after[label]} - {
        end.address for label in differ for end in before[label]
    }
    assert gained == new.addresses[0]
    shop.step(shop.world.apply(Upsert("test", msgspec.structs.replace(new, ready=False))))
    assert shop.pieces() == before


def test_what_is_no_piece_of_a_service_is_nowhere() -> None:
    shop = Shop(1)
    assert shop.destinations.at(pod(0).addresses[0], 8080, "0") is None
    assert shop.destinations.at("10.9.9.9", 8080, "0") is None
    assert shop.destinations.at(VIP, 81, "0") is None


def test_what_nobody_asks_for_is_looked_up_each_time() -> None:
    shop = Shop(100)
    shop.destinations.forget(VIP, 80)
    for pods in (100, 101):
        whole = shop.destinations.at(VIP, 80)
        assert whole is not None
        assert sum(each.weight for each in whole.shards) == pods
        shop.step(shop.world.apply(Upsert("test", pod(100))), pod(100))


def test_each_piece_is_forgotten_by_itself() -> None:
    shop = Shop(100)
    label, *_ = shop.pieces()
    shop.destinations.forget(VIP, 80, label)
    asked = shop.step(shop.world.apply(Upsert("test", pod(100))), pod(100))
    assert Asked(VIP, 80) in asked
    assert Asked(VIP, 80, label) not in asked
