"""A real Envoy that asks for destinations by name: what it asks once, is pushed, loses, and has after a restart.

Held by a test before every new Envoy: on-demand clusters beside a wildcard have been broken before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2

from peerauth.dataplane.type_urls import CLUSTER, ENDPOINT, LISTENER
from peerauth.xds.server import DiscoveryServer, UdsBinding
from rigs.bounded import soon
from rigs.destinations import Source
from rigs.discovered import PROXY, TCP_PROXY, Mesh, cluster, connected, free_port, mesh, serialized, tcp

pytestmark = pytest.mark.envoy

SET_STATE = "type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config"
ADS = {"ads": {}, "resource_api_version": "V3"}
HOLD = "1s"
"""How long a connection to a destination that is not there is held."""


def captured(port: int) -> bytes:
    """A listener whose connections go to the cluster that their own destination names."""
    name = {"text_format_source": {"inline_string": "dst|%DOWNSTREAM_LOCAL_ADDRESS%"}}
    state = {
        "@type": SET_STATE,
        "on_new_connection": [{"object_key": "envoy.tcp_proxy.cluster", "format_string": name}],
    }
    proxy = {
        "@type": TCP_PROXY,
        "stat_prefix": "out",
        "cluster": "none",
        "on_demand": {"odcds_config": ADS, "timeout": HOLD},
    }
    filters = [{"name": "state", "typed_config": state}, {"name": "proxy", "typed_config": proxy}]
    tree = {"name": f"captured-{port}", "address": tcp(port), "filter_chains": [{"filters": filters}]}
    return serialized(listener_pb2.Listener(), tree)


def by_endpoints(name: str) -> bytes:
    tree = {"name": name, "type": "EDS", "eds_cluster_config": {"eds_config": ADS}}
    return serialized(cluster_pb2.Cluster(), tree)


def endpoints(name: str, port: int) -> bytes:
    tree = {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": tcp(port)}}]}]}
    return serialized(endpoint_pb2.ClusterLoadAssignment(), tree)


class Bed:
    """An Envoy with a captured listener, and what there is on demand."""

    def __init__(self, running: Mesh) -> None:
        self.running = running
        self.source = Source()
        self.port = free_port()
        self.name = f"dst|127.0.0.1:{self.port}"
        self.application = running.application
        running.cache.on_demand(PROXY, self.source)

    async def start(self) -> None:
        self.running.cache.set(PROXY, CLUSTER, {"own": cluster("own", self.application)})
        self.running.cache.set(PROXY, LISTENER, {f"captured-{self.port}": captured(self.port)})
        await soon("the listener is taken", self.running.server.wait_acked(PROXY, LISTENER))

    async def becomes(self, cluster: bytes | None, endpoints: bytes | None = None) -> None:
        """Another destination, and Envoy has acknowledged it."""
        self.source.put({(CLUSTER, self.name): cluster, (ENDPOINT, self.name): endpoints})
        self.running.cache.changed(self.source, [self.name])
        await soon("the destination is taken", self.running.server.wait_acked(PROXY, CLUSTER))

    async def heard(self, what: str, holds: Callable[[], bool]) -> None:
        """Returns when something holds, which changes with what Envoy says."""
        said = asyncio.Event()

        def listen(*_: object) -> None:
            said.set()

        self.running.server.follow(listen)
        while not holds():
            said.clear()
            await soon(what, said.wait())

    async def is_closed(self) -> bool:
        """Whether a connection is closed without a byte."""
        async with connected(self.port) as client:
            with contextlib.suppress(ConnectionError):
                client.writer.write(b"to nobody")
                return await soon("a connection to nobody is closed", client.reader.read()) == b""
        return True

    async def clusters(self) -> int:
        """How often Envoy has added or changed a cluster."""
        stats = await self.running.stats()
        return stats["cluster_manager.cluster_added"] + stats["cluster_manager.cluster_modified"]


async def test_a_name_is_asked_for_once_and_answered_as_often_as_it_changes(tmp_path: Path) -> None:
    async with asyncio.timeout(60), mesh(tmp_path, api="DELTA_GRPC") as running:
        bed = Bed(running)
        await bed.start()
        assert await bed.is_closed(), "nothing is there"
        assert bed.source.asked == {bed.name}
        await bed.becomes(cluster(bed.name, bed.application))
        kept = await running.client(bed.port)
        assert await kept.echoes(b"it was pushed")
        await bed.becomes(None)
        assert await bed.is_closed(), "it is gone, and nobody asks again"
        await bed.becomes(cluster(bed.name, bed.application))
        async with connected(bed.port) as client:
            assert await client.echoes(b"and pushed again")
        assert await kept.echoes(b"still")


async def test_a_connection_waits_for_a_destination_that_is_about_to_be_there(tmp_path: Path) -> None:
    """In a real mesh an application may be dialled before it is known; it was answered as missing once before."""
    async with asyncio.timeout(60), mesh(tmp_path, api="DELTA_GRPC") as running:
        bed = Bed(running)
        await bed.start()
        assert await bed.is_closed()
        async with connected(bed.port) as client:
            waiting = client.echoes(b"held")
            bed.source.put({(CLUSTER, bed.name): cluster(bed.name, bed.application)})
            running.cache.changed(bed.source, [bed.name])
            assert await waiting


async def test_what_was_dialled_goes_on_without_a_control_plane_and_nothing_of_it_is_sent_again(tmp_path: Path) -> None:
    async with asyncio.timeout(90), mesh(tmp_path, api="DELTA_GRPC") as running:
        bed = Bed(running)
        await bed.start()
        await bed.becomes(cluster(bed.name, bed.application))
        async with connected(bed.port) as client:
            assert await client.echoes(b"before")
        counted = await bed.clusters()
        await running.server.stop()
        assert not bed.source.asked, "nobody is there"
        async with connected(bed.port) as client:
            assert await client.echoes(b"alone")
        running.server = DiscoveryServer(running.cache)
        await running.server.serve(UdsBinding(running.xds, PROXY))
        assert await soon("Envoy is back", running.server.wait_acked(PROXY, CLUSTER)) == ()
        assert (bed.source.asked, await bed.clusters()) == ({bed.name}, counted)
        await bed.becomes(None)
        assert await bed.is_closed()


async def test_what_is_gone_when_the_control_plane_comes_back_is_taken_away(tmp_path: Path) -> None:
    async with asyncio.timeout(90), mesh(tmp_path, api="DELTA_GRPC") as running:
        bed = Bed(running)
        await bed.start()
        await bed.becomes(cluster(bed.name, bed.application))
        async with connected(bed.port) as client:
            assert await client.echoes(b"before")
        await running.server.stop()
        bed.source.put({(CLUSTER, bed.name): None})
        running.server = DiscoveryServer(running.cache)
        await running.server.serve(UdsBinding(running.xds, PROXY))
        assert await soon("Envoy is back", running.server.wait_acked(PROXY, CLUSTER)) == ()
        assert await bed.is_closed()


async def test_endpoints_are_asked_for_with_their_cluster_and_let_go_with_it(tmp_path: Path) -> None:
    async with asyncio.timeout(60), mesh(tmp_path, api="DELTA_GRPC") as running:
        bed, view = Bed(running), running.cache.view(PROXY)
        await bed.start()
        await bed.becomes(by_endpoints(bed.name), endpoints(bed.name, bed.application))
        async with connected(bed.port) as client:
            assert await client.echoes(b"by endpoints")
        await soon("the endpoints are taken", running.server.wait_acked(PROXY, ENDPOINT))
        assert view.get(ENDPOINT, bed.name) is not None
        await bed.becomes(None, endpoints(bed.name, bed.application))
        await bed.heard("Envoy lets the endpoints go", lambda: view.get(ENDPOINT, bed.name) is None)
        assert bed.source.asked == {bed.name}, "the cluster stays asked for"
