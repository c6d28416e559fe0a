"""An Envoy on the discovery server of the product, with an echo application behind it and whatever a test serves it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from peerauth.agent.envoy import EnvoyLaunch, command, find_envoy
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import DiscoveryServer, UdsBinding
from peerauth.xds.wire import ProxyKey

PROXY = ProxyKey("sidecar~finance.foo")
TCP_PROXY = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
HTTP2 = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

Tree = Mapping[str, object]


def serialized(message: Message, tree: Tree) -> bytes:
    return json_format.ParseDict(dict(tree), message).SerializeToString(deterministic=True)


def tcp(port: int) -> Tree:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name: str, port: int) -> bytes:
    endpoint = {"endpoint": {"address": tcp(port)}}
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    return serialized(cluster_pb2.Cluster(), {"name": name, "load_assignment": assignment})


def listener(name: str, port: int, *, cluster: str, prefix: str = "p", secret: Tree | None = None) -> bytes:
    """A TCP proxy; an empty `prefix` makes it one that Envoy refuses."""
    proxy = {"@type": TCP_PROXY, "stat_prefix": prefix, "cluster": cluster}
    chain: dict[str, object] = {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}
    if secret is not None:
        context = {"common_tls_context": {"tls_certificate_sds_secret_configs": [secret]}}
        chain["transport_socket"] = {"name": "tls", "typed_config": {"@type": TLS, **context}}
    return serialized(listener_pb2.Listener(), {"name": name, "address": tcp(port), "filter_chains": [chain]})


def grpc_source(api: str) -> Tree:
    services = [{"envoy_grpc": {"cluster_name": "xds"}}]
    return {
        "api_type": api,
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": services,
    }


def bootstrap(api: str, *, folder: Path, xds: Path) -> str:
    ads = {"ads": {}, "resource_api_version": "V3"}
    upstream = {
        "name": "xds",
        "load_assignment": {
            "cluster_name": "xds",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(xds)}}}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": HTTP2,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }
    tree = {
        "node": {"id": PROXY, "cluster": "finance"},
        "admin": {"address": {"pipe": {"path": str(folder / "admin")}}},
        "dynamic_resources": {"ads_config": grpc_source(api), "cds_config": ads, "lds_config": ads},
        "static_resources": {"clusters": [upstream]},
    }
    return json.dumps(json_format.MessageToDict(json_format.ParseDict(tree, bootstrap_pb2.Bootstrap())))


class Mesh:
    """One Envoy, the server it listens to, and an echo application behind it."""

    def __init__(self, folder: Path, cache: ResourceCache, application: int) -> None:
        self.folder, self.cache, self.application = folder, cache, application
        self.xds = folder / "run" / "xds"
        self.server = DiscoveryServer(cache)
        self.clients = contextlib.AsyncExitStack()

    async def client(self, port: int, tls: ssl.SSLContext | None = None) -> Connection:
        """One that lives until the end of the test."""
        return await self.clients.enter_async_context(connected(port, tls))

    async def stats(self) -> dict[str, int]:
        body = await asyncio.to_thread(get, self.folder / "admin", "/stats?format=json")
        return {each["name"]: each["value"] for each in json.loads(body)["stats"] if "name" in each}

    async def listeners(self) -> dict[str, int]:
        """The counters that move when a listener or cluster is sent again, or changed."""
        stats = await self.stats()
        return {
            name: stats.get(name, 0)
            for name in (
                "listener_manager.listener_added",
                "listener_manager.listener_modified",
                "listener_manager.lds.update_success",
                "cluster_manager.cluster_modified",
                "cluster_manager.cds.update_success",
            )
        }


def get(admin: Path, path: str) -> bytes:
    """An answer of Envoy's admin interface, which is a Unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(admin))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n".encode())
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            return response.read()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


class Connection:
    """A client of the echo application, through Envoy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def echoes(self, text: bytes) -> bool:
        self.writer.write(text)
        return await asyncio.wait_for(self.reader.readexactly(len(text)), 10) == text

    def presented(self) -> object:
        """The serial number of the certificate that Envoy showed."""
        return self.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]


@contextlib.asynccontextmanager
async def connected(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Connection]:
    """Envoy acknowledges a listener a moment before its workers accept, and tells nobody when they do."""
    async with asyncio.timeout(10):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
                break
            except (ConnectionRefusedError, ConnectionResetError):
                await asyncio.sleep(0.02)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def mesh(folder: Path, *, api: str) -> AsyncIterator[Mesh]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1000):
                writer.write(data)
        writer.close()

    application = await asyncio.start_server(echo, "127.0.0.1", 0)
    running = Mesh(folder, ResourceCache(), application.sockets[0].getsockname()[1])
    await running.server.serve(UdsBinding(running.xds, PROXY))
    config = folder / "bootstrap.json"
    config.write_text(bootstrap(api, folder=folder, xds=running.xds))
    launch = EnvoyLaunch(name="test", binary=find_envoy(), bootstrap=config, admin=folder / "admin", log=folder / "log")
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command(launch), stdout=log, stderr=log)
    try:
        await asyncio.wait_for(running.server.wait_connected(PROXY), 20)
        yield running
    finally:
        await running.clients.aclose()
        process.kill()
        await process.wait()
        await running.server.stop()
        application.close()
