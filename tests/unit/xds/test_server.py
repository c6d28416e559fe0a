"""The discovery server over real sockets: identity, isolation, what it knows of proxies, how it starts and stops."""

from __future__ import annotations

import asyncio
import shutil
import socket
import stat
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from unittest import mock

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import discovery_pb2

from peerauth.dataplane.type_urls import CLUSTER, LISTENER, SECRET, TypeUrl
from peerauth.errors import PlatformError
from peerauth.xds import on_demand
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import Discovery, DiscoveryServer, UdsBinding
from peerauth.xds.status import Nack
from peerauth.xds.wire import ProxyKey
from rigs.bounded import soon
from rigs.destinations import Source

FINANCE, WEB = ProxyKey("finance"), ProxyKey("web")
DELTA_ADS = f"/{Discovery.AGGREGATED.value}/DeltaAggregatedResources"
DELTA_SDS = f"/{Discovery.SECRETS.value}/DeltaSecrets"


class Client:
    """A delta client of one socket."""

    def __init__(self, path: Path, method: str = DELTA_ADS) -> None:
        self.channel = grpc.aio.insecure_channel(f"unix:{path}")
        self.call = self.channel.stream_stream(
            method,
            request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
        )(request_iterator=None)

    async def ask(self, type_url: TypeUrl, *names: str, node: str = "") -> None:
        message = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, resource_names_subscribe=names)
        message.node.id = node
        await soon("the server takes a request", self.call.write(message))

    async def answer(self) -> discovery_pb2.DeltaDiscoveryResponse:
        message = await soon("the server answers", self.call.read())
        assert isinstance(message, discovery_pb2.DeltaDiscoveryResponse)
        return message

    async def reply(self, answer: discovery_pb2.DeltaDiscoveryResponse, *, error: str = "") -> None:
        message = discovery_pb2.DeltaDiscoveryRequest(type_url=answer.type_url, response_nonce=answer.nonce)
        if error:
            message.error_detail.message = error
        await soon("the server takes a request", self.call.write(message))

    async def code(self) -> grpc.StatusCode:
        """How the stream ended."""
        return await soon("the server ends the stream", self.call.code())

    async def take(self) -> dict[str, bytes]:
        """Reads an answer and acknowledges it."""
        answer = await self.answer()
        await self.reply(answer)
        return {each.name: each.resource.value for each in answer.resources}


async def acknowledged(
    server: DiscoveryServer, proxy: ProxyKey, type_url: TypeUrl, *, names: Collection[str] | None = None
) -> tuple[Nack, ...]:
    """What the proxy refused of what it has to have, once it has answered for all of it."""
    return await soon(f"{proxy} answers for {type_url}", server.wait_acked(proxy, type_url, names=names))


async def gone(server: DiscoveryServer, proxy: ProxyKey) -> None:
    await soon(f"the stream of {proxy} is over", server.wait_connected(proxy, connected=False))


@pytest.fixture
def cache() -> ResourceCache:
    return ResourceCache()


@pytest.fixture
async def server(cache: ResourceCache) -> AsyncIterator[DiscoveryServer]:
    server = DiscoveryServer(cache, clock=lambda: 1000.0)
    yield server
    await server.stop()


async def test_a_proxy_is_served_and_what_it_acknowledged_is_known(
    cache: ResourceCache, server: DiscoveryServer, tmp_path: Path
) -> None:
    cache.set(FINANCE, LISTENER, {"a": b"1"})
    await server.serve(UdsBinding(tmp_path / "run" / "xds", FINANCE))
    client = Client(tmp_path / "run" / "xds")
    await client.ask(LISTENER, node=FINANCE)
    assert await client.take() == {"a": b"1"}
    assert await acknowledged(server, FINANCE, LISTENER) == ()
    cache.set(FINANCE, LISTENER, {"a": b"2"})
    waiting = asyncio.ensure_future(acknowledged(server, FINANCE, LISTENER, names=["a"]))  # noqa: TID251
    answer = await client.answer()
    assert not waiting.done()
    await client.reply(answer)
    assert await waiting == ()
    status = server.status()[FINANCE]
    assert status.connected
    assert status.acked == {LISTENER: cache.versions(FINANCE, LISTENER)}
    await client.channel.close(None)
    await gone(server, FINANCE)


async def test_a_refusal_is_kept_with_its_message_and_time(
    cache: ResourceCache, server: DiscoveryServer, tmp_path: Path
) -> None:
    cache.set(FINANCE, LISTENER, {"a": b"bad"})
    await server.serve(UdsBinding(tmp_path / "run" / "xds", FINANCE))
    client = Client(tmp_path / "run" / "xds")
    await client.ask(LISTENER)
    await client.reply(await client.answer(), error="unknown filter")
    (nack,) = await acknowledged(server, FINANCE, LISTENER)
    assert (nack.refusal.message, nack.at, set(nack.versions)) == ("unknown filter", 1000.0, {"a"})
    assert server.status()[FINANCE].refused[LISTENER]["a"] == nack
    cache.set(FINANCE, LISTENER, {"a": b"good"})
    assert await client.take() == {"a": b"good"}
    assert await acknowledged(server, FINANCE, LISTENER) == ()
    assert server.status()[FINANCE].refused == {}
    await client.channel.close(None)


async def test_what_was_refused_is_offered_again_until_it_is_taken(cache: ResourceCache, tmp_path: Path) -> None:
    server = DiscoveryServer(cache, patience=0.01)
    cache.set(FINANCE, LISTENER, {"a": b"1"})
    await server.serve(UdsBinding(tmp_path / "run" / "xds", FINANCE))
    client = Client(tmp_path / "run" / "xds")
    await client.ask(LISTENER)
    for _ in range(3):
        await client.reply(await client.answer(), error="address in use")
    assert await client.take() == {"a": b"1"}
    news = server.refusals_news()
    while server.status()[FINANCE].refused:
        await soon("there is news of refusals", news.wait())
        news = server.refusals_news()
    assert await acknowledged(server, FINANCE, LISTENER) == ()
    await client.channel.close(None)
    await server.stop()


async def test_what_a_proxy_asked_for_on_demand_is_acknowledged_like_the_rest_and_what_is_forgotten_is_told(
    cache: ResourceCache, server: DiscoveryServer, tmp_path: Path
) -> None:
    source = Source()
    source.put({(CLUSTER, "dst|a"): b"1"})
    cache.on_demand(FINANCE, source)
    await server.serve(UdsBinding(tmp_path / "run" / "xds", FINANCE))
    client = Client(tmp_path / "run" / "xds")
    with mock.patch.object(on_demand, "MOST_ASKED", 1):
        await client.ask(CLUSTER, "*", "dst|a")
        assert await client.take() == {"dst|a": b"1"}
        assert await acknowledged(server, FINANCE, CLUSTER) == ()
        assert server.status()[FINANCE].forgotten == 0
        news = server.refusals_news()
        await client.ask(CLUSTER, "dst|b")
        answer = await client.answer()
        assert answer.removed_resources == ["dst|b"]
        await client.reply(answer)
    assert news.is_set()
    assert server.status()[FINANCE].forgotten == 1
    news = server.refusals_news()
    await client.channel.close(None)
    await gone(server, FINANCE)
    await soon("it is told that it is over", news.wait())
    assert (server.status()[FINANCE].forgotten, source.asked) == (0, set())


async def test_a_removal_is_waited_for(cache: ResourceCache, server: DiscoveryServer, tmp_path: Path) -> None:
    cache.set(FINANCE, LISTENER, {"a": b"1"})
    await server.serve(UdsBinding(tmp_path / "run" / "xds", FINANCE))
    client = Client(tmp_path / "run" / "xds")
    await client.ask(LISTENER)
    await client.take()
    await acknowledged(server, FINANCE, LISTENER)
    cache.set(FINANCE, LISTENER, {})
    answer = await client.answer()
    assert server.status()[FINANCE].acked[LISTENER]
    await client.reply(answer)
    await acknowledged(server, FINANCE, LISTENER)
    assert server.status()[FINANCE].acked == {LISTENER: {}}
    await client.channel.close(None)


async def test_a_forgotten_proxy_leaves_nothing_behind_once_it_is_gone(
    cache: ResourceCache, server: DiscoveryServer, tmp_path: Path
) -> None:
    cache.set(FINANCE, LISTENER, {"a": b"1"})
    await server.serve(UdsBinding(tmp_path / "run" / "xds", FINANCE))
    client = Client(tmp_path / "run" / "xds")
    await client.ask(LISTENER)
    await client.take()
    server.forget(FINANCE)
    assert list((await client.answer()).removed_resources) == ["a"]
    assert server.connected(FINANCE)
    await client.channel.close(None)
    await gone(server, FINANCE)
    server.forget(FINANCE)
    assert FINANCE not in server.status()


async def test_each_socket_gives_its_own_proxy_its_own_resources(
    cache: ResourceCache, server: DiscoveryServer, tmp_path: Path
) -> None:
    cache.set(FINANCE, SECRET, {"default": b"finance"})
    cache.set(WEB, SECRET, {"default": b"web"})
    for proxy in (FINANCE, WEB):
        await server.serve(UdsBinding(tmp_path / "run" / proxy, proxy))
    finance, web = Client(tmp_path / "run" / FINANCE, DELTA_SDS), Client(tmp_path / "run" / WEB)
    for client in (finance, web):
        await client.ask(SECRET, "default")
    assert await finance.take() == {"default": b"finance"}
    assert await web.take() == {"default": b"web"}
    for client in (finance, web):
        await client.channel.close(None)


async def test_a_node_that_claims_another_proxy_is_denied(server: DiscoveryServer, tmp_path: Path) -> None:
    await server.serve(UdsBinding(tmp_path / "run" / "xds", FINANCE))
    client = Client(tmp_path / "run" / "xds")
    await client.ask(LISTENER, node=WEB)
    assert await client.code() is grpc.StatusCode.PERMISSION_DENIED
    await client.channel.close(None)


async def test_only_the_services_of_the_binding_are_there(server: DiscoveryServer, tmp_path: Path) -> None:
    await server.serve(UdsBinding(tmp_path / "run" / "sds", FINANCE, services=(Discovery.SECRETS,)))
    client = Client(tmp_path / "run" / "sds")
    assert await client.code() is grpc.StatusCode.UNIMPLEMENTED
    await client.channel.close(None)


async def test_the_socket_is_private_and_gone_after_the_end(server: DiscoveryServer, tmp_path: Path) -> None:
    path = tmp_path / "run" / "xds"
    await server.serve(UdsBinding(path, FINANCE))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await server.stop(path)
    assert not path.exists()


async def test_a_stale_socket_is_replaced_and_anything_else_is_left_alone(
    server: DiscoveryServer, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "stale"))
    await server.serve(UdsBinding(folder / "stale", FINANCE))
    with pytest.raises(PlatformError, match="another process listens"):
        await server.serve(UdsBinding(folder / "stale", FINANCE))
    (folder / "file").write_text("precious")
    with pytest.raises(PlatformError, match="not a socket"):
        await server.serve(UdsBinding(folder / "file", FINANCE))
    assert (folder / "file").read_text() == "precious"


async def test_a_folder_that_others_can_enter_is_refused(server: DiscoveryServer, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(PlatformError, match="open to other users"):
        await server.serve(UdsBinding(tmp_path / "open" / "xds", FINANCE))


async def test_a_path_too_long_for_a_socket_is_said_so(server: DiscoveryServer, tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="too long"):
        await server.serve(UdsBinding(tmp_path / ("x" * 120) / "xds", FINANCE))


async def test_a_restarted_server_takes_the_path_over(cache: ResourceCache, tmp_path: Path) -> None:
    cache.set(FINANCE, CLUSTER, {"c": b"1"})
    path = tmp_path / "run" / "xds"
    client = Client(path)
    for _ in range(2):
        server = DiscoveryServer(cache)
        await server.serve(UdsBinding(path, FINANCE))
        client = Client(path)
        await client.ask(CLUSTER)
        assert await client.take() == {"c": b"1"}
        await server.stop(grace=0.1)
        assert await client.code() is grpc.StatusCode.UNAVAILABLE
        await client.channel.close(None)


async def test_a_hundred_sockets_run_in_one_loop_and_only_the_touched_proxy_hears_of_a_change(
    cache: ResourceCache, server: DiscoveryServer, tmp_path: Path
) -> None:
    proxies = [ProxyKey(f"p{number}") for number in range(100)]
    clients = []
    for proxy in proxies:
        cache.set(proxy, LISTENER, {"shared": b"1"})
        await server.serve(UdsBinding(tmp_path / "run" / proxy, proxy))
        clients.append(Client(tmp_path / "run" / proxy))
        await clients[-1].ask(LISTENER)
    assert all([await client.take() == {"shared": b"1"} for client in clients])
    for proxy in proxies:
        await acknowledged(server, proxy, LISTENER)
    cache.set(proxies[7], LISTENER, {"shared": b"2"})
    assert await clients[7].take() == {"shared": b"2"}
    for proxy in proxies:
        await acknowledged(server, proxy, LISTENER)
    assert len({view for proxy in proxies if (view := cache.view(proxy).get(LISTENER, "shared"))}) == 2
    for client in clients:
        await client.channel.close(None)


async def test_a_socket_that_someone_removed_is_opened_again_and_the_streams_of_before_go_on(
    cache: ResourceCache, server: DiscoveryServer, tmp_path: Path
) -> None:
    path = tmp_path / "run" / "xds"
    await server.serve(UdsBinding(path, FINANCE))
    cache.set(FINANCE, CLUSTER, {"a": b"1"})
    before = Client(path)
    await before.ask(CLUSTER, "*", node=FINANCE)
    assert await before.take() == {"a": b"1"}
    await server.restore()
    shutil.rmtree(path.parent)
    await server.restore()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    after = Client(path)
    await after.ask(CLUSTER, "*", node=FINANCE)
    assert await after.take() == {"a": b"1"}
    cache.set(FINANCE, CLUSTER, {"a": b"2"})
    assert await before.take() == {"a": b"2"}
    assert await after.take() == {"a": b"2"}
    for client in (before, after):
        await client.channel.close(None)
    await server.stop(path)
    assert not path.exists()
