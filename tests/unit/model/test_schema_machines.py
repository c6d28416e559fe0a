"""Machines and the endpoints of ServiceEntries: what is read of them."""

from __future__ import annotations

import pytest

from peerauth.model.inventory import Workload
from samples.documents import checked, only


def test_a_workload_entry() -> None:
    found = only(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w, labels: {v: meta}}\n"
        "spec: {address: 10.0.0.9, labels: {app: vm, v: spec}, serviceAccount: acct, ports: {http: 8080}}\n"
    )
    assert isinstance(found, Workload)
    assert (found.kind, found.addresses, found.service_account) == ("WorkloadEntry", ("10.0.0.9",), "acct")
    assert found.meta.labels == {("app", "vm"), ("v", "meta")}
    assert [(port.number, port.name) for port in found.ports] == [(8080, "http")]


def test_a_workload_entry_says_whether_it_has_a_service_account() -> None:
    entry = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w}\nspec: {address: 10.0.0.9"
    for more, said in (("}\n", False), (", serviceAccount: ''}\n", False), (", serviceAccount: default}\n", True)):
        found = only(entry + more)
        assert isinstance(found, Workload)
        assert (found.service_account, found.account_given) == ("default", said)


def test_a_workload_group_is_what_its_entries_will_be() -> None:
    found = only(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadGroup\n"
        "metadata: {name: g, namespace: vms, labels: {a: own}}\n"
        "spec: {metadata: {labels: {app: vm, v: metadata}, annotations: {note: it}}, "
        "template: {labels: {v: template, w: template}, serviceAccount: acct, ports: {http: 8080}}}\n"
    )
    assert isinstance(found, Workload)
    assert (str(found.key), found.kind, found.service_account, found.account_given) == (
        "vms/g",
        "WorkloadGroup",
        "acct",
        True,
    )
    assert found.meta.labels == {("app", "vm"), ("v", "metadata"), ("w", "template")}
    assert found.meta.annotations == {("note", "it")}
    assert [(port.number, port.name) for port in found.ports] == [(8080, "http")]


def entries(location: str) -> list[Workload]:
    result = checked(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: db, namespace: data}\n"
        f"spec:\n  hosts: [db.example]\n{location}"
        "  ports: [{number: 5432, name: pg}, {number: 80, name: http, targetPort: 8080}]\n"
        "  endpoints:\n  - {address: 10.0.0.1, serviceAccount: db, labels: {app: db}}\n"
        "  - {address: db.example, ports: {pg: 6432}}\n"
    )
    assert not result.diagnostics, result.diagnostics
    return [found for found in result.objects if isinstance(found, Workload)]


def test_the_endpoints_of_a_service_entry_are_workloads_of_its_namespace() -> None:
    first, second = entries("  location: MESH_INTERNAL\n")
    assert [str(first.key), str(second.key)] == ["data/db-0", "data/db-1"]
    assert (first.kind, first.addresses, first.service_account, first.account_given) == (
        "ServiceEntry",
        ("10.0.0.1",),
        "db",
        True,
    )
    assert first.meta.labels == {("app", "db")}
    assert [port.number for port in first.ports] == [5432, 8080]
    assert (second.addresses, second.account_given, [port.number for port in second.ports]) == ((), False, [6432, 8080])
    assert not first.external


@pytest.mark.parametrize("location", ["", "  location: MESH_EXTERNAL\n"])
def test_a_service_entry_is_of_something_outside_the_mesh_unless_it_says_otherwise(location: str) -> None:
    assert all(found.external for found in entries(location))


def test_a_service_entry_without_endpoints_says_nothing_about_workloads() -> None:
    result = checked(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [b]}\n"
    )
    assert (result.objects, result.diagnostics) == ((), ())
