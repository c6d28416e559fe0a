"""The addresses that ztunnels are told: fields, names, what an edit makes different, and what can be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from peerauth.dataplane.ambient.address import ClusterNames
from peerauth.dataplane.ambient.authorization import policy_name_of, relabelled_name
from peerauth.dataplane.ambient.ztunnel import EVERY_ZTUNNEL, ZtunnelResources
from peerauth.dataplane.projection import Update
from peerauth.dataplane.type_urls import ADDRESS, AUTHORIZATION
from peerauth.model.changes import Change, Delete, MeshObject, Upsert, ref_of
from peerauth.model.inventory import EndpointSlice, Port, Service, ServicePort, SliceEndpoint, Workload
from peerauth.policy.mesh import Mesh
from peerauth.policy.rollout import Orders
from peerauth.proto import workload_pb2 as pb
from samples.meshes import meta, namespace, pairs, policy

FINANCE = Workload(
    meta("foo/finance", {"app": "finance", "version": "v2"}),
    service_account="money",
    ports=(Port(8080, "http"),),
    addresses=("10.0.0.1", "fd00::1"),
    node="n1",
)
UID = "Kubernetes//Pod/foo/finance"
SERVICE = Service(
    meta("foo/bank"),
    selector=pairs({"app": "finance"}),
    ports=(ServicePort(80, "http", "http"), ServicePort(53, 53, protocol="UDP")),
    cluster_ips=("10.96.0.9",),
)
HOST = "foo/bank.foo.svc.cluster.local"
AMBIENT = namespace("foo", {"istio.io/dataplane-mode": "ambient"})


class ResourceChange(NamedTuple):
    """What one step changed, by resource name; a body of None is a resource that is gone."""

    policies: Mapping[str, bytes | None]
    addresses: Mapping[str, bytes | None]


class Told:
    """A mesh and what ztunnels are told of it."""

    def __init__(self, *said: MeshObject) -> None:
        self.mesh = Mesh()
        self.resources = ZtunnelResources(self.mesh, cluster=ClusterNames())
        for each in said:
            self.apply(each)

    def apply(self, said: MeshObject | Change) -> ResourceChange:
        step = self.mesh.apply(said if isinstance(said, Change) else Upsert("test", said))
        told = dict(self.resources.update(step, Orders())).get(EVERY_ZTUNNEL) or Update()
        return ResourceChange(told.resources.get(AUTHORIZATION, {}), told.resources.get(ADDRESS, {}))

    def workload(self, name: str = UID) -> pb.Workload:
        return pb.Address.FromString(self.resources.addresses[name]).workload


def test_a_workload_is_told_with_all_that_ztunnel_needs() -> None:
    told = Told(AMBIENT, FINANCE, SERVICE).workload()
    assert (told.uid, told.name, told.namespace, told.service_account) == (UID, "finance", "foo", "money")
    assert [len(each) for each in told.addresses] == [4, 16]
    assert (told.tunnel_protocol, told.native_tunnel, told.node, told.trust_domain) == (
        pb.HBONE,
        False,
        "n1",
        "cluster.local",
    )
    assert list(told.authorization_policies) == [policy_name_of(FINANCE)]
    assert (told.canonical_name, told.canonical_revision) == ("finance", "v2")
    (port,) = told.services[HOST].ports
    assert (port.service_port, port.target_port, port.app_protocol) == (80, 8080, pb.HTTP11)


def test_a_sidecar_ends_tunnels_itself_and_what_is_outside_the_mesh_has_none() -> None:
    sidecar = Told(namespace("foo", {"istio-injection": "enabled"}), FINANCE).workload()
    assert (sidecar.tunnel_protocol, sidecar.native_tunnel) == (pb.HBONE, True)
    outside = Told(namespace("foo"), FINANCE).workload()
    assert (outside.tunnel_protocol, outside.native_tunnel) == (pb.NONE, False)
    assert not sidecar.authorization_policies
    assert not outside.authorization_policies


def test_uids_name_the_group_of_the_kind() -> None:
    told = Told(*(Workload(meta("foo/x"), kind=kind) for kind in ("Pod", "Deployment", "WorkloadEntry")))
    assert sorted(told.resources.addresses) == [
        "Kubernetes//Pod/foo/x",
        "Kubernetes/apps/Deployment/foo/x",
        "Kubernetes/networking.istio.io/WorkloadEntry/foo/x",
    ]


def test_a_host_name_for_an_address_is_told_as_one_because_ztunnel_refuses_other_addresses() -> None:
    told = Told(msgspec.structs.replace(FINANCE, addresses=("bank.example.com", "10.0.0.1"))).workload()
    assert (told.hostname, len(told.addresses)) == ("bank.example.com", 1)


def test_a_change_of_mode_is_one_policy_and_no_address() -> None:
    told = Told(AMBIENT, FINANCE, msgspec.structs.replace(FINANCE, meta=meta("foo/other", {"app": "other"})))
    news = told.apply(policy("foo/finance", "STRICT", selector={"app": "finance"}))
    assert (list(news.policies), dict(news.addresses)) == ([policy_name_of(FINANCE)], {})


def test_replicas_share_a_policy_which_goes_with_the_last_of_them() -> None:
    twin = msgspec.structs.replace(FINANCE, meta=meta("foo/twin", {"app": "finance", "version": "v2"}))
    told = Told(AMBIENT, FINANCE, twin)
    assert list(told.resources.policies) == [policy_name_of(FINANCE)]
    assert told.apply(Delete("test", ref_of(FINANCE))).policies == {}
    assert told.apply(Delete("test", ref_of(twin))).policies == {policy_name_of(FINANCE): None}
    assert told.resources.addresses == {}


def test_a_workload_whose_labels_change_is_remembered_until_it_goes() -> None:
    told = Told(AMBIENT, FINANCE)
    moved = msgspec.structs.replace(FINANCE, meta=meta("foo/finance", {"app": "other"}))
    news = told.apply(moved)
    assert set(news.policies) == {policy_name_of(FINANCE), policy_name_of(moved), relabelled_name("foo")}
    assert news.policies[policy_name_of(FINANCE)] is None
    assert relabelled_name("foo") in told.apply(policy("foo/all", "STRICT")).policies
    assert told.apply(Delete("test", ref_of(moved))).policies == {
        policy_name_of(moved): None,
        relabelled_name("foo"): None,
    }


def test_a_service_that_comes_changes_or_goes_changes_the_workloads_behind_it() -> None:
    told = Told(AMBIENT, FINANCE)
    assert set(told.apply(SERVICE).addresses) == {HOST, UID}
    headless = msgspec.structs.replace(SERVICE, cluster_ips=())
    assert set(told.apply(headless).addresses) == {HOST}
    assert told.apply(Delete("test", ref_of(SERVICE))).addresses[HOST] is None
    assert not told.workload().services


def test_a_service_without_a_selector_has_the_workloads_that_its_slices_list() -> None:
    bare = msgspec.structs.replace(SERVICE, selector=pairs({}))
    told = Told(AMBIENT, FINANCE, bare)
    assert not told.workload().services
    told.apply(
        EndpointSlice(
            meta("foo/bank-1"), "bank", endpoints=(SliceEndpoint(("10.0.0.1",)),), ports=(Port(8443, "http"),)
        )
    )
    (port,) = told.workload().services[HOST].ports
    assert (port.service_port, port.target_port) == (80, 8443)
    told.apply(Delete("test", ref_of(EndpointSlice(meta("foo/bank-1"), "bank"))))
    assert not told.workload().services


def test_an_address_leads_to_its_workload_and_a_virtual_one_to_the_service_with_its_workloads() -> None:
    told = Told(AMBIENT, FINANCE, SERVICE)
    related = told.resources.lookup.related
    assert related("/10.0.0.1") == related("/fd00::1") == {UID}
    assert related("/10.96.0.9") == {HOST, UID}
    assert related(HOST) == {UID}
    assert related(UID) == related("/10.0.0.2") == set()
    told.apply(msgspec.structs.replace(FINANCE, addresses=("10.0.0.2",), node="n2"))
    assert not related("/10.0.0.1")
    assert related("/10.0.0.2") == {UID}
    assert (told.resources.workloads_on("n1"), told.resources.workloads_on("n2")) == ((), (FINANCE.key,))
