"""Istio's documented semantics, example by example: what a reader of its PeerAuthentication reference must get.

Each case is a set of policies and, for the workload `finance` in namespace `foo`, the mode of the workload and of
single ports. The first group are the reference's own examples; the others are its prose, and Istio's behaviour where
the prose is silent.
"""

from __future__ import annotations

import pytest

from peerauth.model.peerauth import PeerAuthentication
from peerauth.policy.decision import Dataplane, Decision
from peerauth.policy.resolve import resolve
from samples.meshes import ROOT, pairs, policy

FINANCE = {"app": "finance"}
SET_8080 = {8080: "DISABLE"}

NAMESPACE_STRICT = policy("foo/default", "STRICT")
NAMESPACE_PERMISSIVE = policy("foo/default", "PERMISSIVE")
MESH_STRICT = policy(f"{ROOT}/default", "STRICT")
FINANCE_STRICT = policy("foo/finance", "STRICT", selector=FINANCE)
FINANCE_UNSET_8080 = policy("foo/finance", "UNSET", selector=FINANCE, ports=SET_8080)

Case = tuple[list[PeerAuthentication], str, dict[int, str]]

CASES: dict[str, Case] = {
    # The examples of the reference.
    "all workloads of the namespace require mutual TLS": ([NAMESPACE_STRICT], "STRICT", {8080: "STRICT"}),
    "permissive but for finance": ([NAMESPACE_PERMISSIVE, FINANCE_STRICT], "STRICT", {9000: "STRICT"}),
    "strict but for port 8080": (
        [policy("foo/default", "STRICT", selector=FINANCE, ports=SET_8080)],
        "STRICT",
        {8080: "DISABLE", 9000: "STRICT"},
    ),
    "the namespace's mode but for port 8080": (
        [NAMESPACE_STRICT, FINANCE_UNSET_8080],
        "STRICT",
        {8080: "DISABLE", 9000: "STRICT"},
    ),
    # UNSET takes the next wider level's result.
    "unset under nothing is permissive": ([FINANCE_UNSET_8080], "PERMISSIVE", {8080: "DISABLE", 9000: "PERMISSIVE"}),
    "unset under a strict mesh": ([MESH_STRICT, FINANCE_UNSET_8080], "STRICT", {8080: "DISABLE", 9000: "STRICT"}),
    "unset under an unset namespace under a strict mesh": (
        [MESH_STRICT, policy("foo/default"), FINANCE_UNSET_8080],
        "STRICT",
        {8080: "DISABLE", 9000: "STRICT"},
    ),
    "no policy at all is permissive": ([], "PERMISSIVE", {8080: "PERMISSIVE"}),
    "unset everywhere is permissive": (
        [policy(f"{ROOT}/default"), policy("foo/default"), policy("foo/finance", selector=FINANCE)],
        "PERMISSIVE",
        {},
    ),
    "a port that is unset takes the workload's mode": (
        [policy("foo/finance", "STRICT", selector=FINANCE, ports={8080: "UNSET"})],
        "STRICT",
        {8080: "STRICT"},
    ),
    "a port that is unset takes what an unset workload inherits": (
        [NAMESPACE_STRICT, policy("foo/finance", selector=FINANCE, ports={8080: "UNSET"})],
        "STRICT",
        {8080: "STRICT"},
    ),
    # Narrower wins, in both directions.
    "a namespace opts out of a strict mesh": ([MESH_STRICT, NAMESPACE_PERMISSIVE], "PERMISSIVE", {8080: "PERMISSIVE"}),
    "a mesh policy reaches every namespace": ([MESH_STRICT], "STRICT", {8080: "STRICT"}),
    "a workload opts out of a strict namespace": (
        [NAMESPACE_STRICT, policy("foo/finance", "DISABLE", selector=FINANCE)],
        "DISABLE",
        {8080: "DISABLE"},
    ),
    "a strict port of a disabled workload": (
        [policy("foo/finance", "DISABLE", selector=FINANCE, ports={8080: "STRICT"})],
        "DISABLE",
        {8080: "STRICT", 9000: "DISABLE"},
    ),
    # Who speaks at which level.
    "a selector in the root namespace is ignored": (
        [policy(f"{ROOT}/finance", "STRICT", selector=FINANCE)],
        "PERMISSIVE",
        {},
    ),
    "a selector of another namespace does not reach here": (
        [policy("bar/finance", "STRICT", selector=FINANCE)],
        "PERMISSIVE",
        {},
    ),
    "another namespace's policy does not reach here": ([policy("bar/default", "STRICT")], "PERMISSIVE", {}),
    "an empty matchLabels is no selector": ([policy("foo/default", "STRICT", selector={})], "STRICT", {}),
    "a selector needs all of its pairs": (
        [policy("foo/finance", "STRICT", selector={"app": "finance", "tier": "db"})],
        "PERMISSIVE",
        {},
    ),
    "a selector compares values": ([policy("foo/other", "STRICT", selector={"app": "other"})], "PERMISSIVE", {}),
    # Several at one level.
    "the oldest wins": (
        [policy("foo/b", "STRICT", age=1), policy("foo/a", "DISABLE", age=2)],
        "STRICT",
        {},
    ),
    "the oldest of the mesh wins": (
        [policy(f"{ROOT}/b", "STRICT", age=1), policy(f"{ROOT}/a", "DISABLE", age=2)],
        "STRICT",
        {},
    ),
    "no creation time is oldest": ([policy("foo/b", "STRICT"), policy("foo/a", "DISABLE", age=0)], "STRICT", {}),
    "ties go by name": ([policy("foo/b", "STRICT", age=1), policy("foo/a", "DISABLE", age=1)], "DISABLE", {}),
    "the loser's ports do not count": (
        [
            policy("foo/old", "STRICT", selector=FINANCE, age=1),
            policy("foo/new", "PERMISSIVE", selector=FINANCE, ports=SET_8080, age=2),
        ],
        "STRICT",
        {8080: "STRICT"},
    ),
    "port maps are not merged": (
        [
            policy("foo/old", "STRICT", selector=FINANCE, ports={9000: "DISABLE"}, age=1),
            policy("foo/new", "STRICT", selector=FINANCE, ports=SET_8080, age=2),
        ],
        "STRICT",
        {8080: "STRICT", 9000: "DISABLE"},
    ),
    "an unset winner hides a strict loser": (
        [policy("foo/old", "UNSET", age=1), policy("foo/new", "STRICT", age=2)],
        "PERMISSIVE",
        {},
    ),
    "an older wide policy does not beat a younger narrow one": (
        [policy("foo/default", "DISABLE", age=0), policy("foo/finance", "STRICT", selector=FINANCE, age=9)],
        "STRICT",
        {},
    ),
}


def finance(policies: list[PeerAuthentication], dataplane: Dataplane = Dataplane.SIDECAR) -> Decision:
    labels = pairs({**FINANCE, "version": "v1"})
    return resolve(labels, "foo", policies=policies, root_namespace=ROOT, dataplane=dataplane)


@pytest.mark.parametrize(("policies", "mode", "ports"), CASES.values(), ids=CASES.keys())
def test_finance_has_the_documented_mode(policies: list[PeerAuthentication], mode: str, ports: dict[int, str]) -> None:
    decision = finance(policies)
    assert decision.mode == mode
    assert {port: decision.mode_of(port) for port in ports} == ports
    assert {port: decision.in_force(port) for port in ports} == ports


@pytest.mark.parametrize(("policies", "mode", "ports"), CASES.values(), ids=CASES.keys())
def test_ambient_enforces_the_documented_mode_and_disable_as_permissive(
    policies: list[PeerAuthentication], mode: str, ports: dict[int, str]
) -> None:
    decision = finance(policies, Dataplane.AMBIENT)
    assert decision.mode == mode
    assert decision.in_force(None) == mode.replace("DISABLE", "PERMISSIVE")
    for port, said in ports.items():
        assert decision.mode_of(port) == said
        assert decision.in_force(port) == said.replace("DISABLE", "PERMISSIVE")


def test_the_root_namespace_is_what_the_mesh_says_it_is() -> None:
    decision = resolve(frozenset(), "foo", policies=[MESH_STRICT], root_namespace="istio-config")
    assert decision.mode == "PERMISSIVE"
    of_its_own = resolve(frozenset(), ROOT, policies=[MESH_STRICT], root_namespace="istio-config")
    assert of_its_own.mode == "STRICT"


def test_a_workload_of_the_root_namespace_has_the_meshs_mode_and_no_selector_reaches_it() -> None:
    selecting = policy(f"{ROOT}/finance", "DISABLE", selector=FINANCE)
    decision = resolve(pairs(FINANCE), ROOT, policies=[MESH_STRICT, selecting], root_namespace=ROOT)
    assert decision.mode == "STRICT"
