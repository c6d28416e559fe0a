"""The node's ztunnel as `up` runs one, with a stand-in for its binary that acknowledges whatever it is given."""

from __future__ import annotations

import asyncio
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from peerauth.aio import spawn
from peerauth.ca.service import CertificateAuthority
from peerauth.control.outstanding import Behind, CaughtUp
from peerauth.control.plane import ControlPlane
from peerauth.local.ztunnel import LocalZtunnel
from peerauth.model.inventory import Namespace, Workload, WorkloadKey
from peerauth.model.placement import Captor, Capture, Placement
from peerauth.model.world import MeshObject, Reset, Upsert
from peerauth.xds.cache import ResourceCache
from peerauth.xds.server import DiscoveryServer
from rigs.bounded import soon
from rigs.stopped import stopped
from samples.meshes import meta, policy
from samples.pki import TRUST_DOMAIN, make_issuer

STAND_IN = """\
import os, queue, socket, threading
import grpc
from envoy.service.discovery.v3 import discovery_pb2
from peerauth.proto import zds_pb2

told = os.environ
roots = open(told["XDS_ROOT_CA"], "rb").read()
channel = grpc.secure_channel(
    told["XDS_ADDRESS"].removeprefix("https://"),
    grpc.ssl_channel_credentials(roots),
    [("grpc.ssl_target_name_override", told["ALT_XDS_HOSTNAME"])],
)
asked = queue.Queue()
for kind in ("istio.workload.Address", "istio.security.Authorization"):
    asked.put(discovery_pb2.DeltaDiscoveryRequest(type_url="type.googleapis.com/" + kind))

def discover():
    call = channel.stream_stream(
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
    )
    token = open(told["AUTH_TOKEN"]).read()
    for answer in call(iter(asked.get, None), metadata=[("authorization", "Bearer " + token)]):
        asked.put(discovery_pb2.DeltaDiscoveryRequest(type_url=answer.type_url, response_nonce=answer.nonce))

threading.Thread(target=discover, daemon=True).start()
agent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
agent.connect(told["INPOD_UDS"])
agent.send(zds_pb2.ZdsHello(version=zds_pb2.V1).SerializeToString())
while True:
    data, descriptors, _, _ = socket.recv_fds(agent, 1024, 4)
    if not data:
        break
    for each in descriptors:
        os.close(each)
    agent.send(zds_pb2.WorkloadResponse(ack=zds_pb2.Ack()).SerializeToString())
"""


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(autouse=True)
def any_port_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in takes no port of the machine, where a real ztunnel may be at work."""
    monkeypatch.setattr("peerauth.local.ztunnel.require_free_port", lambda: None)


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[LocalZtunnel, ControlPlane, asyncio.TaskGroup]]:
    binary = folder / "ztunnel"
    binary.write_text(f"#!{sys.executable}\n{STAND_IN}")
    binary.chmod(0o700)
    cache = ResourceCache()
    discovery = DiscoveryServer(cache)
    plane = ControlPlane(
        cache,
        acknowledgements=discovery,
        processes=lambda _: node.process,
        sleep=lambda seconds: asyncio.sleep(seconds / 10),
    )
    authority = CertificateAuthority(make_issuer(now=now()), trust_domain=TRUST_DOMAIN, now=now)
    node = LocalZtunnel(
        cache,
        discovery,
        plane=plane,
        node="here",
        folder=folder / "node",
        binary=binary,
        authority=authority,
        on_line=lambda _: None,
        now=now,
    )
    try:
        async with asyncio.TaskGroup() as group:
            running = spawn(group, plane.run(), name="control plane")
            yield node, plane, group
            node.stop()
            running.cancel()
    finally:
        await discovery.stop()


def ambient(*names: str, folder: Path) -> Reset:
    """Workloads of an ambient namespace, placed for the node's proxy; files stand for their network namespaces."""
    objects: list[MeshObject] = [Namespace(meta("foo", {"istio.io/dataplane-mode": "ambient"}))]
    for number, name in enumerate(names, start=1):
        (folder / name).touch()
        placement = Placement(
            WorkloadKey("foo", name),
            "here",
            (f"10.0.0.{number}",),
            Capture.TRANSPARENT,
            Captor.NODE,
            network_namespace=str(folder / name),
        )
        objects += [Workload(meta(f"foo/{name}")), placement]
    return Reset("test", tuple(objects))


async def test_it_is_ready_when_it_has_the_workloads_and_what_is_said_of_them(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, plane, group):
        for names in (("finance",), ("finance", "web"), ("web",)):
            plane.apply(ambient(*names, folder=tmp_path))
            await node.reconcile(group=group)
            async with asyncio.timeout(20):
                await node.ready()
        assert node.supervisor is not None
        assert node.supervisor.restarts == 0
        for name in ("token", "roots.pem", "zds.sock"):
            assert stat.S_IMODE((tmp_path / "node" / name).stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "node").stat().st_mode) == 0o700


async def test_one_that_stands_still_while_a_port_is_closed_is_ended_and_starts_with_what_is_in_force(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as (node, plane, group):
        said: asyncio.Queue[Behind | CaughtUp] = asyncio.Queue()
        plane.outstanding.follow(said.put_nowait)
        plane.apply(ambient("finance", folder=tmp_path))
        await node.reconcile(group=group)
        await soon("ztunnel has all", node.ready())
        assert node.process is not None
        with stopped(node.process.pid):
            plane.apply(Upsert("test", policy("foo/strict", "STRICT")))
            behind = await soon("ztunnel is out of time", said.get())
        assert isinstance(behind, Behind)
        assert (behind.proxy, behind.ended) == (node.key, True)
        assert behind.open == ("foo/finance all other ports PERMISSIVE -> STRICT",)
        assert await soon("a new ztunnel has all", said.get()) == CaughtUp(node.key)
        assert node.process.restarts == 1


async def test_without_ambient_workloads_nothing_is_started(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, group):
        await node.reconcile(group=group)
        await node.ready()
        assert node.supervisor is None
        assert not (tmp_path / "node").exists()
