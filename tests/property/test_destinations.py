"""What is at an address is what reading everything afresh says, and an update leaves out nobody who has to be told."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from judges.destinations import Answer, whats_at
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.changes import Change, Edit, MeshObject, ObjectRef
from peerauth.model.inventory import EndpointSlice, Port, Service, ServicePort, SliceEndpoint, Workload, WorkloadKey
from peerauth.model.mesh import MeshConfig, OutboundTraffic
from peerauth.model.placement import Capture, Placement
from peerauth.model.world import World
from peerauth.policy.destinations import Destination, Destinations
from peerauth.policy.outbound import OutboundPeer, PortTransport, Transport
from samples.meshes import changes, meta, pairs

ADDRESSES = ["10.0.0.1", "10.0.0.2", "fd00::1", "10.96.0.1", "10.96.0.2", "fd00:96::1", "10.9.9.9"]
OTHER_TEXTS = {"fd00::1": "FD00:0::1", "10.0.0.1": "::ffff:10.0.0.1"}
PORTS = [80, 8080]
Spot = tuple[str, int]
SPOTS = [(address, port) for address in [*ADDRESSES, *OTHER_TEXTS.values()] for port in PORTS]

_names = st.sampled_from(["foo/a", "foo/b", "bar/a"])
_pods = st.lists(st.sampled_from([*ADDRESSES[:3], *OTHER_TEXTS.values(), "a.example"]), max_size=2, unique=True)
_virtual = st.lists(st.sampled_from([*ADDRESSES[3:6], *ADDRESSES[3:6], "10.0.0.1"]), max_size=2, unique=True)
_labels = st.sampled_from([{}, {"app": "x"}, {"app": "x", "tier": "y"}])
_ports = st.sampled_from([(), (Port(8080, "http"),), (Port(80, "http"), Port(8080))])
_flags = st.sampled_from([False, False, True])


@st.composite
def _workloads(draw: st.DrawFn) -> Workload:
    return Workload(
        meta(draw(_names), draw(_labels)),
        kind=draw(st.sampled_from(["Pod", "Pod", "Pod", "Deployment", "WorkloadEntry"])),
        ports=draw(_ports),
        addresses=tuple(draw(_pods)),
        ready=not draw(_flags),
        terminating=draw(_flags),
    )


@st.composite
def _services(draw: st.DrawFn) -> Service:
    targets: list[int | str] = [80, 8080, "http"]
    target = draw(st.sampled_from(targets))
    return Service(
        meta(draw(_names), age=draw(st.sampled_from([None, 0, 1]))),
        selector=pairs(draw(_labels)),
        ports=draw(
            st.sampled_from(
                [
                    (ServicePort(80, target, "http"),),
                    (ServicePort(80, 53, protocol="UDP"), ServicePort(80, target, "http")),
                    (ServicePort(8080, target),),
                    (),
                ]
            )
        ),
        cluster_ips=tuple(draw(_virtual)),
        publish_not_ready=draw(_flags),
    )


@st.composite
def _slices(draw: st.DrawFn) -> EndpointSlice:
    pods = st.one_of(st.none(), _keys("Pod"))
    endpoints = st.builds(SliceEndpoint, _pods.map(tuple), st.sampled_from([True, True, False]), pods)
    return EndpointSlice(
        meta(draw(_names)),
        draw(st.sampled_from(["a", "b"])),
        endpoints=tuple(draw(st.lists(endpoints, max_size=2))),
        ports=draw(_ports),
    )


def _keys(*kinds: str) -> st.SearchStrategy[WorkloadKey]:
    return st.builds(WorkloadKey, st.sampled_from(["foo", "bar"]), st.sampled_from(["a", "b"]), st.sampled_from(kinds))


def _said() -> st.SearchStrategy[MeshObject]:
    mesh = st.builds(MeshConfig, outbound_traffic=st.sampled_from(OutboundTraffic))
    placements = st.builds(Placement, _keys("Pod"), st.just("n"), _pods.map(tuple), st.just(Capture.TRANSPARENT))
    return st.one_of(_workloads(), _workloads(), _services(), _slices(), placements, mesh)


@st.composite
def _announcements(draw: st.DrawFn) -> dict[WorkloadKey, OutboundPeer | None]:
    transports = st.sampled_from(Transport)
    peers = st.builds(
        OutboundPeer,
        st.just(()),
        st.builds(SpiffeId, st.just("td"), st.just("ns"), st.sampled_from(["one", "two"])),
        transports,
        st.one_of(st.just(()), st.tuples(st.builds(PortTransport, st.sampled_from(PORTS), transports))),
    )
    return draw(st.dictionaries(_keys("Pod", "Deployment", "WorkloadEntry"), st.one_of(peers, peers, st.none())))


def _shown(found: Destination | None) -> Answer | None:
    if found is None:
        return None
    spoken = [(each.address, each.port, str(each.transport), each.identity) for each in found.endpoints]
    assert [each[:2] for each in spoken] == sorted({each[:2] for each in spoken})
    told = tuple(sorted((where, port, how, identity.uri if identity else "") for where, port, how, identity in spoken))
    return "balanced" if found.balanced else "one", told


class DestinationsAgainstScratch(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.objects: dict[ObjectRef, MeshObject] = {}
        self.told: dict[WorkloadKey, OutboundPeer] = {}
        self.destinations = Destinations(self.world)
        self.asked: set[Spot] = set()

    @rule(spot=st.sampled_from(SPOTS))
    def ask(self, spot: Spot) -> None:
        self.destinations.ask(*spot)
        self.asked.add(spot)

    @rule(spot=st.sampled_from(SPOTS))
    def forget(self, spot: Spot) -> None:
        self.destinations.forget(*spot)
        self.asked.discard(spot)

    @rule(several=st.lists(changes(_said()), max_size=3))
    def edit(self, several: list[Change]) -> None:
        self._step(self.world.apply(*several), {})

    @rule(
        several=st.lists(changes(_said()), max_size=2),
        peers=_announcements(),
        moved=st.lists(_pods.map(tuple), min_size=1, max_size=1),
    )
    def edit_and_announce(
        self, several: list[Change], peers: dict[WorkloadKey, OutboundPeer | None], moved: list[tuple[str, ...]]
    ) -> None:
        """Mostly with the addresses that workloads have, and sometimes with those that they had or will have."""
        edits = self.world.apply(*several)
        for key, peer in peers.items():
            workload = self.world.workloads.get(key)
            if peer is not None:
                addresses = workload.addresses if workload is not None else moved[0]
                peers[key] = OutboundPeer(addresses, peer.identity, peer.transport, peer.exceptions)
        self._step(edits, peers)

    def _step(self, edits: Sequence[Edit], peers: dict[WorkloadKey, OutboundPeer | None]) -> None:
        before = {spot: self._expected(spot) for spot in self.asked}
        for edit in edits:
            self.objects.pop(edit.ref, None)
            if edit.after is not None:
                self.objects[edit.ref] = edit.after
        for key, peer in peers.items():
            self.told.pop(key, None)
            if peer is not None:
                self.told[key] = peer
        stale = {(asked.address, asked.port) for asked in self.destinations.update(edits, peers)}
        assert stale <= self.asked
        assert {spot for spot in self.asked if self._expected(spot) != before[spot]} <= stale

    def _expected(self, spot: Spot) -> Answer | None:
        return whats_at(list(self.objects.values()), self.told, *spot)

    @invariant()
    def agrees_with_scratch(self) -> None:
        for spot in SPOTS:
            assert _shown(self.destinations.at(*spot)) == self._expected(spot), spot


TestDestinationsAgainstScratch = DestinationsAgainstScratch.TestCase
TestDestinationsAgainstScratch.settings = settings(max_examples=150, stateful_step_count=15, deadline=None)
