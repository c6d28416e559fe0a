"""What a ztunnel is handed over its socket, in which order, and what it is spared when something goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from peerauth.agent.zds import ZdsServer, ZdsWorkload
from peerauth.aio import spawn
from peerauth.proto import zds_pb2 as pb

DEADLINE_S = 10.0


def workload(name: str, folder: Path) -> ZdsWorkload:
    """A file stands for the network namespace: what is handed over is a descriptor, whatever it is of."""
    path = folder / name
    path.touch()
    return ZdsWorkload(f"uid-{name}", name, "foo", f"{name}-account", str(path))


class FakeZtunnel:
    """The other end, one packet at a time."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(str(path))
        self.socket.setblocking(False)

    def hello(self, version: int = 1) -> None:
        self.socket.send(pb.ZdsHello(version=version).SerializeToString())  # type: ignore[arg-type]

    async def next(self, *, error: str = "", acknowledge: bool = True) -> tuple[pb.WorkloadRequest, list[int]]:
        """The next request with the inodes of what came with it."""
        readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self.socket, readable.set)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await readable.wait()
        finally:
            loop.remove_reader(self.socket)
        data, descriptors, _, _ = socket.recv_fds(self.socket, 1024, 4)
        inodes = [os.fstat(each).st_ino for each in descriptors]
        for each in descriptors:
            os.close(each)
        if acknowledge and data:
            self.acknowledge(error)
        return pb.WorkloadRequest.FromString(data), inodes

    async def ended(self) -> bool:
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.get_running_loop().sock_recv(self.socket, 1024) == b""

    def acknowledge(self, error: str = "") -> None:
        self.socket.send(pb.WorkloadResponse(ack=pb.Ack(error=error)).SerializeToString())

    async def adds(self, *names: str) -> None:
        """The next packets add these and no other."""
        for name in names:
            request, _ = await self.next()
            assert request.add.workload_info.name == name

    async def snapshot(self) -> None:
        request, _ = await self.next()
        assert request.WhichOneof("payload") == "snapshot_sent"


@contextlib.asynccontextmanager
async def serving(folder: Path, *workloads: ZdsWorkload) -> AsyncIterator[tuple[ZdsServer, Path]]:
    path = folder / "zds.sock"
    server = ZdsServer(path)
    server.serve(workloads)
    async with asyncio.TaskGroup() as group:
        task = spawn(group, server.run(), name="zds")
        await asyncio.sleep(0)
        try:
            yield server, path
        finally:
            task.cancel()


async def settled(server: ZdsServer) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await server.settled()


async def test_the_socket_is_for_this_user_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_every_workload_comes_with_its_own_namespace_and_then_the_snapshots_end(tmp_path: Path) -> None:
    finance, web = workload("finance", tmp_path), workload("web", tmp_path)
    async with serving(tmp_path, web, finance) as (server, path):
        ztunnel = FakeZtunnel(path)
        ztunnel.hello()
        for each in (finance, web):
            request, inodes = await ztunnel.next()
            assert request.add == pb.AddWorkload(
                uid=each.uid,
                workload_info=pb.WorkloadInfo(name=each.name, namespace="foo", service_account=each.service_account),
            )
            assert inodes == [os.stat(each.network_namespace).st_ino]
        assert not server.connected
        await ztunnel.snapshot()
        await settled(server)
        ztunnel.socket.close()


async def test_nothing_is_sent_before_the_answer_to_what_was(tmp_path: Path) -> None:
    async with serving(tmp_path, workload("finance", tmp_path), workload("web", tmp_path)) as (_, path):
        ztunnel = FakeZtunnel(path)
        ztunnel.hello()
        await ztunnel.next(acknowledge=False)
        await asyncio.sleep(0)
        with pytest.raises(BlockingIOError):
            ztunnel.socket.recv(1024)
        ztunnel.acknowledge()
        await ztunnel.adds("web")
        ztunnel.socket.close()


async def test_only_what_changes_is_told_afterwards(tmp_path: Path) -> None:
    finance, web, batch = (workload(name, tmp_path) for name in ("finance", "web", "batch"))
    async with serving(tmp_path, finance, web) as (server, path):
        ztunnel = FakeZtunnel(path)
        ztunnel.hello()
        await ztunnel.adds("finance", "web")
        await ztunnel.snapshot()
        server.serve([finance, batch])
        gone, inodes = await ztunnel.next()
        assert (getattr(gone, "del").uid, inodes) == (web.uid, [])
        await ztunnel.adds("batch")
        await settled(server)
        ztunnel.socket.close()


async def test_a_namespace_that_is_gone_costs_its_own_workload_only(tmp_path: Path) -> None:
    web = workload("web", tmp_path)
    lost = msgspec.structs.replace(workload("finance", tmp_path), network_namespace=str(tmp_path / "gone"))
    async with serving(tmp_path, lost, web) as (server, path):
        ztunnel = FakeZtunnel(path)
        ztunnel.hello()
        await ztunnel.adds("web")
        await ztunnel.snapshot()
        await settled(server)
        ztunnel.socket.close()


async def test_a_workload_that_cannot_be_served_yet_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async with serving(tmp_path, workload("finance", tmp_path), workload("web", tmp_path)) as (server, path):
        ztunnel = FakeZtunnel(path)
        ztunnel.hello()
        await ztunnel.next(error="no proxy yet")
        await ztunnel.adds("web")
        await ztunnel.snapshot()
        await settled(server)
        ztunnel.socket.close()


async def test_who_comes_again_is_told_everything_again(tmp_path: Path) -> None:
    async with serving(tmp_path, workload("finance", tmp_path)) as (server, path):
        first = FakeZtunnel(path)
        first.hello()
        await first.adds("finance")
        await first.snapshot()
        first.socket.close()
        second = FakeZtunnel(path)
        second.hello()
        await second.adds("finance")
        await second.snapshot()
        await settled(server)
        second.socket.close()


async def test_a_newer_ztunnel_takes_over_and_the_older_is_told_of_removals_only(tmp_path: Path) -> None:
    finance, web = workload("finance", tmp_path), workload("web", tmp_path)
    async with serving(tmp_path, finance) as (server, path):
        old = FakeZtunnel(path)
        old.hello()
        await old.adds("finance")
        await old.snapshot()
        new = FakeZtunnel(path)
        new.hello()
        await new.adds("finance")
        await new.snapshot()
        server.serve([web])
        for each in (old, new):
            gone, _ = await each.next()
            assert getattr(gone, "del").uid == finance.uid
        await new.adds("web")
        await settled(server)
        with pytest.raises(BlockingIOError):
            old.socket.recv(1024)
        old.socket.close()
        new.socket.close()


async def test_who_speaks_another_version_is_sent_away_and_harms_no_one(tmp_path: Path) -> None:
    async with serving(tmp_path, workload("finance", tmp_path)) as (server, path):
        stranger = FakeZtunnel(path)
        stranger.hello(7)
        assert await stranger.ended()
        stranger.socket.close()
        ztunnel = FakeZtunnel(path)
        ztunnel.hello()
        await ztunnel.adds("finance")
        await ztunnel.snapshot()
        await settled(server)
        ztunnel.socket.close()


async def test_a_socket_that_someone_removed_is_opened_again_and_the_connection_of_before_goes_on(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, workload("finance", tmp_path)) as (server, path):
        before = FakeZtunnel(path)
        before.hello()
        await before.next()
        await before.next()
        server.restore()
        path.unlink()
        server.restore()
        server.serve([])
        told, _ = await before.next()
        assert getattr(told, "del").uid == "uid-finance"
        after = FakeZtunnel(path)
        after.hello()
        assert (await after.next())[0].HasField("snapshot_sent")
        before.socket.close()
        after.socket.close()
