"""What ambient connections do not notice: the control plane goes and comes back, certificates are renewed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from peerauth.model.placement import Capture
from peerauth.model.world import MeshObject
from peerauth.xds.server import Discovery, UdsBinding
from rigs.clients import serial_of
from rigs.envoycounts import STANDS_STILL, envoy_stats, failed_handshakes
from rigs.mesh_on_this_machine import (
    CLIENT,
    FINANCE,
    NO_ROOT,
    WEB,
    Machine,
    hammering,
    machine,
    objects,
    policy,
)

pytestmark = [pytest.mark.envoy, pytest.mark.root, pytest.mark.skipif(bool(NO_ROOT), reason=NO_ROOT or "supported")]

WORKLOADS = Path(__file__).parents[2] / "examples" / "ambient" / "mesh.yaml"


def documents(*policies: str) -> tuple[MeshObject, ...]:
    return objects(WORKLOADS, *policies)


async def stats(running: Machine) -> dict[str, int]:
    return await envoy_stats(running.mesh.node().supervisor.launch.admin)


async def moved(running: Machine) -> dict[str, int]:
    found = await stats(running)
    return {name: found[name] for name in STANDS_STILL}


def again(running: Machine) -> UdsBinding:
    """The socket that the node's proxy reaches the control plane by."""
    node = running.mesh.node()
    return UdsBinding(node.discovery, node.proxy, (Discovery.AGGREGATED,))


async def test_a_control_plane_that_goes_and_comes_back_is_noticed_by_no_one(tmp_path: Path) -> None:
    async with machine(tmp_path, capture=Capture.TRANSPARENT) as running:
        await running.load(documents(policy("foo", "STRICT", app="finance")))
        ledger = await running.serve(FINANCE, 8080)
        await running.serve(WEB, 8080)
        tunnel, plain = await running.dial(FINANCE, 8080, by=CLIENT), await running.dial(WEB, 8080)
        outside = running.network.outside()
        async with hammering((running.at(FINANCE), 8080), sockets=outside) as hammers:
            await hammers[0].more(5, "refused")
            before = await moved(running)
            await running.mesh.discovery.stop(running.mesh.node().discovery)
            await running.mesh.discovery.wait_connected(running.mesh.node().proxy, connected=False)
            assert await running.reaches(FINANCE, 8080, by=CLIENT)
            assert await running.reaches(WEB, 8080)
            await hammers[0].more(5, "refused")
            await running.mesh.discovery.serve(again(running))
            await running.mesh.ready()
            await hammers[0].more(5, "refused")
            assert await moved(running) == before
        assert ledger.forbidden == 0
        assert await tunnel.echoes()
        assert await plain.echoes()


async def test_what_was_decided_while_the_control_plane_was_away_is_in_force_when_it_is_back(tmp_path: Path) -> None:
    async with machine(tmp_path, capture=Capture.TRANSPARENT) as running:
        await running.load(documents(policy("foo", "PERMISSIVE")))
        await running.serve(FINANCE, 8080)
        tunnel, plain = await running.dial(FINANCE, 8080, by=CLIENT), await running.dial(FINANCE, 8080)
        await running.mesh.discovery.stop(running.mesh.node().discovery)
        await running.mesh.discovery.wait_connected(running.mesh.node().proxy, connected=False)
        await running.take(documents(policy("foo", "STRICT")))
        assert await plain.echoes(), "the last good configuration stays in force"
        await running.mesh.discovery.serve(again(running))
        await running.mesh.ready()
        assert await plain.ended()
        assert not await running.reaches(FINANCE, 8080)
        assert await tunnel.echoes()


async def test_the_node_s_certificates_are_renewed_without_a_failed_handshake_or_a_dropped_tunnel(
    tmp_path: Path,
) -> None:
    async with machine(tmp_path, capture=Capture.TRANSPARENT, lifetime=timedelta(seconds=6)) as running:
        await running.load(documents(policy("foo", "STRICT")))
        await running.serve(FINANCE, 8080)
        tunnel = await running.dial(FINANCE, 8080, by=CLIENT)
        serials: set[int] = set()
        while len(serials) < 3:
            shown = await running.dial(FINANCE, 15008, tls=running.mutual(alpn=["h2"]))
            serials.add(serial_of(shown))
            await shown.close()
            assert await running.reaches(FINANCE, 8080, by=CLIENT)
            assert await running.reaches(FINANCE, 8080, by=WEB)
        assert await tunnel.echoes()
        assert set(failed_handshakes(await stats(running)).values()) == {0}
