"""Which ports Istio keeps away from the proxy, by the rules that it writes."""

from __future__ import annotations

import pytest

from peerauth.model.inventory import Workload
from peerauth.model.mesh import DEFAULT_MESH, MeshConfig, Redirection
from peerauth.model.meta import Meta
from peerauth.policy.capture import (
    BYPASS,
    EXCLUDE_PORTS,
    INCLUDE_PORTS,
    INTERCEPTION_MODE,
    PROXY_CONFIG,
    STATUS_PORT,
    captured_of,
)
from peerauth.policy.decision import Dataplane
from peerauth.policy.membership import TEMPLATES
from samples.meshes import pairs

OTHER = 65535


def reaching(
    annotations: dict[str, str],
    dataplane: Dataplane,
    ports: tuple[int, ...],
    *,
    unsaid: Redirection = DEFAULT_MESH.redirection,
) -> list[int]:
    one = Workload(Meta("w", "foo", annotations=pairs(annotations)))
    captured = captured_of(one, dataplane, mesh=MeshConfig(redirection=unsaid))
    assert (captured.gap(OTHER) is None) == (captured.others is None)
    return [port for port in ports if captured.gap(port) is None]


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, [80, 8080, OTHER]),
        ({INCLUDE_PORTS: "*"}, [80, 8080, OTHER]),
        ({INCLUDE_PORTS: ""}, []),
        ({INCLUDE_PORTS: " 80 , 8080"}, [80, 8080]),
        ({EXCLUDE_PORTS: "80,"}, [8080, OTHER]),
        ({EXCLUDE_PORTS: ""}, [80, 8080, OTHER]),
        ({EXCLUDE_PORTS: "*"}, []),
        ({EXCLUDE_PORTS: "80", INCLUDE_PORTS: "*"}, [8080, OTHER]),
        ({EXCLUDE_PORTS: "80", INCLUDE_PORTS: "80"}, [80]),
        ({EXCLUDE_PORTS: "x," + "9" * 5000}, [80, 8080, OTHER]),
        ({INTERCEPTION_MODE: "NONE"}, []),
        ({INTERCEPTION_MODE: "NONE", INCLUDE_PORTS: "80"}, []),
        ({INTERCEPTION_MODE: "TPROXY"}, [80, 8080, OTHER]),
        ({PROXY_CONFIG: "concurrency: 2\ninterceptionMode: NONE\n"}, []),
        ({PROXY_CONFIG: '{"interceptionMode":"NONE"}'}, []),
        ({PROXY_CONFIG: "interceptionMode: NONE", INTERCEPTION_MODE: "REDIRECT"}, [80, 8080, OTHER]),
        ({PROXY_CONFIG: "interceptionMode: TPROXY"}, [80, 8080, OTHER]),
        ({TEMPLATES: "grpc-agent"}, []),
        ({TEMPLATES: "sidecar, custom"}, [80, 8080, OTHER]),
        ({BYPASS: "true"}, [80, 8080, OTHER]),
        ({STATUS_PORT: "8080"}, [80, OTHER]),
    ],
)
def test_a_sidecar_gets_what_is_redirected_to_it(annotations: dict[str, str], expected: list[int]) -> None:
    assert reaching(annotations, Dataplane.SIDECAR, (80, 8080, OTHER)) == expected


@pytest.mark.parametrize("annotations", [{}, {INCLUDE_PORTS: "80,15020"}, {EXCLUDE_PORTS: "80"}])
def test_the_ports_of_a_sidecars_agent_are_never_redirected(annotations: dict[str, str]) -> None:
    assert reaching(annotations, Dataplane.SIDECAR, (15020, 15021, 15090)) == []
    assert reaching(annotations, Dataplane.AMBIENT, (15020, 15021, 15090)) == [15020, 15021, 15090]


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({BYPASS: "true"}, []),
        ({BYPASS: "True"}, []),
        ({BYPASS: "yes"}, [80, OTHER]),
        ({BYPASS: "false"}, [80, OTHER]),
        ({EXCLUDE_PORTS: "80", INCLUDE_PORTS: "", INTERCEPTION_MODE: "NONE"}, [80, OTHER]),
    ],
)
def test_in_ambient_mode_only_the_bypass_counts(annotations: dict[str, str], expected: list[int]) -> None:
    assert reaching(annotations, Dataplane.AMBIENT, (80, OTHER)) == expected


@pytest.mark.parametrize(
    ("unsaid", "annotations", "expected"),
    [
        (Redirection(intercepts=False), {}, []),
        (Redirection(intercepts=False), {INTERCEPTION_MODE: "REDIRECT"}, [80, 8080, OTHER]),
        (Redirection(intercepts=False), {PROXY_CONFIG: "interceptionMode: TPROXY"}, [80, 8080, OTHER]),
        (Redirection(intercepts=False), {PROXY_CONFIG: "concurrency: 2"}, []),
        (Redirection(excluded="80"), {}, [8080, OTHER]),
        (Redirection(excluded="80"), {EXCLUDE_PORTS: "8080"}, [80, OTHER]),
        (Redirection(excluded="80"), {EXCLUDE_PORTS: ""}, [80, 8080, OTHER]),
        (Redirection(included="80"), {}, [80]),
        (Redirection(included=""), {INCLUDE_PORTS: "*"}, [80, 8080, OTHER]),
    ],
)
def test_where_a_pod_says_nothing_its_mesh_does(
    unsaid: Redirection, annotations: dict[str, str], expected: list[int]
) -> None:
    assert reaching(annotations, Dataplane.SIDECAR, (80, 8080, OTHER), unsaid=unsaid) == expected
    assert reaching(annotations, Dataplane.AMBIENT, (80, 8080, OTHER), unsaid=unsaid) == [80, 8080, OTHER]
