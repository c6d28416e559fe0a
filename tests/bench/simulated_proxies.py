"""Many proxies in one process, as cheap as can be: what the servers of the benchmarks push to. Started by them.

    python tests/bench/simulated_proxies.py < LINES

The first line of standard input is a list of sockets, in JSON. A socket whose name begins with `raw` gets a bare
connection: four bytes of length, then a message, answered by as many bytes as an acknowledgement has. To all others a
proxy speaks gRPC in HTTP/2 frames written by hand, so that the bytes on the wire are counted where they arrive and a
client library's cost does not hide the server's. Each proxy subscribes over delta discovery to all listeners, one whose
socket's name begins with `sidecar` to all clusters before that, as Envoy does, and acknowledges whatever comes.

Every further line is an order in JSON, answered by a line of JSON: per socket, the bytes so far, how many of them were
not gRPC's own housekeeping, and the messages. `{"ask": {SOCKET: [NAME, ...]}}`: this proxy asks for these clusters by
name as well, and for the endpoints of those that have theirs by discovery, under the same name.
`{"reconnect": true}`: all begin new streams, and say what they hold. `{}`: no order.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import hpack
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2

from peerauth.dataplane.type_urls import CLUSTER, ENDPOINT, LISTENER, TypeUrl

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
ACK, END_HEADERS = 1, 4
STREAM = 1
MAX_WINDOW = (1 << 31) - 1
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
LONGEST_LINE = 1 << 26
QUIET_S = 0.02
RAW_ACK = struct.pack("!I", 100) + bytes(100)


class RawProxy(asyncio.Protocol):
    """Answers each message of a bare connection."""

    def __init__(self) -> None:
        self.bytes = self.payload = self.messages = 0
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        self.payload += len(data)
        self._buffer += data
        while len(self._buffer) >= 4 and len(self._buffer) >= (end := 4 + int.from_bytes(self._buffer[:4])):
            del self._buffer[:end]
            self.messages += 1
            self.transport.write(RAW_ACK)


class DiscoveryProxy(asyncio.Protocol):
    """One delta stream: a subscription to all of `kinds` and to names, then an acknowledgement for each answer."""

    def __init__(self, kinds: tuple[TypeUrl, ...]) -> None:
        self.bytes = self.payload = self.messages = 0
        self._kinds = kinds
        self._names: dict[TypeUrl, set[str]] = {}
        self._held: dict[TypeUrl, dict[str, str]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._frames, self._body = bytearray(), bytearray()
        fields = [(":method", "POST"), (":scheme", "http"), (":path", METHOD), (":authority", "localhost")]
        fields += [("te", "trailers"), ("content-type", "application/grpc")]
        transport.write(
            PREFACE
            + _frame(SETTINGS, 0, struct.pack("!HI", 4, MAX_WINDOW))
            + _frame(WINDOW_UPDATE, 0, struct.pack("!I", MAX_WINDOW - 65535))
            + _frame(HEADERS, STREAM, hpack.Encoder().encode(fields), flags=END_HEADERS)
        )
        for kind in (*self._kinds, *(self._names.keys() - set(self._kinds))):
            everything = ["*"] if kind in self._kinds else []
            self._say(
                discovery_pb2.DeltaDiscoveryRequest(
                    type_url=kind,
                    resource_names_subscribe=[*everything, *sorted(self._names.get(kind, ()))],
                    initial_resource_versions=self._held.get(kind, {}),
                )
            )

    def ask(self, kind: TypeUrl, names: list[str]) -> None:
        self._names.setdefault(kind, set()).update(names)
        self._say(discovery_pb2.DeltaDiscoveryRequest(type_url=kind, resource_names_subscribe=names))

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        self._frames += data
        while len(self._frames) >= 9 and len(self._frames) >= (end := 9 + int.from_bytes(self._frames[:3])):
            kind, flags, payload = self._frames[3], self._frames[4], bytes(self._frames[9:end])
            del self._frames[:end]
            self._take(kind, flags, payload)

    def _take(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == DATA:
            self.payload += len(payload)
            self._body += payload
            self._answer()
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self.transport.write(_frame(kind, 0, payload if kind == PING else b"", flags=ACK))

    def _answer(self) -> None:
        while len(self._body) >= 5 and len(self._body) >= (end := 5 + int.from_bytes(self._body[1:5])):
            answer = discovery_pb2.DeltaDiscoveryResponse.FromString(bytes(self._body[5:end]))
            del self._body[:end]
            self.messages += 1
            self._say(discovery_pb2.DeltaDiscoveryRequest(type_url=answer.type_url, response_nonce=answer.nonce))
            self._hold(answer)

    def _hold(self, answer: discovery_pb2.DeltaDiscoveryResponse) -> None:
        kind = TypeUrl(answer.type_url)
        held = self._held.setdefault(kind, {})
        held.update((each.name, each.version) for each in answer.resources)
        for name in answer.removed_resources:
            held.pop(name, None)
        if kind == CLUSTER and (asked := self._names.get(CLUSTER)):
            clusters = [each for each in answer.resources if each.name in asked and _by_discovery(each.resource.value)]
            if new := {each.name for each in clusters} - self._names.get(ENDPOINT, set()):
                self.ask(ENDPOINT, sorted(new))
            self._drop(ENDPOINT, self._names.get(ENDPOINT, set()).intersection(answer.removed_resources))

    def _drop(self, kind: TypeUrl, names: set[str]) -> None:
        if names:
            self._names[kind] -= names
            for name in names:
                self._held[kind].pop(name, None)
            self._say(discovery_pb2.DeltaDiscoveryRequest(type_url=kind, resource_names_unsubscribe=sorted(names)))

    def _say(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        body = request.SerializeToString()
        self.transport.write(_frame(DATA, STREAM, b"\0" + struct.pack("!I", len(body)) + body))


def _frame(kind: int, stream: int, payload: bytes, *, flags: int = 0) -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes((kind, flags)) + struct.pack("!I", stream) + payload


def _by_discovery(cluster: bytes) -> bool:
    return cluster_pb2.Cluster.FromString(cluster).type == cluster_pb2.Cluster.EDS


def _proxy(path: str) -> RawProxy | DiscoveryProxy:
    name = Path(path).name
    if name.startswith("raw"):
        return RawProxy()
    return DiscoveryProxy((CLUSTER, LISTENER) if name.startswith("sidecar") else (LISTENER,))


def _itself(proxy: RawProxy | DiscoveryProxy) -> RawProxy | DiscoveryProxy:
    return proxy


async def _connect(proxies: dict[str, RawProxy | DiscoveryProxy]) -> None:
    for path, proxy in proxies.items():
        await asyncio.get_running_loop().create_unix_connection(partial(_itself, proxy), path)


class Received(NamedTuple):
    """What has arrived on one socket; `payload` is what of the bytes is not gRPC's own housekeeping."""

    bytes: int
    payload: int
    messages: int


class SimulatedProxies:
    """The process of the proxies, as who starts it has it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, sockets: Collection[str]) -> SimulatedProxies:
        """Proxies that are about to connect to these sockets."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, __file__),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
        )
        proxies = cls(process)
        proxies._tell([*sockets])
        return proxies

    async def received(self) -> dict[str, Received]:
        """What has arrived, by socket."""
        return await self._order({})

    async def quiet(self) -> dict[str, Received]:
        """What has arrived, once nothing more does: no one tells of what is sent to those who are not waited for."""
        had: dict[str, Received] = {}
        while (have := await self.received()) != had:
            had = have
            await asyncio.sleep(QUIET_S)
        return have

    async def ask(self, names: Mapping[str, Sequence[str]]) -> None:
        """Each socket's proxy asks for clusters by name."""
        await self._order({"ask": names})

    async def reconnect(self) -> None:
        """All begin new streams."""
        await self._order({"reconnect": True})

    async def stop(self) -> None:
        self._process.kill()
        await self._process.wait()

    async def _order(self, order: object) -> dict[str, Received]:
        self._tell(order)
        assert self._process.stdout is not None
        counts = json.loads(await self._process.stdout.readline())
        return {path: Received(*each) for path, each in counts.items()}

    def _tell(self, what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")


async def main() -> None:
    lines = asyncio.StreamReader(limit=LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    proxies = {path: _proxy(path) for path in json.loads(await lines.readline())}
    await _connect(proxies)
    while line := await lines.readline():
        order = json.loads(line)
        for path, names in order.get("ask", {}).items():
            proxy = proxies[path]
            assert isinstance(proxy, DiscoveryProxy)
            proxy.ask(CLUSTER, names)
        if order.get("reconnect"):
            for proxy in proxies.values():
                proxy.transport.abort()
            await _connect(proxies)
        counts = {path: (proxy.bytes, proxy.payload, proxy.messages) for path, proxy in proxies.items()}
        print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
