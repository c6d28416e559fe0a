"""ztunnel is never open where it was to be closed, in whatever order the world changes and messages arrive.

The control plane's side is real: world, index, resources, cache, session. The other side is the model of ztunnel. It
reads late, reconnects with what it holds, and outlives control planes, which come back with no memory.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from judges.ztunnelmodel import MESH_IDENTITY, NOBODY, Connection, Ztunnel
from peerauth.control.publishing import put
from peerauth.control.ztunnels import ALL_ZTUNNELS, ZtunnelFeed, ztunnel_key
from peerauth.dataplane.ambient.address import ClusterNames, workload_name
from peerauth.dataplane.ambient.ztunnel import ZtunnelResources
from peerauth.dataplane.type_urls import ADDRESS, AUTHORIZATION, TypeUrl
from peerauth.model.changes import Delete, MeshObject, Reset, Upsert, ref_of
from peerauth.model.inventory import Namespace, Workload, WorkloadKey
from peerauth.model.meta import Meta
from peerauth.model.peerauth import PeerAuthentication
from peerauth.policy.decision import Dataplane, EffectiveMode
from peerauth.policy.mesh import Mesh
from peerauth.policy.rollout import Orders
from peerauth.proto import workload_pb2
from peerauth.xds.cache import ResourceCache
from peerauth.xds.dialect import ZTUNNEL
from peerauth.xds.session import Session
from peerauth.xds.wire import Close, RequestReceived, Resource, ResourcesChanged, Send, Variant
from samples.meshes import PORTS, ROOT, label_sets, meta, pairs, policies

PROXY = ztunnel_key("n1")
HERE = ClusterNames()
TYPES = (ADDRESS, AUTHORIZATION)
KEYS = [WorkloadKey("foo", "a"), WorkloadKey("foo", "b"), WorkloadKey("bar", "a")]
NAMESPACES = [Namespace(meta(name, {"istio.io/dataplane-mode": "ambient"})) for name in (ROOT, "foo", "bar")]
CLIENTS = st.sampled_from([NOBODY, NOBODY, MESH_IDENTITY])
MAX_STEPS = 200


def address_of(key: WorkloadKey) -> str:
    return f"10.0.{hashlib.sha256(str(key).encode()).digest()[0]}.{KEYS.index(key) + 1}"


def uid(key: WorkloadKey) -> str:
    return workload_name(key, cluster=HERE)


def pod(key: WorkloadKey, labels: dict[str, str]) -> Workload:
    return Workload(Meta(key.name, key.namespace, labels=pairs(labels)), addresses=(address_of(key),), node="n1")


@st.composite
def pods(draw: st.DrawFn) -> Workload:
    labels = draw(label_sets()) | draw(st.sampled_from([{}, {}, {}, {"istio.io/dataplane-mode": "none"}]))
    return pod(draw(st.sampled_from(KEYS)), labels)


class Updates(RuleBasedStateMachine):
    @initialize(
        labels=st.tuples(*(label_sets() for _ in KEYS)),
        said=st.lists(policies(), max_size=3),
        on_demand=st.booleans(),
    )
    def begin(self, labels: tuple[dict[str, str], ...], said: list[PeerAuthentication], on_demand: bool) -> None:
        self.on_demand = on_demand  # it gets the workloads of its node unasked, which these all are
        first = [pod(key, worn) for key, worn in zip(KEYS, labels, strict=True)]
        objects: list[MeshObject] = [*NAMESPACES, *first, *said]
        self.objects = {ref_of(each): each for each in objects}
        self.ztunnel = Ztunnel()
        self.versions: dict[TypeUrl, dict[str, str]] = {each: {} for each in TYPES}
        self.uncovered: set[Connection] = set()
        self.forgetful = False  # restarted since the client last had everything
        self.was_closed: dict[tuple[WorkloadKey, int], set[bool]] = {}
        self.start_control_plane()
        self.all_is_read()
        self.clients_dial_everything(NOBODY)

    # --- the control plane -------------------------------------------------------------------------------------------

    def start_control_plane(self) -> None:
        """A new process: it knows what the sources say, and nothing else."""
        self.mesh, self.cache = Mesh(), ResourceCache()
        self.feed = ZtunnelFeed(self.cache, mesh=self.mesh, cluster=HERE)
        self.cache.share(PROXY, group=ALL_ZTUNNELS)
        for each in self.objects.values():
            self.take(each)
        self.remember()
        self.connect()

    def take(self, said: MeshObject | Delete) -> None:
        step = self.mesh.apply(said if isinstance(said, Delete) else Upsert("test", said))
        for _, news in self.feed.resources.update(step, Orders()):
            put(self.cache, ALL_ZTUNNELS, news)

    def ambient(self) -> Iterator[WorkloadKey]:
        for key in self.mesh.world.workloads:
            if self.mesh.decisions.decision(key).dataplane is Dataplane.AMBIENT:
                yield key

    def closed(self, key: WorkloadKey, port: int) -> bool:
        return self.mesh.decisions.decision(key).mode_of(port) is EffectiveMode.STRICT

    def remember(self) -> None:
        """What was asked of each port since the client last had everything: any of it may be what it does now."""
        for key in self.ambient():
            for port in PORTS:
                self.was_closed.setdefault((key, port), set()).add(self.closed(key, port))

    # --- the client --------------------------------------------------------------------------------------------------

    def connect(self, *, addresses_first: bool = True) -> None:
        self.view = self.cache.open(PROXY, lambda: None)
        self.session = Session(PROXY, variant=Variant.DELTA, dialect=ZTUNNEL, view=self.view)
        self.inbox: deque[bytes] = deque()
        self.unasked = list(TYPES if addresses_first else reversed(TYPES))
        self.ask()

    def ask(self) -> None:
        """ztunnel asks for addresses first and for both at once; nothing here may depend on it."""
        type_url = self.unasked.pop(0)
        message = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url, initial_resource_versions=self.versions[type_url]
        )
        if self.on_demand and type_url == ADDRESS:
            message.resource_names_subscribe.append("*")
            message.resource_names_unsubscribe.append("*")
        self.say(message)

    def say(self, message: discovery_pb2.DeltaDiscoveryRequest) -> None:
        self.hear_of_changes()
        self.hear(RequestReceived(message.SerializeToString()))

    def hear_of_changes(self) -> None:
        if (news := self.view.drain()) is not None:
            self.hear(news)

    def hear(self, event: RequestReceived | ResourcesChanged) -> None:
        for command in self.session.receive(event):
            assert not isinstance(command, Close)
            if isinstance(command, Send):
                self.inbox.append(command.data)

    def read(self) -> None:
        data = self.inbox.popleft()
        before = set(self.ztunnel.open)
        type_url, nonce = self.ztunnel.read(data)
        answer = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
        for each in answer.resources:
            self.versions[type_url][each.name] = each.version
            assert each.version == Resource.of(type_url, name=each.name, body=each.resource.value).version
        for name in answer.removed_resources:
            self.versions[type_url].pop(name, None)
        for cut in before - self.ztunnel.open:
            assert not cut.identity, "a tunnel was cut"
            assert True in self.was_closed[self.key_of(cut), cut.port], f"{cut} was cut though nothing forbade it"
        self.say(discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce))

    def key_of(self, connection: Connection) -> WorkloadKey:
        found = workload_pb2.Workload.FromString(connection.workload)
        return WorkloadKey(found.namespace, found.name)

    # --- what may happen ---------------------------------------------------------------------------------------------

    @rule(said=st.one_of(policies(), policies(), pods(), pods()))
    def somebody_says(self, said: PeerAuthentication | Workload) -> None:
        self.objects[ref_of(said)] = said
        self.take(said)
        self.after_a_change()

    @precondition(lambda self: len(self.objects) > len(NAMESPACES))
    @rule(data=st.data())
    def somebody_takes_back(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(sorted(self.objects.keys() - {ref_of(each) for each in NAMESPACES})))
        del self.objects[ref]
        self.take(Delete("test", ref))
        self.after_a_change()

    def after_a_change(self) -> None:
        self.remember()
        # A pod that is gone or leaves the mesh takes its connections with it: its network namespace goes, or its proxy.
        here = set(self.ambient())
        self.ztunnel.open = {each for each in self.ztunnel.open if self.key_of(each) in here}

    @rule()
    def session_hears_of_it(self) -> None:
        self.hear_of_changes()

    @precondition(lambda self: self.inbox)
    @rule()
    def client_reads(self) -> None:
        self.read()

    @rule(addresses_first=st.booleans())
    def client_reconnects(self, addresses_first: bool) -> None:
        self.view.close()
        self.connect(addresses_first=addresses_first)

    @precondition(lambda self: self.unasked)
    @rule()
    def client_asks_for_the_other_type(self) -> None:
        self.ask()

    @rule()
    def control_plane_is_restarted(self) -> None:
        self.forgetful = True
        self.leave_out_what_cannot_be_known()
        self.start_control_plane()

    def leave_out_what_cannot_be_known(self) -> None:
        """A control plane cannot know of labels that changed before its time: docs/adr/0003 says so.

        What is open under other labels than the workload's own now, dialled before the restart or through what the
        client still holds from before, is not cut by it.
        """
        for each in self.ztunnel.open:
            now = self.feed.resources.addresses.get(uid(self.key_of(each)), b"")
            named = workload_pb2.Address.FromString(now).workload.authorization_policies
            if workload_pb2.Workload.FromString(each.workload).authorization_policies != named:
                self.uncovered.add(each)

    @rule(identity=CLIENTS)
    def clients_dial_everything(self, identity: str) -> None:
        for key in set(self.ambient()):
            body = self.ztunnel.workloads.get(uid(key))
            if body is None or not self.policies_of(body):
                continue  # it does not know the workload yet, or knows it as it was outside the mesh
            for port in PORTS:
                admitted = self.ztunnel.dial(uid(key), port, identity)
                assert admitted or not identity, "a tunnel was refused"
                if not identity:
                    asked = self.was_closed[key, port]
                    assert (not admitted) in asked, f"{key}:{port} admits {admitted}, which nobody asked for"
        if self.forgetful:
            self.leave_out_what_cannot_be_known()

    @rule()
    def all_is_read(self) -> None:
        while self.unasked:
            self.ask()
        self.hear_of_changes()
        for _ in range(MAX_STEPS):
            if not self.inbox:
                break
            self.read()
        assert not self.inbox, "the dialogue does not end"
        self.check_at_rest()
        self.forgetful = False
        self.was_closed = {}
        self.remember()

    # --- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def every_policy_that_is_named_is_there(self) -> None:
        if not hasattr(self, "ztunnel"):
            return
        for name, body in self.ztunnel.workloads.items():
            named = workload_pb2.Workload.FromString(body).authorization_policies
            assert set(named) <= self.ztunnel.policies.keys(), f"{name} names what is not there"

    def check_at_rest(self) -> None:
        assert self.ztunnel.workloads.keys() == {uid(key) for key in self.mesh.world.workloads}
        held = {name for body in self.ztunnel.workloads.values() for name in self.policies_of(body)}
        relabelled = {name for name in self.ztunnel.policies if name.endswith("-relabelled")}
        assert self.ztunnel.policies.keys() - relabelled == held, "a policy outlived those that named it"
        for key in self.ambient():
            for port in PORTS:
                plaintext = self.ztunnel.connection(uid(key), port, NOBODY)
                assert self.ztunnel.admits(plaintext) is not self.closed(key, port)
                assert self.ztunnel.admits(replace(plaintext, identity=MESH_IDENTITY))
        for each in self.ztunnel.open - self.uncovered:
            assert each.identity or not self.closed(self.key_of(each), each.port), f"{each} is still open"
        mesh = Mesh()
        fresh = ZtunnelResources(mesh, cluster=HERE)
        fresh.update(mesh.apply(Reset("test", tuple(self.objects.values()))), Orders())
        assert fresh.addresses == self.feed.resources.addresses
        own = {name: body for name, body in self.feed.resources.policies.items() if not name.endswith("-relabelled")}
        assert fresh.policies == own

    def policies_of(self, body: bytes) -> list[str]:
        return list(workload_pb2.Workload.FromString(body).authorization_policies)

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.all_is_read()


TestUpdates = Updates.TestCase
TestUpdates.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
