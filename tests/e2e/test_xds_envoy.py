"""A real Envoy on the discovery server: what it takes, what it refuses, and what a restart of the server costs it."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from peerauth.dataplane.type_urls import CLUSTER, LISTENER, SECRET
from peerauth.xds.server import DiscoveryServer, UdsBinding
from rigs.discovered import PROXY, cluster, connected, free_port, grpc_source, listener, mesh
from rigs.envoyrig import Authority

pytestmark = pytest.mark.envoy

VARIANTS = pytest.mark.parametrize("api", ["DELTA_GRPC", "GRPC"])


@VARIANTS
async def test_listeners_and_clusters_are_applied_changed_and_removed(tmp_path: Path, api: str) -> None:
    async with asyncio.timeout(60), mesh(tmp_path, api=api) as running:
        port, cache, server = free_port(), running.cache, running.server
        cache.set(PROXY, CLUSTER, {"app": cluster("app", running.application)})
        cache.set(PROXY, LISTENER, {"main": listener("main", port, cluster="app")})
        assert await server.wait_acked(PROXY, CLUSTER) == ()
        assert await server.wait_acked(PROXY, LISTENER) == ()
        async with connected(port) as client:
            assert await client.echoes(b"hello")

        cache.set(PROXY, CLUSTER, {"other": cluster("other", running.application)})
        cache.set(PROXY, LISTENER, {"main": listener("main", port, cluster="other")})
        assert await server.wait_acked(PROXY, CLUSTER) == ()
        async with connected(port) as client:
            assert await client.echoes(b"again")
        stats = await running.stats()
        assert stats["cluster_manager.cluster_removed"] == 1
        assert stats["listener_manager.listener_modified"] == 1

        cache.replace(PROXY, {})
        assert await server.wait_acked(PROXY, LISTENER) == ()
        assert await server.wait_acked(PROXY, CLUSTER) == ()
        assert (await running.stats())["listener_manager.total_listeners_active"] == 0
        assert server.status()[PROXY].refused == {}


@VARIANTS
async def test_a_refused_listener_keeps_the_old_one_and_holds_no_other_back(tmp_path: Path, api: str) -> None:
    async with asyncio.timeout(60), mesh(tmp_path, api=api) as running:
        port, second, cache, server = free_port(), free_port(), running.cache, running.server
        cache.set(PROXY, CLUSTER, {"app": cluster("app", running.application)})
        cache.set(PROXY, LISTENER, {"main": listener("main", port, cluster="app")})
        assert await server.wait_acked(PROXY, LISTENER) == ()
        kept = await running.client(port)
        assert await kept.echoes(b"before")

        bad = listener("main", port, cluster="app", prefix="")
        cache.set(PROXY, LISTENER, {"main": bad, "second": listener("second", second, cluster="app")})
        (nack,) = await server.wait_acked(PROXY, LISTENER)
        assert "main" in nack.refusal.message
        assert set(nack.versions) == {"main"}
        assert set(server.status()[PROXY].refused[LISTENER]) == {"main"}
        assert await kept.echoes(b"after")
        for each in (port, second):
            async with connected(each) as client:
                assert await client.echoes(b"new")
        rejected = (await running.stats())["listener_manager.lds.update_rejected"]

        cache.update(PROXY, CLUSTER, {"unrelated": cluster("unrelated", running.application)})
        assert await server.wait_acked(PROXY, CLUSTER) == ()
        assert (await running.stats())["listener_manager.lds.update_rejected"] == rejected, "it was sent again"

        cache.update(PROXY, LISTENER, {"main": listener("main", port, cluster="app", prefix="fixed")})
        assert await server.wait_acked(PROXY, LISTENER) == ()
        assert server.status()[PROXY].refused == {}


@VARIANTS
async def test_a_restarted_server_sends_nothing_that_the_proxy_has(tmp_path: Path, api: str) -> None:
    async with asyncio.timeout(90), mesh(tmp_path, api=api) as running:
        port, cache = free_port(), running.cache
        cache.set(PROXY, CLUSTER, {"app": cluster("app", running.application)})
        cache.set(PROXY, LISTENER, {"main": listener("main", port, cluster="app")})
        await running.server.wait_acked(PROXY, LISTENER)
        kept = await running.client(port)
        assert await kept.echoes(b"before")
        counters = await running.listeners()

        await running.server.stop()
        assert await kept.echoes(b"alone")
        assert not running.server.status()[PROXY].connected
        running.server = DiscoveryServer(cache)
        await running.server.serve(UdsBinding(running.xds, PROXY))
        for type_url in (CLUSTER, LISTENER):
            assert await running.server.wait_acked(PROXY, type_url) == ()
        assert await kept.echoes(b"after")
        assert await running.listeners() == counters

        cache.update(PROXY, LISTENER, {"second": listener("second", free_port(), cluster="app")})
        assert await running.server.wait_acked(PROXY, LISTENER) == ()
        changed = await running.listeners()
        assert changed["listener_manager.listener_added"] == counters["listener_manager.listener_added"] + 1
        assert changed["listener_manager.listener_modified"] == counters["listener_manager.listener_modified"]
        assert await kept.echoes(b"still")


@VARIANTS
async def test_a_renewed_secret_is_used_by_new_connections_and_old_ones_live_on(tmp_path: Path, api: str) -> None:
    async with asyncio.timeout(60), mesh(tmp_path, api=api) as running:
        port, cache, server, authority = free_port(), running.cache, running.server, Authority()
        source = {"resource_api_version": "V3", "api_config_source": grpc_source(api)}
        secret = {"name": "default", "sds_config": source}
        cache.set(PROXY, CLUSTER, {"app": cluster("app", running.application)})
        cache.set(PROXY, LISTENER, {"main": listener("main", port, cluster="app", secret=secret)})
        cache.set(PROXY, SECRET, authority.secrets("spiffe://cluster.local/ns/foo/sa/finance"))
        assert await server.wait_acked(PROXY, SECRET, names=["default"]) == ()
        context = ssl.create_default_context(cadata=authority.root_pem.decode())
        context.check_hostname = False
        kept = await running.client(port, context)
        assert await kept.echoes(b"first")

        cache.set(PROXY, SECRET, authority.secrets("spiffe://cluster.local/ns/foo/sa/renewed"))
        assert await server.wait_acked(PROXY, SECRET, names=["default"]) == ()
        renewed = await running.client(port, context)
        assert await renewed.echoes(b"second")
        assert renewed.presented() != kept.presented()
        assert await kept.echoes(b"still")
