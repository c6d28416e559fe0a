"""What a client that dials an address is told, and that a step costs what it touches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import pytest

from peerauth.identity.spiffe import SpiffeId
from peerauth.model.changes import Delete, Edit, MeshObject, Reset, Upsert, ref_of
from peerauth.model.inventory import EndpointSlice, Port, Service, ServicePort, SliceEndpoint, Workload, WorkloadKey
from peerauth.model.mesh import MeshConfig, OutboundTraffic
from peerauth.model.placement import Capture, Placement
from peerauth.model.world import World
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.destinations import Destination, Destinations
from peerauth.policy.outbound import OutboundPeer, PortTransport, Transport
from samples.meshes import meta, pairs

VIP, VIP6 = "10.96.3.4", "fd00:96::4"
REGISTRY_ONLY = MeshConfig(outbound_traffic=OutboundTraffic.REGISTRY_ONLY)
SHOP = Service(
    meta("foo/shop"),
    selector=pairs({"app": "shop"}),
    ports=(ServicePort(80, "http", "web"), ServicePort(53, 53, "dns", protocol="UDP")),
    cluster_ips=(VIP, VIP6),
)


def pod(name: str, *addresses: str, number: int = 8080, app: str = "shop", kind: str = "Pod") -> Workload:
    """A pod whose service account has its name, and whose port `http` has this number."""
    account = name.rpartition("/")[2]
    return Workload(
        meta(name, {"app": app}),
        kind=kind,
        service_account=account,
        ports=(Port(number, "http"),),
        addresses=addresses,
    )


def spoken_to(workload: Workload, transport: Transport = Transport.MUTUAL_TLS, **ports: Transport) -> OutboundPeer:
    exceptions = tuple(PortTransport(int(port[1:]), how) for port, how in ports.items())
    return OutboundPeer(workload.addresses, account(workload), transport, exceptions)


def account(workload: Workload) -> SpiffeId:
    return SpiffeId("td", workload.meta.namespace, workload.service_account)


class Mesh:
    """A world and what sidecars are told of it. Every workload is announced unless it is said otherwise."""

    def __init__(self, *objects: MeshObject, announced: Mapping[WorkloadKey, OutboundPeer] | None = None) -> None:
        self.world = World()
        self.destinations = Destinations(self.world)
        told = {each.key: spoken_to(each) for each in objects if isinstance(each, Workload)}
        edits = self.world.apply(Reset("test", objects))
        self.destinations.update(edits, told if announced is None else announced)

    def say(self, *objects: MeshObject) -> frozenset[tuple[str, int]]:
        edits = self.world.apply(*(Upsert("test", each) for each in objects))
        return self._step(edits, {each.key: spoken_to(each) for each in objects if isinstance(each, Workload)})

    def take_back(self, obj: MeshObject) -> frozenset[tuple[str, int]]:
        return self._step(self.world.apply(Delete("test", ref_of(obj))), {})

    def announce(self, peers: Mapping[WorkloadKey, OutboundPeer | None]) -> frozenset[tuple[str, int]]:
        return self._step((), peers)

    def _step(
        self, edits: Iterable[Edit], peers: Mapping[WorkloadKey, OutboundPeer | None]
    ) -> frozenset[tuple[str, int]]:
        stale = self.destinations.update(edits, peers)
        assert not any(asked.shard for asked in stale)
        return frozenset((asked.address, asked.port) for asked in stale)

    def at(self, address: str, port: int) -> Destination | None:
        return self.destinations.at(address, port)

    def behind(self, address: str, port: int) -> list[tuple[str, int]]:
        """Where a Service's port leads to."""
        found = self.at(address, port)
        assert found is not None
        assert found.balanced
        return [(each.address, each.port) for each in found.endpoints]


def slice_of(service: str, *endpoints: SliceEndpoint, name: str = "", number: int = 8080) -> EndpointSlice:
    return EndpointSlice(meta(f"{name or service}-1"), service.partition("/")[2], endpoints, (Port(number, "web"),))


def listed(workload: Workload, *, ready: bool = True) -> SliceEndpoint:
    return SliceEndpoint(workload.addresses, ready, workload.key)


def as_it_is(address: str, port: int) -> Destination:
    return Destination((DestinationEndpoint(address, port, Transport.PLAINTEXT),))


ONE, TWO = pod("foo/one", "10.0.0.1", "fd00::1"), pod("foo/two", "10.0.0.2", number=9090)


def test_a_workloads_address_is_spoken_to_port_by_port_as_it_was_announced() -> None:
    peer = spoken_to(ONE, Transport.MUTUAL_TLS, p25=Transport.PLAINTEXT)
    mesh = Mesh(ONE, announced={ONE.key: peer})
    for address in ("10.0.0.1", "fd00::1"):
        found = (mesh.at(address, 8080), mesh.at(address, 25))
        assert found == (
            Destination((DestinationEndpoint(address, 8080, Transport.MUTUAL_TLS, account(ONE)),)),
            Destination((DestinationEndpoint(address, 25, Transport.PLAINTEXT, None),)),
        )


def test_a_workload_of_which_nothing_was_announced_is_nowhere_and_not_spoken_to_in_plaintext() -> None:
    mesh = Mesh(ONE, TWO, SHOP, announced={TWO.key: spoken_to(TWO)})
    mesh.destinations.ask("10.0.0.1", 8080)
    mesh.destinations.ask(VIP, 80)
    assert mesh.at("10.0.0.1", 8080) is None
    assert mesh.behind(VIP, 80) == [("10.0.0.2", 9090)]
    assert mesh.announce({ONE.key: spoken_to(ONE)}) == {("10.0.0.1", 8080), (VIP, 80)}
    assert mesh.behind(VIP, 80) == [("10.0.0.1", 8080), ("10.0.0.2", 9090)]


def test_a_workload_that_is_gone_is_expected_by_its_name_until_that_is_taken_back() -> None:
    mesh = Mesh(ONE)
    mesh.destinations.ask("10.0.0.1", 8080)
    known = mesh.at("10.0.0.1", 8080)
    mesh.take_back(ONE)
    assert mesh.at("10.0.0.1", 8080) == known
    assert mesh.announce({ONE.key: None}) == {("10.0.0.1", 8080)}
    assert mesh.at("10.0.0.1", 8080) == as_it_is("10.0.0.1", 8080)


def test_an_address_that_is_another_workloads_now_is_not_spoken_to_as_the_one_that_had_it_in_plaintext() -> None:
    leaving = msgspec.structs.replace(pod("foo/old", "10.0.0.1"), terminating=True)
    new = pod("foo/new", "10.0.0.1", number=1)
    mesh = Mesh(leaving, new, announced={leaving.key: spoken_to(leaving, Transport.PLAINTEXT), new.key: spoken_to(new)})
    found = mesh.at("10.0.0.1", 8080)
    assert found is not None
    assert found.endpoints[0].identity == account(new)


def test_what_a_machine_says_of_its_address_does_not_make_a_pod_be_spoken_to_in_plaintext() -> None:
    claim = pod("evil/claim", "10.0.0.1", kind="WorkloadEntry")
    mesh = Mesh(ONE, claim, announced={ONE.key: spoken_to(ONE), claim.key: spoken_to(claim, Transport.PLAINTEXT)})
    found = mesh.at("10.0.0.1", 8080)
    assert found is not None
    assert found.endpoints[0].identity == account(ONE)


def test_of_pods_that_share_their_hosts_address_the_one_that_declares_the_port_is_meant() -> None:
    pods = [pod(f"foo/{name}", "10.1.1.1", number=number) for name, number in (("b", 1), ("a", 2), ("c", 3))]
    mesh = Mesh(*pods)
    meant = {}
    for port in (1, 2, 3, 4):
        found = mesh.at("10.1.1.1", port)
        assert found is not None
        identity = found.endpoints[0].identity
        meant[port] = identity.service_account if identity else ""
    assert meant == {1: "b", 2: "a", 3: "c", 4: "a"}


@pytest.mark.parametrize("address", ["198.51.100.1", "10.3.3.3", "2001:db8::1"])
def test_unknown_addresses_are_as_they_are_or_nowhere_as_the_mesh_configuration_says(address: str) -> None:
    mesh = Mesh(ONE, SHOP)
    mesh.destinations.ask(address, 443)
    mesh.destinations.ask("10.0.0.1", 8080)
    assert mesh.at(address, 443) == as_it_is(address, 443)
    assert (address, 443) in mesh.say(REGISTRY_ONLY)
    assert mesh.at(address, 443) is None
    assert mesh.at("10.0.0.1", 8080) is not None
    assert mesh.say(msgspec.structs.replace(REGISTRY_ONLY, trust_domain="td2")) == frozenset()


@pytest.mark.parametrize("text", ["", "example.com", "10.0.0", "10.0.0.1:80"])
def test_what_is_no_address_is_nowhere(text: str) -> None:
    assert Mesh().at(text, 80) is None


def test_addresses_are_equal_however_they_are_written_and_names_come_back_as_they_were_asked() -> None:
    mesh = Mesh(pod("foo/six", "FD00:0::0001"))
    for text in ("fd00::1", "fd00:0:0:0::1"):
        mesh.destinations.ask(text, 80)
    assert mesh.at("fd00::1", 80) == mesh.at("FD00::1", 80)
    assert mesh.say(pod("foo/six", "fd00::1", number=1)) == {("fd00::1", 80), ("fd00:0:0:0::1", 80)}
    mesh.destinations.forget("fd00::1", 80)
    assert mesh.say(pod("foo/six", "fd00::1", number=2)) == {("fd00:0:0:0::1", 80)}
    mesh.destinations.forget("fd00:0:0:0::1", 80)
    assert mesh.say(pod("foo/six", "fd00::1", number=3)) == frozenset()


def test_a_virtual_address_leads_to_ready_endpoints_of_its_family_each_by_its_own_port_way_and_name() -> None:
    three = pod("foo/three", "10.0.0.3")
    mesh = Mesh(ONE, TWO, three, SHOP)
    mesh.announce({TWO.key: spoken_to(TWO, Transport.HBONE), three.key: spoken_to(three, Transport.PLAINTEXT)})
    assert mesh.at(VIP, 80) == Destination(
        (
            DestinationEndpoint("10.0.0.1", 8080, Transport.MUTUAL_TLS, account(ONE)),
            DestinationEndpoint("10.0.0.2", 9090, Transport.HBONE, account(TWO)),
            DestinationEndpoint("10.0.0.3", 8080, Transport.PLAINTEXT, None),
        ),
        balanced=True,
    )
    assert mesh.behind(VIP6, 80) == [("fd00::1", 8080)]


@pytest.mark.parametrize(
    "change", [{"ready": False}, {"terminating": True}, {"ports": ()}, {"addresses": ()}, {"meta": meta("foo/one")}]
)
def test_a_workload_that_takes_no_traffic_for_a_service_gets_none(change: dict[str, object]) -> None:
    mesh = Mesh(ONE, TWO, SHOP)
    mesh.destinations.ask(VIP, 80)
    assert mesh.say(msgspec.structs.replace(ONE, **change)) == {(VIP, 80)}
    assert mesh.behind(VIP, 80) == [("10.0.0.2", 9090)]


def test_a_service_may_lead_to_what_is_not_ready() -> None:
    mesh = Mesh(msgspec.structs.replace(ONE, ready=False, terminating=True), SHOP)
    assert mesh.behind(VIP, 80) == []
    mesh.say(msgspec.structs.replace(SHOP, publish_not_ready=True))
    assert mesh.behind(VIP, 80) == [("10.0.0.1", 8080)]


def test_a_service_none_of_whose_endpoints_is_ready_is_closed_and_not_passed_through() -> None:
    gone = slice_of("foo/shop", listed(ONE, ready=False))
    for mesh in (Mesh(SHOP), Mesh(SHOP, gone, ONE), Mesh(msgspec.structs.replace(SHOP, selector=pairs({})), gone)):
        assert mesh.at(VIP, 80) == Destination((), balanced=True)


@pytest.mark.parametrize("port", [53, 81, 8080])
def test_a_port_that_a_service_does_not_have_for_tcp_is_nowhere(port: int) -> None:
    assert Mesh(ONE, SHOP).at(VIP, port) is None


def test_a_service_without_a_selector_is_passed_through_until_something_says_what_its_endpoints_are() -> None:
    bare = msgspec.structs.replace(SHOP, selector=pairs({}))
    mesh = Mesh(ONE, bare)
    mesh.destinations.ask(VIP, 80)
    assert mesh.at(VIP, 80) == as_it_is(VIP, 80)
    assert mesh.say(slice_of("foo/shop", SliceEndpoint(("10.0.0.1",)), SliceEndpoint(("192.0.2.7",)))) == {(VIP, 80)}
    assert mesh.at(VIP, 80) == Destination(
        (
            DestinationEndpoint("10.0.0.1", 8080, Transport.MUTUAL_TLS, account(ONE)),
            DestinationEndpoint("192.0.2.7", 8080, Transport.PLAINTEXT, None),
        ),
        balanced=True,
    )
    assert mesh.announce({ONE.key: spoken_to(ONE, Transport.HBONE)}) == {(VIP, 80)}
    assert Mesh(bare, REGISTRY_ONLY).at(VIP, 80) is None


def test_slices_say_which_pods_a_service_leads_to_and_on_which_port() -> None:
    vm = pod("foo/vm", "10.0.0.9", kind="WorkloadEntry")
    mesh = Mesh(ONE, TWO, vm, SHOP)
    mesh.destinations.ask(VIP, 80)
    assert mesh.behind(VIP, 80) == [("10.0.0.1", 8080), ("10.0.0.2", 9090), ("10.0.0.9", 8080)]
    only = slice_of("foo/shop", listed(ONE), listed(TWO, ready=False), number=1234)
    assert mesh.say(only) == {(VIP, 80)}
    assert mesh.behind(VIP, 80) == [("10.0.0.1", 1234), ("10.0.0.9", 8080)]  # no slice lists a machine
    more = slice_of("foo/shop", listed(TWO), listed(ONE), name="foo/more", number=9090)
    assert mesh.say(more) == {(VIP, 80)}
    assert mesh.behind(VIP, 80) == [("10.0.0.1", 1234), ("10.0.0.1", 9090), ("10.0.0.2", 9090), ("10.0.0.9", 8080)]
    assert mesh.take_back(only) == {(VIP, 80)}
    assert mesh.behind(VIP, 80) == [("10.0.0.1", 9090), ("10.0.0.2", 9090), ("10.0.0.9", 8080)]


def test_a_pod_that_a_slice_lists_before_it_is_known_gets_nothing_rather_than_plaintext() -> None:
    mesh = Mesh(SHOP, slice_of("foo/shop", listed(ONE)))
    assert mesh.behind(VIP, 80) == []
    mesh.say(ONE)
    assert mesh.behind(VIP, 80) == [("10.0.0.1", 8080)]


def test_a_slice_that_names_a_pod_at_an_address_that_it_does_not_have_leads_nowhere() -> None:
    mesh = Mesh(ONE, TWO, SHOP, slice_of("foo/shop", SliceEndpoint(("10.0.0.2", "10.7.7.7"), True, ONE.key)))
    assert mesh.behind(VIP, 80) == []


def test_a_pod_that_a_slice_names_is_where_it_is_placed_whatever_its_documents_say() -> None:
    bare = msgspec.structs.replace(SHOP, selector=pairs({}))
    mesh = Mesh(ONE, bare, slice_of("foo/shop", listed(ONE)))
    mesh.destinations.ask(VIP, 80)
    placed = Placement(ONE.key, "here", ("10.8.8.8",), Capture.TRANSPARENT)
    assert mesh.say(placed) == {(VIP, 80)}
    moved = mesh.world.workloads[ONE.key]
    assert mesh.announce({ONE.key: spoken_to(moved)}) == {(VIP, 80)}
    assert mesh.behind(VIP, 80) == [("10.8.8.8", 8080)]
    assert mesh.announce({ONE.key: spoken_to(moved, Transport.HBONE)}) == {(VIP, 80)}


def test_the_oldest_service_has_a_virtual_address_that_several_claim() -> None:
    young = Service(meta("bar/young", age=2), pairs({"app": "x"}), (ServicePort(80, 80),), (VIP,))
    old = Service(meta("foo/old", age=1), pairs({"app": "shop"}), (ServicePort(80, 80),), (VIP,))
    mesh = Mesh(ONE, young, old)
    mesh.destinations.ask(VIP, 80)
    assert mesh.behind(VIP, 80) == [("10.0.0.1", 80)]
    assert mesh.take_back(old) == {(VIP, 80)}
    assert mesh.behind(VIP, 80) == []


# --- what a step costs -----------------------------------------------------------------------------------------------


def big_mesh(services: int) -> Mesh:
    """Services of ten pods each; every virtual address and every second pod is asked for."""
    objects: list[MeshObject] = []
    for n in range(services):
        name = f"ns-{n % 7}/app-{n}"
        pods = [pod(f"{name}-{i}", f"10.{n // 250}.{n % 250}.{i + 1}", app=f"app-{n}") for i in range(10)]
        objects += pods
        objects.append(
            Service(
                meta(name),
                selector=pairs({"app": f"app-{n}"}),
                ports=(ServicePort(80, "http", "web"),),
                cluster_ips=(f"10.96.{n // 250}.{n % 250}",),
            )
        )
        objects.append(slice_of(name, *map(listed, pods)))
    mesh = Mesh(*objects)
    for n in range(services):
        mesh.destinations.ask(f"10.96.{n // 250}.{n % 250}", 80)
        for i in range(0, 10, 2):
            mesh.destinations.ask(f"10.{n // 250}.{n % 250}.{i + 1}", 8080)
    return mesh


def steps() -> Iterable[tuple[str, MeshObject, int, int]]:
    """What it is, the object, how many names it concerns, how many addresses it may make the update look at."""
    new = pod("ns-1/app-1-10", "10.0.1.11", app="app-1")
    yield "a pod that nobody asked for", pod("ns-1/other", "10.200.0.1", app="other"), 0, 1
    yield "one more pod of a Service", new, 1, 2
    yield (
        "a pod that is ready no longer",
        msgspec.structs.replace(pod("ns-1/app-1-0", "10.0.1.1", app="app-1"), ready=False),
        2,
        2,
    )
    yield "a slice", slice_of("ns-1/app-1", listed(new)), 1, 1
    yield "a Service that nobody asked for", Service(meta("ns-1/z"), cluster_ips=("10.97.0.1",)), 0, 1


@pytest.mark.parametrize("services", [20, 200])
@pytest.mark.parametrize(("what", "said", "names", "looked_at"), list(steps()), ids=lambda value: str(value)[:40])
def test_the_work_follows_the_change_and_not_the_mesh(
    what: str, said: MeshObject, names: int, looked_at: int, services: int
) -> None:
    mesh = big_mesh(services)
    assert len(mesh.say(said)) == names, what
    assert mesh.destinations.visited == looked_at


def test_what_is_forgotten_costs_nothing_any_longer() -> None:
    mesh = Mesh(ONE, msgspec.structs.replace(SHOP, selector=pairs({})), slice_of("foo/shop", listed(ONE)))
    mesh.destinations.ask(VIP, 80)
    assert mesh.announce({ONE.key: spoken_to(ONE, Transport.HBONE)}) == {(VIP, 80)}
    assert mesh.destinations.visited == 3, "its two addresses, and the Service's"
    mesh.destinations.forget(VIP, 80)
    assert mesh.announce({ONE.key: spoken_to(ONE)}) == frozenset()
    assert mesh.destinations.visited == 2


@pytest.mark.parametrize("services", [20, 200])
def test_an_announcement_concerns_those_who_asked_for_the_workload_or_for_a_service_before_it(services: int) -> None:
    mesh = big_mesh(services)
    even, odd = (pod(f"ns-1/app-1-{i}", f"10.0.1.{i + 1}", app="app-1") for i in (0, 1))
    assert mesh.announce({even.key: spoken_to(even, Transport.HBONE)}) == {("10.0.1.1", 8080), ("10.96.0.1", 80)}
    assert mesh.destinations.visited == 2
    assert mesh.announce({odd.key: spoken_to(odd, Transport.HBONE)}) == {("10.96.0.1", 80)}
    assert mesh.announce({odd.key: spoken_to(odd, Transport.HBONE)}) == frozenset()
    assert mesh.destinations.visited == 0
