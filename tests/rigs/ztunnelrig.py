"""Real ztunnels and a control plane that they reach over TLS, for contract tests.

Each workload has a network namespace, captured as `peerauth up` captures one, and a node of its own with a ztunnel in
dedicated mode; or all are on one node, and a ztunnel in shared mode serves them from outside. The control plane runs in
the test's process; a relay in a namespace of its own stands for its machine, and can be unplugged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from peerauth.agent.commands import run_tool
from peerauth.agent.echo import listen_tcp
from peerauth.agent.netns import MeshNetwork, WorkloadNamespace, sockets_of, unsupported
from peerauth.agent.zds import ZdsServer, ZdsWorkload
from peerauth.aio import spawn
from peerauth.ca.attest import Caller
from peerauth.ca.node_token import issue_token
from peerauth.ca.service import CertificateAuthority
from peerauth.ca.serving import make_serving_certificate
from peerauth.control.publishing import put
from peerauth.control.ztunnels import ALL_ZTUNNELS, ZtunnelFeed, ztunnel_key
from peerauth.dataplane.type_urls import ADDRESS, AUTHORIZATION
from peerauth.identity.keys import CURVE
from peerauth.identity.spiffe import SpiffeId
from peerauth.identity.x509 import certificate_pem
from peerauth.model.changes import Change, MeshObject, Upsert
from peerauth.model.inventory import Namespace, Port, Workload
from peerauth.policy.mesh import Mesh
from peerauth.policy.rollout import Orders
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import DiscoveryServer, ServerCertificate, TlsBinding
from rigs.clients import Connection, application
from samples.meshes import meta
from samples.pki import TRUST_DOMAIN, make_issuer

VARIABLE = "PEERAUTH_ZTUNNEL"
BINARY = os.environ.get(VARIABLE, "")  # noqa: TID251  a test's own switch
HOSTNAME = "istiod.istio-system.svc"
CONTROL_PORT = 15012
PORTS = (8080, 9000, 9999)
UNDECLARED = 9999
WORKLOADS = ("finance", "web")


def missing() -> str:
    """Why no real ztunnel can be tried here, or an empty string."""
    if not BINARY:
        return f"no real ztunnel: {VARIABLE} names no binary"
    if not os.access(BINARY, os.X_OK):
        return f"no real ztunnel: {BINARY} ({VARIABLE}) cannot be executed"
    return unsupported()


class ZtunnelMesh:
    """A mesh of two workloads, `foo/finance` and `foo/web`, and a client outside. Made by `ztunnel_mesh`."""

    def __init__(self, network: MeshNetwork, folder: Path, *, shared_node: str = "") -> None:
        self.network = network
        self.shared_node = shared_node
        self.mesh = Mesh()
        self.cache = ResourceCache()
        self.discovery = DiscoveryServer(self.cache)
        self.feed = ZtunnelFeed(self.cache, mesh=self.mesh)
        self.spaces: dict[str, WorkloadNamespace] = {}
        self._folder = folder
        self._token_key = ec.generate_private_key(CURVE)
        self._issuer = make_issuer(now=now())
        self._relayed: set[asyncio.StreamWriter] = set()
        self._relay: asyncio.Server | None = None
        self._port = 0
        self._processes: list[asyncio.subprocess.Process] = []

    # --- the control plane -------------------------------------------------------------------------------------------

    def apply(self, *objects: MeshObject | Change) -> None:
        """Objects as a source says them; each is a step of its own."""
        for each in objects:
            change = Upsert("test", each) if not isinstance(each, Change) else each
            for _, news in self.feed.resources.update(self.mesh.apply(change), Orders()):
                put(self.cache, ALL_ZTUNNELS, news)

    async def acknowledged(self, name: str = "finance") -> None:
        """Waits until a workload's ztunnel has everything, and fails if it refused something."""
        for type_url in (AUTHORIZATION, ADDRESS):
            assert await self.discovery.wait_acked(ztunnel_key(self.node_of(name)), type_url) == ()

    async def serve(self) -> None:
        shown = make_serving_certificate([HOSTNAME], issuer=self._issuer, now=now())
        public = self._token_key.public_key()
        authority = CertificateAuthority(self._issuer, trust_domain=TRUST_DOMAIN, now=now)
        certificates = self.feed.certificates(authority, key=public, now=now)
        self._port = await self.discovery.serve_tls(
            TlsBinding(
                "127.0.0.1:0",
                certificate=lambda: ServerCertificate(shown.chain, shown.key),
                authenticate=self.feed.authenticator(key=public, now=now),
                others=(certificates.handler(),),
            )
        )
        (self._folder / "root.pem").write_bytes(b"".join(map(certificate_pem, self._issuer.roots)))
        await self.plug_in()

    async def plug_in(self) -> None:
        listener = listen_tcp(self.spaces["istiod"].addresses[0], CONTROL_PORT, sockets=self.sockets("istiod"))
        self._relay = await asyncio.start_server(self._carry, sock=listener)

    async def unplug(self) -> None:
        """Cuts every ztunnel off the control plane."""
        if self._relay is not None:
            self._relay.close()
            for writer in self._relayed:
                writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._relayed.add(writer)
        with contextlib.suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pour(reader, inner_writer))
                both.create_task(_pour(inner_reader, writer))
        self._relayed.discard(writer)

    # --- workloads ---------------------------------------------------------------------------------------------------

    def workload(self, name: str, **labels: str) -> Workload:
        """`finance` or `web`, as its document has it; without labels it has `app=<name>`."""
        return Workload(
            meta(f"foo/{name}", labels or {"app": name}),
            service_account=name,
            ports=(Port(8080), Port(9000)),
            addresses=self.spaces[name].addresses,
            node=self.node_of(name),
        )

    def node_of(self, name: str) -> str:
        return self.shared_node or f"node-{name}"

    def sockets(self, name: str) -> Callable[[int], socket.socket]:
        return sockets_of(self.spaces[name].path)

    async def connect(self, source: str, port: int, *, family: int = 0) -> Connection:
        """A connection from a namespace to finance; through its ztunnel where the source has one."""
        address = self.spaces["finance"].addresses[family]
        kind = socket.AF_INET6 if family else socket.AF_INET
        return await Connection.open(address, port, new_socket=lambda: self.sockets(source)(kind))

    async def reaches(self, source: str, port: int, *, family: int = 0) -> bool:
        """Whether bytes from there come back from finance's application."""
        try:
            connection = await self.connect(source, port, family=family)
        except OSError:
            return False
        answered = await connection.echoes()
        await connection.close()
        return answered

    async def start_ztunnel(self, name: str, **variables: str) -> None:
        """Starts a workload's own ztunnel in its namespace."""
        # Its calls to the control plane carry no mark; in a cluster they leave from the node's network.
        rule = f"insert rule inet peerauth outbound tcp dport {CONTROL_PORT} accept\n"
        await run_tool("nft", "-f", "-", text=rule, netns=self.spaces[name].path)
        identity = SpiffeId(TRUST_DOMAIN, "foo", name)
        await self._start(
            name,
            identity,
            PROXY_MODE="dedicated",
            PROXY_WORKLOAD_INFO=f"foo/{name}/{name}",
            PACKET_MARK="1337",
            **variables,
        )

    async def start_shared_ztunnel(self, agent: Path, **variables: str) -> None:
        """Starts a ztunnel for all workloads, in a namespace that stands for the node's; it is called `node`."""
        identity = SpiffeId(TRUST_DOMAIN, "istio-system", "ztunnel")
        await self._start("node", identity, PROXY_MODE="shared", INPOD_UDS=str(agent), **variables)

    async def _start(self, name: str, identity: SpiffeId, **variables: str) -> None:
        caller = Caller(identity, self.node_of(name))
        file = self._folder / f"{name}.token"
        file.write_text(issue_token(caller, key=self._token_key, now=now(), lifetime=timedelta(hours=1)))
        root = str(self._folder / "root.pem")
        control = f"https://{self.spaces['istiod'].addresses[0]}:{CONTROL_PORT}"
        environment = {
            "NODE_NAME": caller.node,
            "XDS_ADDRESS": control,
            "CA_ADDRESS": control,
            "XDS_ROOT_CA": root,
            "CA_ROOT_CA": root,
            "ALT_XDS_HOSTNAME": HOSTNAME,
            "ALT_CA_HOSTNAME": HOSTNAME,
            "AUTH_TOKEN": str(file),
            "ISTIO_META_DNS_CAPTURE": "false",
            "ENABLE_ORIG_SRC": "false",
            "AUTHZ_POLICY_INFO_LOGGING": "true",
            "RUST_LOG": "info",
            **variables,
        }
        with (self._folder / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                "nsenter", f"--net={self.spaces[name].path}", BINARY, env=environment, stdout=log, stderr=log
            )
        self._processes.append(process)

    async def ready(self, name: str) -> None:
        """Waits until a ztunnel says that it is."""
        try:
            async with asyncio.timeout(30):
                # It tells by being asked only.
                while not (await self._get(name, 15021, "/healthz/ready")).startswith(b"HTTP/1.1 200"):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"ztunnel {name} is not ready:\n{self.log(name)[-4000:]}")

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    async def dump(self, name: str) -> Any:
        """A ztunnel's own view of everything."""
        answer = await self._get(name, 15000, "/config_dump")
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    async def _get(self, name: str, port: int, path: str) -> bytes:
        try:
            connection = await Connection.open("127.0.0.1", port, new_socket=lambda: self.sockets(name)(socket.AF_INET))
        except OSError:
            return b""
        connection.writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
        answer = await connection.reader.read()
        await connection.close()
        return answer

    async def stop(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
        await self.unplug()
        await self.discovery.stop()


@contextlib.asynccontextmanager
async def ztunnel_mesh(folder: Path, *objects: MeshObject, **variables: str) -> AsyncIterator[ZtunnelMesh]:
    """Both workloads with their own ztunnels ready, finance's application on `PORTS`, and `objects` in force."""
    async with _mesh(folder, objects) as mesh:
        for name in WORKLOADS:
            await mesh.start_ztunnel(name, **variables)
        for name in WORKLOADS:
            await mesh.ready(name)
        yield mesh


@contextlib.asynccontextmanager
async def shared_ztunnel_mesh(folder: Path, *objects: MeshObject) -> AsyncIterator[ZtunnelMesh]:
    """The same with one ztunnel for both, which a node agent hands their network namespaces."""
    async with _mesh(folder, objects, shared_node="node") as mesh, contextlib.AsyncExitStack() as stack:
        mesh.spaces["node"] = await mesh.network.add("bar/node", capture=False)
        agent = ZdsServer(folder / "zds")
        agent.serve(ZdsWorkload(name, name, "foo", name, mesh.spaces[name].path) for name in WORKLOADS)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(spawn(group, agent.run(), name="ZDS").cancel)
        await mesh.start_shared_ztunnel(folder / "zds")
        async with asyncio.timeout(30):
            await agent.settled()
        await mesh.ready("node")
        yield mesh


@contextlib.asynccontextmanager
async def _mesh(folder: Path, objects: Iterable[MeshObject], *, shared_node: str = "") -> AsyncIterator[ZtunnelMesh]:
    async with MeshNetwork() as network, contextlib.AsyncExitStack() as stack:
        mesh = ZtunnelMesh(network, folder, shared_node=shared_node)
        stack.push_async_callback(mesh.stop)
        for name in WORKLOADS:
            mesh.spaces[name] = await network.add(f"foo/{name}")
        for name in ("istiod", "outside"):
            mesh.spaces[name] = await network.add(f"bar/{name}", capture=False)
        for port in PORTS:
            for address in mesh.spaces["finance"].addresses:
                listener = listen_tcp(address, port, sockets=mesh.sockets("finance"))
                await stack.enter_async_context(application(listener=listener))
        mesh.apply(Namespace(meta("foo", {"istio.io/dataplane-mode": "ambient"})), *objects)
        mesh.apply(*(mesh.workload(name) for name in WORKLOADS))
        await mesh.serve()
        yield mesh


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


def now() -> datetime:
    return datetime.now(UTC)
