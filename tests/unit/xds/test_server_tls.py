"""The TLS socket: who is let in, what its clients see of the server, and resources that many proxies share."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import discovery_pb2

from peerauth.ca.serving import make_serving_certificate
from peerauth.dataplane.type_urls import ADDRESS
from peerauth.errors import PlatformError
from peerauth.identity.x509 import Issuer, certificate_pem
from peerauth.xds import wire
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import (
    Discovery,
    DiscoveryServer,
    ServerCertificate,
    TlsBinding,
    Unauthenticated,
    bearer_token,
)
from peerauth.xds.stream import Context
from peerauth.xds.wire import ProxyKey
from samples.pki import make_issuer

HOST = "istiod.istio-system.svc"
GROUP = ProxyKey("all ztunnels")
METHOD = f"/{Discovery.AGGREGATED.value}/DeltaAggregatedResources"


def now() -> datetime:
    return datetime.now(UTC)


def binding(issuer: Issuer, cache: ResourceCache, address: str = "127.0.0.1:0") -> TlsBinding:
    shown = make_serving_certificate([HOST], issuer=issuer, now=now())

    async def authenticate(context: Context) -> ProxyKey | Unauthenticated:
        token = bearer_token(context)
        if not token.startswith("node-"):
            return Unauthenticated("no token")
        proxy = ProxyKey(f"ztunnel~{token}")
        cache.share(proxy, group=GROUP)
        return proxy

    return TlsBinding(address, lambda: ServerCertificate(shown.chain, shown.key), authenticate)


@pytest.fixture
def issuer() -> Issuer:
    return make_issuer(now=now() - timedelta(minutes=1))


@pytest.fixture
def cache() -> ResourceCache:
    return ResourceCache()


@pytest.fixture
async def server(cache: ResourceCache) -> AsyncIterator[DiscoveryServer]:
    made = DiscoveryServer(cache)
    yield made
    await made.stop()


Call = grpc.aio.StreamStreamCall[discovery_pb2.DeltaDiscoveryRequest, discovery_pb2.DeltaDiscoveryResponse]


def channel(port: int, issuer: Issuer) -> grpc.aio.Channel:
    roots = b"".join(map(certificate_pem, issuer.roots))
    options = [("grpc.ssl_target_name_override", HOST)]
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(roots), options=options)


def call_of(to: grpc.aio.Channel, header: str) -> Call:
    return to.stream_stream(
        METHOD,
        request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
        response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
    )(request_iterator=None, metadata=(("authorization", header),))


async def ask(to: grpc.aio.Channel, header: str) -> discovery_pb2.DeltaDiscoveryResponse:
    call = call_of(to, header)
    with contextlib.suppress(grpc.aio.AioRpcError):  # refused before the message was out: the status says why
        await call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=ADDRESS))
    answer = await call.read()
    if not isinstance(answer, discovery_pb2.DeltaDiscoveryResponse):
        raise AssertionError(await call.code())
    return answer


async def test_a_token_decides_whose_resources_a_stream_gets_and_a_group_shares_them(
    cache: ResourceCache, server: DiscoveryServer, issuer: Issuer
) -> None:
    cache.set(GROUP, ADDRESS, {"pod": b"1"})
    port = await server.serve_tls(binding(issuer, cache))
    async with channel(port, issuer) as client:
        for token in ("Bearer node-1", "bearer node-2"):
            assert [each.name for each in (await ask(client, token)).resources] == ["pod"]
        assert set(server.status()) == {"ztunnel~node-1", "ztunnel~node-2"}


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic node-1", "node-1", "Bearer other"])
async def test_without_a_token_there_is_nothing(
    cache: ResourceCache, server: DiscoveryServer, issuer: Issuer, header: str
) -> None:
    port = await server.serve_tls(binding(issuer, cache))
    async with channel(port, issuer) as client:
        # Without a word from the client: one that is written while the refusal comes in hides the refusal.
        assert await call_of(client, header).code() is grpc.StatusCode.UNAUTHENTICATED
    assert server.status() == {}


async def test_a_client_that_trusts_another_root_does_not_connect(
    cache: ResourceCache, server: DiscoveryServer, issuer: Issuer
) -> None:
    port = await server.serve_tls(binding(issuer, cache))
    async with channel(port, make_issuer(now=now())) as client:
        with pytest.raises((AssertionError, grpc.aio.AioRpcError, grpc.aio.UsageError)):
            await ask(client, "Bearer node-1")


async def test_an_address_that_is_taken_is_said(cache: ResourceCache, server: DiscoveryServer, issuer: Issuer) -> None:
    port = await server.serve_tls(binding(issuer, cache))
    with pytest.raises(PlatformError, match=str(port)):
        await server.serve_tls(binding(issuer, cache, f"127.0.0.1:{port}"))
    await server.stop(port)
    assert await server.serve_tls(binding(issuer, cache, f"127.0.0.1:{port}")) == port


def test_a_member_that_leaves_takes_nothing_from_its_group(cache: ResourceCache) -> None:
    cache.set(GROUP, ADDRESS, {"pod": b"1"})
    for name in ("node-1", "node-2", "node-1"):
        cache.share(ProxyKey(name), group=GROUP)
    news = cache.open(ProxyKey("node-2"), lambda: None)
    cache.remove(ProxyKey("node-1"))
    assert set(cache.versions(ProxyKey("node-2"), ADDRESS)) == {"pod"}
    assert cache.versions(ProxyKey("node-1"), ADDRESS) == {}
    cache.update(GROUP, ADDRESS, {"pod": b"2"})
    assert news.drain() == wire.ResourcesChanged({ADDRESS: {"pod"}})


def test_the_key_of_a_socket_is_not_shown() -> None:
    assert "secret" not in repr(ServerCertificate(b"chain", b"secret"))
