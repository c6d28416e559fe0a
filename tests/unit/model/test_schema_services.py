"""Services, EndpointSlices, nodes and blocks of addresses: what is read of them."""

from __future__ import annotations

import msgspec
import pytest

from peerauth.model.changes import ObjectRef, ref_of
from peerauth.model.inventory import EndpointSlice, Node, Service, ServiceCIDR, ServicePort, WorkloadKey
from samples.documents import checked, only


def test_a_service() -> None:
    found = only(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: ns}\nspec: {selector: {app: x}, "
        "clusterIP: None, ports: [{port: 80}, {port: 81, targetPort: http, name: a, "
        "appProtocol: http2}, {port: 53, protocol: UDP}]}\n"
    )
    assert isinstance(found, Service)
    assert (found.headless, found.cluster_ips) == (True, ())
    assert found.selector == {("app", "x")}
    origins = [port.origin for port in found.ports]
    assert found.ports == (
        ServicePort(80, 80, origin=origins[0]),
        ServicePort(81, "http", "a", "TCP", "http2", origins[1]),
        ServicePort(53, 53, protocol="UDP", origin=origins[2]),
    )


def test_a_service_that_stands_for_a_name_has_no_address() -> None:
    found = only(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"
        "spec: {type: ExternalName, externalName: db.example, clusterIP: 10.96.0.1}\n"
    )
    assert isinstance(found, Service)
    assert (found.external_name, found.cluster_ips, found.headless) == ("db.example", (), False)


def test_a_service_has_addresses_of_both_families_and_may_publish_what_is_not_ready() -> None:
    found = only(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"
        "spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd00::1'], publishNotReadyAddresses: true}\n"
    )
    assert isinstance(found, Service)
    assert (found.cluster_ips, found.publish_not_ready, found.external_name) == (("10.96.0.1", "fd00::1"), True, "")


def test_an_endpoint_slice() -> None:
    found = only(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
        "metadata: {name: e, namespace: ns, labels: {kubernetes.io/service-name: s}}\n"
        "ports: [{port: 8080, name: http}, {port: 53, protocol: UDP}, {name: any}, {port: 9090}]\n"
        "endpoints:\n- {addresses: [10.0.0.1], conditions: {ready: true}}\n- {addresses: [10.0.0.2]}\n"
        "- {addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: true}}\n"
        "- {addresses: [10.0.0.4], conditions: {ready: null}, targetRef: {kind: Pod, name: p}}\n"
        "- {addresses: [10.0.0.5], targetRef: {kind: Pod, name: p, namespace: other}}\n"
        "- {addresses: [10.0.0.6], targetRef: {kind: Node, name: worker}}\n"
    )
    assert isinstance(found, EndpointSlice)
    assert found.service == "s"
    assert found.addresses == ("10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6")
    assert [(each.addresses[0], each.ready) for each in found.endpoints][2] == ("10.0.0.3", False)
    pods = [WorkloadKey("ns", "p"), WorkloadKey("other", "p")]
    assert [each.pod for each in found.endpoints] == [None, None, None, *pods, None]
    assert [(port.number, port.name) for port in found.ports] == [(8080, "http"), (9090, "")]


def test_nodes_and_service_cidrs_say_where_addresses_are_taken_from() -> None:
    node = only(
        "apiVersion: v1\nkind: Node\nmetadata: {name: worker}\n"
        "spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, 'fd00:1::/64']}\n"
    )
    assert isinstance(node, Node)
    assert (node.meta.namespace, node.pod_cidrs) == ("", ("10.1.0.0/24", "fd00:1::/64"))
    assert only("apiVersion: v1\nkind: Node\nmetadata: {name: worker}\nspec: {podCIDR: 10.1.0.0/24}\n") == (
        msgspec.structs.replace(node, pod_cidrs=("10.1.0.0/24",))
    )
    cidr = only(
        "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: kubernetes}\n"
        "spec: {cidrs: [10.96.0.0/12]}\n"
    )
    assert isinstance(cidr, ServiceCIDR)
    assert cidr.cidrs == ("10.96.0.0/12",)
    assert ref_of(cidr) == ObjectRef("ServiceCIDR", "", "kubernetes")


@pytest.mark.parametrize("block", ["10.0.0.0", "10.0.0.0/33", "x/8", "''"])
def test_what_is_no_block_of_addresses_is_a_fault(block: str) -> None:
    (fault,) = checked(
        f"apiVersion: v1\nkind: Node\nmetadata: {{name: worker}}\nspec: {{podCIDRs: [{block}]}}\n"
    ).diagnostics
    assert (fault.code, fault.path) == ("PA0009", "spec.podCIDRs[0]")
