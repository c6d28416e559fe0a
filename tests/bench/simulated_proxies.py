"""Many proxies in one process, as cheap as can be: what the servers of bench_push.py push to. Started by it.

    python tests/bench/simulated_proxies.py SOCKET...

A socket whose name begins with `raw` gets a bare connection: four bytes of length, then a message, answered by as many
bytes as an acknowledgement has. To all others a proxy speaks gRPC in HTTP/2 frames written by hand, so that the bytes
on the wire are counted where they arrive and a client library's cost does not hide the server's. Each proxy subscribes
to all listeners over delta discovery and acknowledges whatever comes. A line on standard input is answered by a line
of JSON: per socket, the bytes so far, how many of them were not gRPC's own housekeeping, and the messages.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from functools import partial
from pathlib import Path

import hpack
from envoy.service.discovery.v3 import discovery_pb2

from peerauth.dataplane.resources import LISTENER

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
ACK, END_HEADERS = 1, 4
STREAM = 1
MAX_WINDOW = (1 << 31) - 1
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
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
    """One delta stream: a subscription to all listeners, then an acknowledgement for each answer."""

    def __init__(self) -> None:
        self.bytes = self.payload = self.messages = 0
        self._frames = bytearray()
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        fields = [(":method", "POST"), (":scheme", "http"), (":path", METHOD), (":authority", "localhost")]
        fields += [("te", "trailers"), ("content-type", "application/grpc")]
        transport.write(
            PREFACE
            + _frame(SETTINGS, 0, struct.pack("!HI", 4, MAX_WINDOW))
            + _frame(WINDOW_UPDATE, 0, struct.pack("!I", MAX_WINDOW - 65535))
            + _frame(HEADERS, STREAM, hpack.Encoder().encode(fields), flags=END_HEADERS)
        )
        self._say(discovery_pb2.DeltaDiscoveryRequest(type_url=LISTENER))

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

    def _say(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        body = request.SerializeToString()
        self.transport.write(_frame(DATA, STREAM, b"\0" + struct.pack("!I", len(body)) + body))


def _frame(kind: int, stream: int, payload: bytes, *, flags: int = 0) -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes((kind, flags)) + struct.pack("!I", stream) + payload


def _itself(proxy: RawProxy | DiscoveryProxy) -> RawProxy | DiscoveryProxy:
    return proxy


async def main(sockets: list[str]) -> None:
    loop = asyncio.get_running_loop()
    proxies: dict[str, RawProxy | DiscoveryProxy] = {}
    for path in sockets:
        proxy = RawProxy() if Path(path).name.startswith("raw") else DiscoveryProxy()
        await loop.create_unix_connection(partial(_itself, proxy), path)
        proxies[path] = proxy
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        counts = {path: (proxy.bytes, proxy.payload, proxy.messages) for path, proxy in proxies.items()}
        print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
