"""The I/O half of discovery: sockets, gRPC streams, one `Session` for each, and what the proxies were seen to say.

gRPC carries bytes in and bytes out; protobuf never sees an answer. Who a stream belongs to is decided before its first
message, by the `Authenticator` of the socket it came in on: with `UdsBinding`, by the socket itself, which only its
proxy can open. One event loop runs any number of bindings. Nothing here decides what is sent or when.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Protocol

import grpc
import grpc.aio
import msgspec

from peerauth.dataplane.type_urls import SECRET, TypeUrl
from peerauth.errors import PlatformError
from peerauth.xds.cache import ResourceCache
from peerauth.xds.dialect import dialect_of
from peerauth.xds.session import Session
from peerauth.xds.status import Answer, Nack, ProxyRecord, ProxyStatus
from peerauth.xds.stream import Context, drive
from peerauth.xds.uds import claim
from peerauth.xds.wire import Command, ProxyKey, RecordAck, RecordHeld, RecordNack, Variant

PATIENCE_S = 5.0

# A resuming client lists all it holds in one message: 100,000 names with versions are about 12 MB.
MAX_REQUEST_BYTES = 64 << 20

_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
    # Above the default of 1000, gRPC leaves the streams of a reconnect storm hanging for ever.
    ("grpc.server.max_pending_requests", 1 << 20),
    ("grpc.server.max_pending_requests_hard_limit", 1 << 20),
    # Envoy and ztunnel ping idle streams; the default would end their connection for it.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.so_reuseport", 0),
]


class Discovery(Enum):
    """What a socket serves; the value is the gRPC service's name."""

    AGGREGATED = "envoy.service.discovery.v3.AggregatedDiscoveryService"
    SECRETS = "envoy.service.secret.v3.SecretDiscoveryService"


_METHODS: dict[Discovery, dict[str, Variant]] = {
    Discovery.AGGREGATED: {"StreamAggregatedResources": Variant.STATE, "DeltaAggregatedResources": Variant.DELTA},
    Discovery.SECRETS: {"StreamSecrets": Variant.STATE, "DeltaSecrets": Variant.DELTA},
}


class Unauthenticated(msgspec.Struct, frozen=True):
    """An authenticator's no; `reason` is told to the client."""

    reason: str


Authenticator = Callable[[Context], Awaitable[ProxyKey | Unauthenticated]]


Heard = Callable[[ProxyKey, TypeUrl | None, Collection[str]], object]
"""Gets what a proxy has said something about: names of a type, or with None that a stream of it opened or closed."""


class UdsBinding(msgspec.Struct, frozen=True):
    """One proxy's own socket. Its folder is made with mode 0700, or must already be private to this user."""

    path: Path
    proxy: ProxyKey
    services: tuple[Discovery, ...] = (Discovery.AGGREGATED, Discovery.SECRETS)


class ServerCertificate(msgspec.Struct, frozen=True):
    """What a TLS socket shows its clients: PEM, the chain with the leaf first."""

    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return "ServerCertificate(...)"


class TlsBinding(msgspec.Struct, frozen=True):
    """A TCP socket for proxies of other machines, which `authenticate` tells apart by what they send.

    `address` is `HOST:PORT`, `[v6]:PORT`; port 0 takes a free one. `certificate` is asked at every handshake, so that
    a renewed one is in use at once. `others` are further gRPC services on the same socket.
    """

    address: str
    certificate: Callable[[], ServerCertificate]
    authenticate: Authenticator
    services: tuple[Discovery, ...] = (Discovery.AGGREGATED,)
    others: tuple[grpc.GenericRpcHandler[bytes, bytes], ...] = ()


class DiscoveryServer:
    """Serves a cache to proxies and knows what they acknowledged.

    `clock` gives the time of refusals, in seconds. What a proxy refused is offered again every `patience` seconds.
    """

    def __init__(
        self, cache: ResourceCache, *, clock: Callable[[], float] = time.time, patience: float = PATIENCE_S
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._patience = patience
        self._records: defaultdict[ProxyKey, ProxyRecord] = defaultdict(ProxyRecord)
        self._news: defaultdict[ProxyKey, asyncio.Event] = defaultdict(asyncio.Event)
        self._refusals_news = asyncio.Event()
        self._followers: list[Heard] = []
        self._stream_numbers = itertools.count(1)
        self._bindings: dict[Path, UdsBinding] = {}
        self._servers: dict[Path, list[grpc.aio.Server]] = {}
        self._tls_servers: dict[int, grpc.aio.Server] = {}

    async def serve(self, binding: UdsBinding) -> None:
        """Opens the binding's socket; raises PlatformError if that cannot be done safely. Ends with `stop`."""
        self._servers[binding.path] = [await self._listen(binding)]
        self._bindings[binding.path] = binding

    async def restore(self) -> None:
        """Opens sockets again that someone has removed. The streams of before go on, on the socket without a name.

        Raises PlatformError for the first one that cannot be opened.
        """
        for path, binding in tuple(self._bindings.items()):
            if not path.is_socket():
                server = await self._listen(binding)
                self._servers[path].append(server)

    async def _listen(self, binding: UdsBinding) -> grpc.aio.Server:
        claim(binding.path)

        async def authenticate(_: Context) -> ProxyKey | Unauthenticated:
            return binding.proxy

        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers(tuple(self._handler(each, authenticate) for each in binding.services))
        try:
            server.add_insecure_port(f"unix:{binding.path}")
            binding.path.chmod(0o600)
        except (RuntimeError, OSError) as error:
            raise PlatformError(f"cannot listen on {binding.path}: {error}") from error
        await server.start()
        return server

    async def serve_tls(self, binding: TlsBinding) -> int:
        """Opens a TCP socket; returns its port. Raises PlatformError if the address cannot be had. Ends with `stop`."""
        server = grpc.aio.server(options=_OPTIONS)
        own = (self._handler(each, binding.authenticate) for each in binding.services)
        server.add_generic_rpc_handlers((*own, *binding.others))
        try:
            port = server.add_secure_port(binding.address, _credentials(binding.certificate))
        except RuntimeError as error:
            raise PlatformError(f"cannot listen on {binding.address}: {error}") from error
        await server.start()
        self._tls_servers[port] = server
        return port

    async def stop(self, where: Path | int | None = None, *, grace: float | None = None) -> None:
        """Closes one socket (by path or port) or all. Streams have `grace` seconds to end; without it they are cut."""
        paths = [each for each in self._servers if where in (None, each)]
        ports = [each for each in self._tls_servers if where in (None, each)]
        servers = [self._tls_servers.pop(each) for each in ports]
        for each in paths:
            del self._bindings[each]
            servers += self._servers.pop(each)
        await asyncio.gather(*(server.stop(grace) for server in servers))
        for each in paths:
            each.unlink(missing_ok=True)

    def status(self) -> Mapping[ProxyKey, ProxyStatus]:
        """Every proxy that has ever connected to this server."""
        return {proxy: record.status() for proxy, record in self._records.items()}

    def forget(self, proxy: ProxyKey) -> None:
        """Takes all from a proxy that is gone for good, and forgets what it said unless it is still connected."""
        self._cache.remove(proxy)
        if not self.connected(proxy):
            self._records.pop(proxy, None)
            self._tell(proxy)
            self._tell_refusals()

    def follow(self, follower: Heard) -> None:
        """Calls `follower` from now on whenever a proxy has said something; it must not raise."""
        self._followers.append(follower)

    def answer(self, proxy: ProxyKey, type_url: TypeUrl, name: str) -> Answer:
        """What a proxy says of one resource now."""
        record = self._records.get(proxy)
        return Answer(None) if record is None else record.answer(type_url, name)

    def refusals_news(self) -> asyncio.Event:
        """Is set once when a proxy refuses something, or again, or no longer; or asks for more names than are kept."""
        return self._refusals_news

    def connected(self, proxy: ProxyKey) -> bool:
        """Whether the proxy has a stream open now."""
        record = self._records.get(proxy)
        return record is not None and bool(record.streams)

    async def wait_acked(
        self, proxy: ProxyKey, type_url: TypeUrl, *, names: Collection[str] | None = None
    ) -> tuple[Nack, ...]:
        """Waits until the proxy has, or has refused, what the cache has for it; returns the refusals.

        Without `names`, all of the type, removals included: meant for types that proxies ask for as a whole. There is
        no limit in time: a proxy may be away. An acknowledged listener may still be waiting for its secrets.
        """
        while True:
            news, record = self._news[proxy], self._records[proxy]
            nacks = record.outcome(type_url, self._cache.versions(proxy, type_url), names=names)
            if nacks is not None:
                return nacks
            await news.wait()

    async def wait_connected(self, proxy: ProxyKey, *, connected: bool = True) -> None:
        """Waits until the proxy has an open stream, or none."""
        while bool(self._records[proxy].streams) is not connected:
            await self._news[proxy].wait()

    def _handler(self, service: Discovery, authenticate: Authenticator) -> grpc.GenericRpcHandler[bytes, bytes]:
        only = SECRET if service is Discovery.SECRETS else None

        def method(variant: Variant) -> grpc.RpcMethodHandler[bytes, bytes]:
            async def behave(_: object, context: Context) -> None:
                proxy = await authenticate(context)
                if isinstance(proxy, Unauthenticated):
                    await context.abort(grpc.StatusCode.UNAUTHENTICATED, proxy.reason)
                    return
                await self._run(proxy, variant, only, context)

            return grpc.stream_stream_rpc_method_handler(behave)

        methods = {name: method(variant) for name, variant in _METHODS[service].items()}
        return grpc.method_handlers_generic_handler(service.value, methods)

    async def _run(self, proxy: ProxyKey, variant: Variant, only: TypeUrl | None, context: Context) -> None:
        number, record = next(self._stream_numbers), self._records[proxy]

        def observe(command: Command) -> None:
            refused, limited = bool(record.refused), bool(record.forgotten)
            record.record(number, command, now=self._clock())
            if isinstance(command, RecordHeld | RecordAck | RecordNack):
                self._tell(proxy, command.type_url, command.versions)
            if refused or record.refused or limited is not bool(record.forgotten):
                self._tell_refusals()

        wake = asyncio.Event()
        view = self._cache.open(proxy, wake.set)
        session = Session(proxy, variant=variant, dialect=dialect_of(proxy), view=view, only=only)
        record.opened(number)
        self._tell(proxy)
        try:
            await drive(session, view=view, wake=wake, context=context, observe=observe, patience=self._patience)
        finally:
            limited = bool(record.forgotten)
            record.closed(number)
            self._tell(proxy)
            if limited:
                self._tell_refusals()

    def _tell_refusals(self) -> None:
        self._refusals_news.set()
        self._refusals_news = asyncio.Event()

    def _tell(self, proxy: ProxyKey, type_url: TypeUrl | None = None, names: Collection[str] = ()) -> None:
        """Tells the followers, and wakes those who wait for news of a proxy; the next ones wait for a new event."""
        for follower in self._followers:
            follower(proxy, type_url, names)
        if news := self._news.pop(proxy, None):
            news.set()


class _HasMetadata(Protocol):
    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


def bearer_token(context: _HasMetadata) -> str:
    """The token of a call's `authorization` header, or an empty string."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value[:7].lower() == "bearer ":
            return value[7:].strip()
    return ""


def _credentials(certificate: Callable[[], ServerCertificate]) -> grpc.ServerCredentials:
    def configuration() -> grpc.ServerCertificateConfiguration:
        now = certificate()
        return grpc.ssl_server_certificate_configuration([(now.key, now.chain)])

    return grpc.dynamic_ssl_server_credentials(configuration(), configuration)
