"""Findings about ports: the Service's number, ports no one declares, protocols whose server speaks first."""

from __future__ import annotations

import pytest

from samples.manifests import IN_AMBIENT_MODE, found, found_of, namespace, pod, policy, service


def test_the_number_of_a_service_is_not_the_workloads() -> None:
    (finding,) = found_of("PA0201", namespace(), pod(), service(), policy("foo/p", app="finance", ports={80: "STRICT"}))
    assert finding.path == "spec.portLevelMtls.80"
    assert finding.hint == "write 8080 instead of 80"
    assert "Service foo/finance port 80 leads to target port 8080" in finding.evidence[0].text


def test_a_named_target_port_is_resolved() -> None:
    mesh = (namespace(), pod(ports={8081: "web"}), service(target="web"))
    (finding,) = found_of("PA0201", *mesh, policy("foo/p", app="finance", ports={80: "STRICT"}))
    assert finding.hint == "write 8081 instead of 80"


def test_a_service_port_that_is_also_the_workloads_is_right() -> None:
    mesh = (namespace(), pod(ports={80: ""}), service(port=80, target=80))
    assert found(*mesh, policy("foo/p", app="finance", ports={80: "STRICT"})) == []


def test_a_number_that_one_service_leads_to_is_right_even_if_another_serves_it() -> None:
    mesh = (namespace(), pod(), service(), service("foo/finance", port=8080, target=80))
    assert not found_of("PA0201", *mesh, policy("foo/p", app="finance", ports={80: "STRICT"}))


def test_a_port_that_no_one_declares_is_worth_knowing() -> None:
    (finding,) = found(namespace(), pod(), policy("foo/p", app="finance", ports={8081: "STRICT"}))
    assert finding.code == "PA0202"
    assert finding.evidence[0].text == "the declared ports are 8080"


def test_nothing_is_said_of_ports_where_a_workload_declares_none() -> None:
    assert found(namespace(), pod(ports={}), policy("foo/p", app="finance", ports={8081: "STRICT"})) == []


def test_a_policy_that_lost_has_no_ports_to_judge() -> None:
    policies = (policy("foo/a", "STRICT", app="finance"), policy("foo/b", app="finance", ports={8081: "STRICT"}))
    assert not found_of("PA0202", namespace(), pod(), *policies)


@pytest.mark.parametrize(
    ("number", "name"), [(3306, ""), (5000, "mysql"), (5000, "mysql-main"), (25, "tcp"), (143, "")]
)
def test_a_permissive_server_first_port_is_worth_knowing(number: int, name: str) -> None:
    (finding,) = found(namespace(), pod(ports={number: name}))
    assert finding.code == "PA0203"
    assert f"on port {number}" in finding.message


@pytest.mark.parametrize(
    ("number", "name"), [(5432, "postgres"), (6379, "redis"), (27017, "mongo"), (25, "http"), (8080, "http")]
)
def test_protocols_in_which_the_client_speaks_first_are_not_reported(number: int, name: str) -> None:
    assert found(namespace(), pod(ports={number: name})) == []


@pytest.mark.parametrize("mode", ["STRICT", "DISABLE"])
def test_a_server_first_port_waits_only_under_permissive(mode: str) -> None:
    assert found(namespace(), pod(ports={3306: ""}), policy("foo/default", mode)) == []


def test_ambient_does_not_sniff() -> None:
    assert found(namespace(labels=IN_AMBIENT_MODE), pod(ports={3306: ""})) == []


def test_a_services_app_protocol_tells_a_server_first_port() -> None:
    mesh = (namespace(), pod(ports={7000: ""}), service(port=7000, target=7000, port_name="mysql"))
    assert [finding.code for finding in found(*mesh)] == ["PA0203"]
