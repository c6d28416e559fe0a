"""The node agent's side of ZDS: hands the network namespaces of a node's workloads to ztunnel, and takes them back.

The agent listens, ztunnel connects and says hello; then every workload there is, `snapshot_sent`, and changes as they
come, each packet answered by one acknowledgement before the next. A namespace is an open file descriptor, sent beside
its packet: a namespace that is gone costs its own workload and nothing else. A newer connection takes over: an older
one is only told what to let go of.

Source: wire.md section 4.4.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterable
from pathlib import Path

import msgspec
from google.protobuf.message import DecodeError

from peerauth.aio import spawn
from peerauth.errors import PlatformError
from peerauth.proto import zds_pb2 as pb

PACKET_BYTES = 1024
"""What ztunnel reads of a packet at most."""
ACK_SECONDS = 5.0

_log = logging.getLogger(__name__)


class ZdsWorkload(msgspec.Struct, frozen=True):
    """One workload and the path of its network namespace. `uid` never comes to mean another workload or namespace.

    Name, namespace and service account must be what the control plane says, or ztunnel refuses its connections.
    """

    uid: str
    name: str
    namespace: str
    service_account: str
    network_namespace: str


class _LostError(Exception):
    """The connection is over, or the other end does not speak the protocol."""


class ZdsServer:
    """One node's socket. `run` is the task; `serve` says which workloads there are, at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wanted: dict[str, ZdsWorkload] = {}
        self._links: list[_Link] = []
        self._news = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._accepting: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether a ztunnel is there that was told of every workload at its start."""
        return bool(self._links) and self._links[-1].greeted

    def serve(self, workloads: Iterable[ZdsWorkload]) -> None:
        """Makes these the node's workloads; the ztunnel that is connected is told what is different."""
        self._wanted = {workload.uid: workload for workload in workloads}
        for link in self._links:
            link.changed.set()
        self._tell()

    async def settled(self) -> None:
        """Returns when a ztunnel is connected and has answered for every workload; there is no limit in time."""
        while not (self.connected and self._links[-1].told == self._wanted.keys()):
            await self._news.wait()

    async def run(self) -> None:
        """Listens until cancelled. Raises PlatformError if the socket cannot be had."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._accepting = spawn(group, self._accept(self._listen(), group), name="ztunnel's connections")

    def restore(self) -> None:
        """Opens the socket again if someone has removed it; connections go on. Raises PlatformError."""
        if self._group is None or self._accepting is None or self._path.is_socket():
            return
        listener = self._listen()
        self._accepting.cancel()
        self._accepting = spawn(self._group, self._accept(listener, self._group), name="ztunnel's connections")

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._path.unlink(missing_ok=True)
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            listener.listen()
        except OSError as error:
            listener.close()
            raise PlatformError(f"cannot listen on {self._path}: {error}") from error
        listener.setblocking(False)
        return listener

    async def _accept(self, listener: socket.socket, group: asyncio.TaskGroup) -> None:
        with listener:
            while True:
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                spawn(group, self._attend(connection), name="ztunnel's workloads")

    async def _attend(self, connection: socket.socket) -> None:
        """One connection, from hello to its end, which is no one's failure: ztunnel comes again."""
        with connection:
            connection.setblocking(False)
            link = _Link(connection)
            try:
                await link.hello()
                self._links.append(link)
                async with asyncio.TaskGroup() as group:
                    spawn(group, link.read(), name="ztunnel's answers")
                    await self._follow(link)
            except* _LostError as lost:
                _log.info("ztunnel's connection is over: %s", lost.exceptions[0])
            finally:
                if link in self._links:
                    self._links.remove(link)
                self._tell()

    async def _follow(self, link: _Link) -> None:
        while True:
            link.changed.clear()
            await self._catch_up(link)
            self._tell()
            await link.changed.wait()

    async def _catch_up(self, link: _Link) -> None:
        """Tells a ztunnel what it does not know yet; what is wanted may change meanwhile."""
        for uid in sorted(link.told - self._wanted.keys()):
            await link.delete(uid)
        if link is self._links[-1]:
            for uid, workload in sorted(self._wanted.items()):
                if uid in self._wanted and uid not in link.told:
                    await link.add(workload)
        if not link.greeted:
            await link.snapshot_sent()

    def _tell(self) -> None:
        """Wakes those who wait for news; the next ones wait for a new event."""
        self._news.set()
        self._news = asyncio.Event()


class _Link:
    """One connection: what its ztunnel was told, and the answers that it gave."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()
        self.told: set[str] = set()
        self.greeted = False
        self.changed = asyncio.Event()

    async def hello(self) -> None:
        """Waits for the first packet."""
        try:
            async with asyncio.timeout(ACK_SECONDS):
                said = pb.ZdsHello.FromString(await self._packet())
        except (TimeoutError, DecodeError) as error:
            raise _LostError("it did not say hello") from error
        if said.version != pb.V1:
            raise _LostError(f"it speaks version {said.version}")

    async def read(self) -> None:
        """Takes answers in; ends with _LostError, which ends the connection also while nothing is to be told."""
        while True:
            self._answers.put_nowait(await self._packet())

    async def add(self, workload: ZdsWorkload) -> None:
        """Hands a workload over, if its namespace is still there."""
        self.told.add(workload.uid)
        info = pb.WorkloadInfo(
            name=workload.name, namespace=workload.namespace, service_account=workload.service_account
        )
        request = pb.WorkloadRequest(add=pb.AddWorkload(uid=workload.uid, workload_info=info))
        try:
            namespace = os.open(workload.network_namespace, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            _log.warning("%s/%s is not served: %s", workload.namespace, workload.name, error)
            return
        try:
            await self._ask(request, namespace)
        finally:
            os.close(namespace)

    async def delete(self, uid: str) -> None:
        """Takes a workload back."""
        request = pb.WorkloadRequest()
        getattr(request, "del").uid = uid  # the field has the name of a Python statement
        await self._ask(request)
        self.told.discard(uid)

    async def snapshot_sent(self) -> None:
        """Says that this is all for now; whatever else ztunnel had, it lets go of."""
        await self._ask(pb.WorkloadRequest(snapshot_sent=pb.SnapshotSent()))
        self.greeted = True

    async def _ask(self, request: pb.WorkloadRequest, *descriptors: int) -> None:
        """Sends a packet and waits for its answer. An error in it is ztunnel's to mend: it tries again by itself."""
        packet = request.SerializeToString()
        if len(packet) > PACKET_BYTES:
            _log.warning("ztunnel is not told of a workload whose names do not fit into %d bytes", PACKET_BYTES)
            return
        try:
            # With one packet under way at a time, there is always room for it.
            socket.send_fds(self._connection, [packet], descriptors)
            async with asyncio.timeout(ACK_SECONDS):
                answer = pb.WorkloadResponse.FromString(await self._answers.get())
        except (OSError, DecodeError) as error:  # TimeoutError is an OSError
            raise _LostError(f"no acknowledgement: {error!r}") from error
        if answer.ack.error:
            _log.warning("ztunnel cannot serve a workload yet: %s", answer.ack.error)

    async def _packet(self) -> bytes:
        packet = b""
        with contextlib.suppress(OSError):
            packet = await asyncio.get_running_loop().sock_recv(self._connection, PACKET_BYTES)
        if not packet:
            raise _LostError("it hung up")
        return packet
