"""A real ztunnel against our control plane: that it starts, enforces, cuts what is forbidden, and renews."""

from __future__ import annotations

import asyncio
from itertools import product
from pathlib import Path

import pytest

from peerauth.dataplane.ambient.authorization import policy_name_of
from peerauth.model.changes import Delete, ref_of
from rigs.ztunnelrig import PORTS, UNDECLARED, ZtunnelMesh, missing, shared_ztunnel_mesh, ztunnel_mesh
from samples.meshes import policy

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(missing()), reason=missing() or "a ztunnel is at hand"),
]

FINANCE = {"app": "finance"}


async def test_it_starts_and_has_every_address_and_the_policies_that_they_name(tmp_path: Path) -> None:
    async with ztunnel_mesh(tmp_path) as mesh:
        await mesh.acknowledged()
        dump = await mesh.dump("finance")
        named = {policy for each in dump["workloads"] for policy in each.get("authorizationPolicies", [])}
        assert named == {policy_name_of(mesh.workload(name)) for name in ("finance", "web")}
        assert {f"{each['namespace']}/{each['name']}" for each in dump["policies"]} == named
        assert "skipping unknown policy" not in mesh.log("finance")


@pytest.mark.parametrize(
    ("mode", "ports", "closed"),
    [
        ("STRICT", {}, {8080, 9000, UNDECLARED}),
        ("PERMISSIVE", {}, set()),
        ("DISABLE", {}, set()),
        ("STRICT", {8080: "DISABLE", 9000: "PERMISSIVE"}, {UNDECLARED}),
        ("PERMISSIVE", {8080: "STRICT"}, {8080}),
        ("DISABLE", {UNDECLARED: "STRICT"}, {UNDECLARED}),
    ],
)
async def test_each_mode_is_enforced_on_every_port_in_both_families(
    tmp_path: Path, mode: str, ports: dict[int, str], closed: set[int]
) -> None:
    said = policy("foo/finance", mode, selector=FINANCE, ports=ports)
    async with ztunnel_mesh(tmp_path, said) as mesh:
        for family, port in product(range(len(mesh.spaces["finance"].addresses)), PORTS):
            where = f"port {port}, family {family}"
            assert await mesh.reaches("outside", port, family=family) is (port not in closed), f"plaintext, {where}"
            assert await mesh.reaches("web", port, family=family), f"HBONE, {where}"


WAYS = {
    "the mesh": [policy("istio-system/all", "STRICT")],
    "the namespace": [policy("foo/all", "STRICT")],
    "a new policy for the workload": [policy("foo/finance", "STRICT", selector=FINANCE)],
    "a new policy for the port": [policy("foo/finance", "UNSET", selector=FINANCE, ports={8080: "STRICT"})],
}


@pytest.mark.parametrize("way", WAYS)
async def test_going_strict_cuts_live_plaintext_and_leaves_tunnels_alone(tmp_path: Path, way: str) -> None:
    async with ztunnel_mesh(tmp_path) as mesh:
        plaintext, tunnel = await mesh.connect("outside", 8080), await mesh.connect("web", 8080)
        assert await plaintext.echoes()
        assert await tunnel.echoes()
        mesh.apply(*WAYS[way])
        assert await plaintext.ended()
        assert await tunnel.echoes()
        assert not await mesh.reaches("outside", 8080)
        assert await mesh.reaches("web", 8080)
        for connection in (plaintext, tunnel):
            await connection.close()


async def test_a_policy_that_is_deleted_cuts_what_the_wider_one_forbids(tmp_path: Path) -> None:
    own = policy("foo/finance", "PERMISSIVE", selector=FINANCE)
    async with ztunnel_mesh(tmp_path, policy("istio-system/all", "STRICT"), own) as mesh:
        plaintext = await mesh.connect("outside", 8080)
        assert await plaintext.echoes()
        mesh.apply(Delete("test", ref_of(own)))
        assert await plaintext.ended()
        await plaintext.close()


async def test_ports_that_a_change_does_not_touch_keep_their_connections(tmp_path: Path) -> None:
    async with ztunnel_mesh(tmp_path) as mesh:
        kept, cut = await mesh.connect("outside", 9000), await mesh.connect("outside", 8080)
        assert await kept.echoes()
        assert await cut.echoes()
        mesh.apply(policy("foo/finance", "PERMISSIVE", selector=FINANCE, ports={8080: "STRICT"}))
        assert await cut.ended()
        assert await kept.echoes()
        mesh.apply(policy("foo/finance", "STRICT", selector=FINANCE, ports={9000: "PERMISSIVE"}))
        await mesh.acknowledged()
        assert await kept.echoes()
        for connection in (kept, cut):
            await connection.close()


async def test_a_change_of_labels_that_makes_a_workload_strict_cuts_too(tmp_path: Path) -> None:
    async with ztunnel_mesh(tmp_path, policy("foo/locked", "STRICT", selector={"locked": "yes"})) as mesh:
        plaintext, tunnel = await mesh.connect("outside", 8080), await mesh.connect("web", 8080)
        assert await plaintext.echoes()
        assert await tunnel.echoes()
        mesh.apply(mesh.workload("finance", app="finance", locked="yes"))
        assert await plaintext.ended()
        assert await tunnel.echoes()
        await mesh.acknowledged()
        assert not await mesh.reaches("outside", 8080)
        for connection in (plaintext, tunnel):
            await connection.close()


async def test_what_changed_while_the_control_plane_was_away_is_enforced_when_it_is_back(tmp_path: Path) -> None:
    async with ztunnel_mesh(tmp_path) as mesh:
        plaintext, tunnel = await mesh.connect("outside", 8080), await mesh.connect("web", 8080)
        assert await plaintext.echoes()
        assert await tunnel.echoes()
        await mesh.unplug()
        mesh.apply(policy("istio-system/all", "STRICT"))
        assert await plaintext.echoes()
        await mesh.plug_in()
        assert await plaintext.ended()
        assert await tunnel.echoes()
        assert not await mesh.reaches("outside", 8080)
        for connection in (plaintext, tunnel):
            await connection.close()


async def test_certificates_are_renewed_and_connections_live_on(tmp_path: Path) -> None:
    # ztunnel renews at half of a certificate's life, and the authority dates certificates two minutes back.
    async with ztunnel_mesh(tmp_path, policy("istio-system/all", "STRICT"), SECRET_TTL="126s") as mesh:  # noqa: S106
        tunnel = await mesh.connect("web", 8080)
        assert await tunnel.echoes()
        first = await serial_numbers(mesh)
        async with asyncio.timeout(30):
            while first & await serial_numbers(mesh):  # noqa: ASYNC110  it tells by being asked only
                await asyncio.sleep(0.2)
        assert await tunnel.echoes()
        assert await mesh.reaches("web", 9000)
        await tunnel.close()


async def serial_numbers(mesh: ZtunnelMesh) -> set[str]:
    """Of every leaf that either ztunnel has."""
    dumps = [await mesh.dump(name) for name in ("finance", "web")]
    return {
        each["certChain"][0]["serialNumber"] for dump in dumps for each in dump["certificates"] if each["certChain"]
    }


async def test_on_demand_an_address_is_looked_up_by_what_the_client_dialled(tmp_path: Path) -> None:
    async with ztunnel_mesh(tmp_path, policy("istio-system/all", "STRICT"), XDS_ON_DEMAND="true") as mesh:
        assert await mesh.reaches("web", 8080)
        assert not await mesh.reaches("outside", 8080)
        known = {each["name"] for each in (await mesh.dump("web"))["workloads"]}
        assert "finance" in known


async def test_a_workload_that_is_gone_is_gone_there_too_and_its_policy_after_it(tmp_path: Path) -> None:
    async with ztunnel_mesh(tmp_path) as mesh:
        mesh.apply(Delete("test", ref_of(mesh.workload("web"))))
        await mesh.acknowledged()
        dump = await mesh.dump("finance")
        assert {each["name"] for each in dump["workloads"]} == {"finance"}
        assert [f"{each['namespace']}/{each['name']}" for each in dump["policies"]] == [
            policy_name_of(mesh.workload("finance"))
        ]


async def test_one_ztunnel_for_a_node_gets_a_certificate_for_each_workload_placed_there(tmp_path: Path) -> None:
    async with shared_ztunnel_mesh(tmp_path) as mesh:
        plaintext, tunnel = await mesh.connect("outside", 8080), await mesh.connect("web", 8080)
        assert await plaintext.echoes()
        assert await tunnel.echoes()
        mesh.apply(policy("foo/finance", "STRICT", selector=FINANCE, ports={9000: "DISABLE"}))
        assert await plaintext.ended()
        assert await tunnel.echoes()
        assert [await mesh.reaches("outside", port) for port in PORTS] == [False, True, False]
        certificates = (await mesh.dump("node"))["certificates"]
        uris = {each["identity"] for each in certificates if each["state"] == "Available"}
        assert uris == {f"spiffe://cluster.local/ns/foo/sa/{name}" for name in ("finance", "web")}
        for connection in (plaintext, tunnel):
            await connection.close()
