"""A real Envoy under a test's control: discovery and certificates over Unix sockets, its log lines, its statistics.

The discovery server is as small as the protocol allows, so that what is tested is what was rendered.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2

from peerauth.agent.envoy import EnvoyLaunch, find_envoy, wrapped_command
from peerauth.dataplane.envoy.bootstrap import Sockets, bootstrap
from peerauth.dataplane.resources import Resources
from peerauth.dataplane.type_urls import CLUSTER, ENDPOINT, LISTENER, SECRET, TypeUrl
from rigs.ondemand import Destinations

EOF: object = vars(grpc.aio)["EOF"]  # missing from the stubs
START_TIMEOUT_S = 20.0


class Authority:
    """A certificate authority of one test; its certificates live an hour."""

    def __init__(self, name: str = "test") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._certificate = (
            _certificate(subject, subject, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def root_pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, uri: str) -> tuple[bytes, bytes]:
        """A certificate chain and key for one identity, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _certificate(x509.Name([]), self._certificate.subject, key.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return certificate.public_bytes(serialization.Encoding.PEM), private

    def secrets(self, uri: str) -> dict[str, bytes]:
        """The two secrets of a sidecar, serialized."""
        chain, key = self.issue(uri)
        own = secret_pb2.Secret(name="default")
        own.tls_certificate.certificate_chain.inline_bytes = chain
        own.tls_certificate.private_key.inline_bytes = key
        roots = secret_pb2.Secret(name="ROOTCA")
        roots.validation_context.trusted_ca.inline_bytes = self.root_pem
        return {"default": own.SerializeToString(), "ROOTCA": roots.SerializeToString()}


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
    )


class Discovery:
    """Delta ADS and state-of-the-world SDS for one Envoy."""

    def __init__(self, destinations: Destinations | None = None) -> None:
        self._resources: Resources = {}
        self._sent: dict[str, dict[str, bytes]] = {}
        self._stream: Any = None
        self._writing = asyncio.Lock()
        self._pending: dict[str, asyncio.Future[None]] = {}
        self._nonce = 0
        self.secrets: dict[str, bytes] = {}
        self._secret_streams: list[tuple[Any, list[str]]] = []
        self._asked = asyncio.Condition()
        self.refused: list[BaseException] = []
        self.destinations = destinations or Destinations()

    async def tell(self, name: str, resources: Mapping[TypeUrl, bytes] | None) -> None:
        """Says what a destination is from now on (None: nothing), to an Envoy that has asked for it at once.

        Returns when the answer is acknowledged; AssertionError if Envoy refuses it.
        """
        types = {**self.destinations.known.pop(name, {}), **(resources or {})}
        if resources is not None:
            self.destinations.known[name] = resources
        for type_url in sorted(types):
            acknowledged = await self._answer(type_url, self.destinations.wanted(type_url, [name]))
            if acknowledged is not None:
                await asyncio.wait_for(acknowledged, START_TIMEOUT_S)

    async def apply(self, resources: Resources) -> None:
        """Sends what differs and returns when Envoy has acknowledged it; AssertionError if it refuses.

        Answers to what it asked for that are others now go out too.
        """
        self._resources = resources
        for type_url in (CLUSTER, LISTENER):
            if type_url not in self._sent:
                continue  # its first request is still to come
            acknowledged = await self._push(type_url)
            if acknowledged is not None:
                await asyncio.wait_for(acknowledged, START_TIMEOUT_S)
        for type_url in (CLUSTER, ENDPOINT):
            acknowledged = await self._answer(type_url, self.destinations.stale(type_url))
            if acknowledged is not None:
                await asyncio.wait_for(acknowledged, START_TIMEOUT_S)

    async def offer(self, secrets: Mapping[str, bytes]) -> None:
        """Replaces the certificates."""
        self.secrets = dict(secrets)
        for context, names in self._secret_streams:
            await self._send_secrets(context, names)

    async def asked_for(self, names: set[str]) -> None:
        """Returns once Envoy has asked for all these secrets."""
        async with asyncio.timeout(START_TIMEOUT_S), self._asked:
            await self._asked.wait_for(lambda: names <= {name for _, asked in self._secret_streams for name in asked})

    async def _push(self, type_url: str) -> asyncio.Future[None] | None:
        want, have = dict(self._resources.get(TypeUrl(type_url), {})), self._sent.get(type_url)
        changed = {name: body for name, body in want.items() if (have or {}).get(name) != body}
        removed = sorted(set(have or {}) - set(want))
        if have is not None and not changed and not removed:
            return None
        self._nonce += 1
        response = discovery_pb2.DeltaDiscoveryResponse(
            type_url=type_url, nonce=str(self._nonce), removed_resources=removed
        )
        for name, body in changed.items():
            entry = response.resources.add(name=name, version=str(hash(body)))
            entry.resource.type_url, entry.resource.value = type_url, body
        self._sent[type_url] = want
        acknowledged = asyncio.get_running_loop().create_future()
        self._pending[response.nonce] = acknowledged
        await self._write(response)
        return acknowledged

    async def _answer(self, type_url: str, names: list[str]) -> asyncio.Future[None] | None:
        """Answers for names that were asked for, each as it is known now."""
        answer = self.destinations.answer(TypeUrl(type_url), names, nonce=str(self._nonce + 1))
        if answer is None:
            return None
        self._nonce += 1
        acknowledged = asyncio.get_running_loop().create_future()
        self._pending[answer.nonce] = acknowledged
        await self._write(answer)
        return acknowledged

    async def _write(self, answer: discovery_pb2.DeltaDiscoveryResponse) -> None:
        """A stream takes one message at a time."""
        async with self._writing:
            await self._stream.write(answer)

    def _keep_refusal(self, acknowledged: asyncio.Future[None]) -> None:
        if not acknowledged.cancelled() and (error := acknowledged.exception()) is not None:
            self.refused.append(error)

    async def stream(self, _: Any, context: Any) -> None:
        self._stream, self._sent = context, {}
        self.destinations.began()
        while (request := await context.read()) is not EOF:
            acknowledged = self._pending.pop(request.response_nonce, None)
            if acknowledged is not None:
                if request.HasField("error_detail"):
                    acknowledged.set_exception(AssertionError(request.error_detail.message))
                else:
                    acknowledged.set_result(None)
            elif request.type_url not in self._sent and request.type_url in (CLUSTER, LISTENER):
                first = await self._push(request.type_url)
                if first is not None:
                    first.add_done_callback(self._keep_refusal)
            if names := await self.destinations.listen(request):
                answer = await self._answer(request.type_url, names)
                if answer is not None:
                    answer.add_done_callback(self._keep_refusal)

    async def stream_secrets(self, _: Any, context: Any) -> None:
        names: list[str] = []
        self._secret_streams.append((context, names))
        while (request := await context.read()) is not EOF:
            assert not request.HasField("error_detail"), request.error_detail.message
            if list(request.resource_names) != names:
                names[:] = request.resource_names
                async with self._asked:
                    self._asked.notify_all()
                await self._send_secrets(context, names)

    async def _send_secrets(self, context: Any, names: list[str]) -> None:
        known = [self.secrets[name] for name in names if name in self.secrets]
        if not known:
            return
        self._nonce += 1
        response = discovery_pb2.DiscoveryResponse(
            type_url=SECRET, nonce=str(self._nonce), version_info=str(self._nonce)
        )
        for body in known:
            response.resources.add(type_url=SECRET, value=body)
        await context.write(response)


class RunningEnvoy:
    """One Envoy process: what it logged about connections, and its admin interface."""

    def __init__(
        self, process: asyncio.subprocess.Process, *, discovery: Discovery, server: grpc.aio.Server, sockets: Sockets
    ) -> None:
        self.process, self.discovery, self._server, self._admin = process, discovery, server, sockets.admin
        self._paths = (sockets.xds, sockets.sds)
        self.connections: list[str] = []
        self.messages: list[str] = []
        self._news = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def without_control_plane(self) -> AsyncIterator[None]:
        """Nobody answers this Envoy, nor issues certificates for it, for as long as the context lasts."""
        await self._server.stop(None)
        yield
        self._server = discovery_server(self.discovery, self._paths)
        await self._server.start()

    async def stop_serving(self) -> None:
        await self._server.stop(None)

    async def follow(self, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None
        async for raw in stream:
            line = raw.decode()
            (self.connections if line.startswith("{") else self.messages).append(line)
            async with self._news:
                self._news.notify_all()

    async def line(self, wanted: Callable[[str], bool]) -> str:
        """The first access-log line that is wanted, once it is there."""
        return (await self.lines(wanted, 1))[0]

    async def lines(self, wanted: Callable[[str], bool], count: int) -> list[str]:
        """The access-log lines that are wanted, once there are `count`."""
        await self._until(lambda: sum(map(wanted, self.connections)) >= count)
        return [line for line in self.connections if wanted(line)]

    async def message(self, text: str) -> None:
        """Returns once Envoy has said `text` in its own log."""
        await self._until(lambda: any(text in line for line in self.messages))

    async def listening(self) -> None:
        """Returns once the workers accept connections: Envoy says `starting workers` a moment before that."""
        await self.message("starting workers")
        async with asyncio.timeout(START_TIMEOUT_S):
            while not sum((await self.stats("listener_manager.workers_started")).values()):
                pass  # asked again at once: nothing tells of it

    async def _until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(START_TIMEOUT_S), self._news:
            await self._news.wait_for(lambda: happened() or self.process.returncode is not None)
        assert happened(), "Envoy ended: " + "".join(self.messages[-10:])

    async def admin(self, path: str, *, method: str = "GET") -> str:
        """An answer of the admin interface."""
        reader, writer = await asyncio.open_unix_connection(self._admin)
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        if b"chunked" in head:
            body = b"".join(body.split(b"\r\n")[1::2])
        return body.decode()

    async def stats(self, prefix: str = "") -> dict[str, int]:
        """The counters and gauges whose names start with `prefix`."""
        lines = (line.rpartition(": ") for line in (await self.admin("/stats")).splitlines())
        return {name: int(value) for name, _, value in lines if name.startswith(prefix) and value.isdigit()}


@contextlib.asynccontextmanager
async def running_envoy(
    folder: Path,
    resources: Resources,
    secrets: Mapping[str, bytes],
    *,
    network_namespace: str = "",
    destinations: Destinations | None = None,
) -> AsyncIterator[RunningEnvoy]:
    """Starts Envoy as a supervisor does, waits until it has taken the resources, and stops it at the end.

    Without secrets it is returned as soon as the listeners were sent. It ends with this process, whatever
    happens to it.
    """
    sockets = Sockets(admin=str(folder / "admin"), xds=str(folder / "xds"), sds=str(folder / "sds"))
    discovery = Discovery(destinations)
    discovery.secrets = dict(secrets)
    server = discovery_server(discovery, (sockets.xds, sockets.sds))
    await server.start()
    await discovery.apply(resources)
    config = folder / "bootstrap.json"
    config.write_text(bootstrap("test", cluster="test", sockets=sockets, metadata=(("NAME", "test"),)))
    launch = EnvoyLaunch(
        name="test",
        binary=find_envoy(),
        bootstrap=config,
        admin=Path(sockets.admin),
        log=folder / "log",
        log_level="info",
        network_namespace=network_namespace,
    )
    process = await asyncio.create_subprocess_exec(
        *wrapped_command(launch, parent=os.getpid()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    running = RunningEnvoy(process, discovery=discovery, server=server, sockets=sockets)
    try:
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(running.follow(stream)) for stream in (process.stdout, process.stderr)]
            try:
                await _ready(running, wait=bool(secrets))
                yield running
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                for reader in readers:
                    reader.cancel()
    finally:
        await running.stop_serving()


async def _ready(running: RunningEnvoy, *, wait: bool) -> None:
    if wait:
        await running.listening()
    else:
        await running.message("cds: add")
    assert not running.discovery.refused, running.discovery.refused


def discovery_server(discovery: Discovery, paths: tuple[str, ...]) -> grpc.aio.Server:
    """What serves `discovery` at these Unix sockets; not started yet."""
    server = grpc.aio.server()
    ads = grpc.stream_stream_rpc_method_handler(
        discovery.stream,
        request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString,
        response_serializer=discovery_pb2.DeltaDiscoveryResponse.SerializeToString,
    )
    sds = grpc.stream_stream_rpc_method_handler(
        discovery.stream_secrets,
        request_deserializer=discovery_pb2.DiscoveryRequest.FromString,
        response_serializer=discovery_pb2.DiscoveryResponse.SerializeToString,
    )
    services = {
        "envoy.service.discovery.v3.AggregatedDiscoveryService": {"DeltaAggregatedResources": ads},
        "envoy.service.secret.v3.SecretDiscoveryService": {"StreamSecrets": sds},
    }
    for service, methods in services.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    for path in paths:
        server.add_insecure_port(f"unix:{path}")
    return server
