"""The discovery protocol's vocabulary and bytes: requests in, answers out, events and commands of a session.

Requests are parsed by protobuf; answers are spliced from resources that were serialized once per content, and are
equal to the byte to what protobuf's deterministic serialization of the same message gives. This module holds no state
and decides nothing.

Facts: envoy/service/discovery/v3/discovery.proto (field numbers), xDS protocol ("Wildcard", "ACK and NACK").
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import NewType, Protocol

import msgspec
from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2

from peerauth.dataplane.type_urls import TypeUrl

ProxyKey = NewType("ProxyKey", str)

# What the node ids of ztunnels start with, and the keys that they are known by here.
ZTUNNEL_NODE = "ztunnel~"

# A refusal's text goes to logs and status pages; a proxy cannot fill memory with it.
MAX_NACK_MESSAGE = 4096

_VERSION_BYTES = 16


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _head(number: int, length: int) -> bytes:
    """Tag and length of a length-delimited field."""
    return bytes((number << 3 | 2,)) + _varint(length)


def _text(number: int, value: str) -> bytes:
    """A singular string field; absent when empty, as proto3 has it."""
    data = value.encode()
    return _head(number, len(data)) + data if data else b""


class Resource(msgspec.Struct, frozen=True, weakref=True, eq=False):
    """One named configuration, serialized once: make it with `Resource.of`.

    `version` is a hash of `body`, so equal bytes are never a change. The three frames are the bytes that stand around
    the body in an answer of either variant; the body itself exists once, however many proxies have it.
    """

    type_url: TypeUrl
    name: str
    version: str
    body: bytes
    state_head: bytes
    delta_head: bytes
    delta_tail: bytes

    @classmethod
    def of(cls, type_url: TypeUrl, *, name: str, body: bytes) -> Resource:
        version = hashlib.blake2b(body, digest_size=_VERSION_BYTES).hexdigest()
        any_head = _text(1, type_url) + (_head(2, len(body)) if body else b"")
        any_length = len(any_head) + len(body)
        inner_head = _text(1, version) + _head(2, any_length) + any_head
        tail = _text(3, name)
        return cls(
            type_url=type_url,
            name=name,
            version=version,
            body=body,
            state_head=_head(2, any_length) + any_head,
            delta_head=_head(2, len(inner_head) + len(body) + len(tail)) + inner_head,
            delta_tail=tail,
        )


def set_version(resources: Iterable[Resource]) -> str:
    """The version of a set of resources, whatever their order: state of the world has one for a whole answer."""
    digest = hashlib.blake2b(digest_size=_VERSION_BYTES)
    for resource in sorted(resources, key=lambda each: each.name):
        digest.update(f"{len(resource.name)}:{resource.name}{resource.version}".encode())
    return digest.hexdigest()


def encode_state(resources: Iterable[Resource], *, type_url: TypeUrl, nonce: str, version: str) -> bytes:
    """DiscoveryResponse: version_info 1, resources 2, type_url 4, nonce 5."""
    parts = [_text(1, version)]
    for resource in resources:
        parts += (resource.state_head, resource.body)
    parts += (_text(4, type_url), _text(5, nonce))
    return b"".join(parts)


def encode_delta(resources: Iterable[Resource], *, type_url: TypeUrl, nonce: str, removed: Iterable[str]) -> bytes:
    """DeltaDiscoveryResponse: resources 2, type_url 4, nonce 5, removed_resources 6. It has no version of its own."""
    parts: list[bytes] = []
    for resource in resources:
        parts += (resource.delta_head, resource.body, resource.delta_tail)
    parts += (_text(4, type_url), _text(5, nonce))
    for name in removed:
        data = name.encode()
        parts += (_head(6, len(data)), data)
    return b"".join(parts)


class Refusal(msgspec.Struct, frozen=True):
    """What a client said when it did not accept an answer: a google.rpc code and its text, cut to a bound."""

    code: int
    message: str


class StateRequest(msgspec.Struct, frozen=True):
    """A DiscoveryRequest: `names` is the whole subscription of the type, `version` what the client last accepted."""

    type_url: TypeUrl
    node_id: str
    nonce: str
    refusal: Refusal | None
    names: tuple[str, ...]
    version: str


class DeltaRequest(msgspec.Struct, frozen=True):
    """A DeltaDiscoveryRequest: changes of the subscription; `held` is what the client has when a stream begins."""

    type_url: TypeUrl
    node_id: str
    nonce: str
    refusal: Refusal | None
    subscribe: tuple[str, ...]
    unsubscribe: tuple[str, ...]
    held: Mapping[str, str]


def speaks_for(node_id: str, proxy: ProxyKey) -> bool:
    """Whether a client that was authenticated as `proxy` may call itself `node_id`.

    ztunnel puts its own address and pod into its name, which say nothing about what it may have: it is any ztunnel.
    """
    return node_id in ("", proxy) or (node_id.startswith(ZTUNNEL_NODE) and proxy.startswith(ZTUNNEL_NODE))


def _refusal(status: status_pb2.Status) -> Refusal:
    return Refusal(code=status.code, message=status.message[:MAX_NACK_MESSAGE])


def parse_state(data: bytes) -> StateRequest:
    """Raises google.protobuf.message.DecodeError for bytes that are no DiscoveryRequest."""
    message = discovery_pb2.DiscoveryRequest.FromString(data)
    return StateRequest(
        type_url=TypeUrl(message.type_url),
        node_id=message.node.id,
        nonce=message.response_nonce,
        refusal=_refusal(message.error_detail) if message.HasField("error_detail") else None,
        names=tuple(message.resource_names),
        version=message.version_info,
    )


def parse_delta(data: bytes) -> DeltaRequest:
    """Raises google.protobuf.message.DecodeError for bytes that are no DeltaDiscoveryRequest."""
    message = discovery_pb2.DeltaDiscoveryRequest.FromString(data)
    return DeltaRequest(
        type_url=TypeUrl(message.type_url),
        node_id=message.node.id,
        nonce=message.response_nonce,
        refusal=_refusal(message.error_detail) if message.HasField("error_detail") else None,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        held=dict(message.initial_resource_versions),
    )


class View(Protocol):
    """What one proxy is to have now; a session reads it when it composes an answer, so it is never out of date."""

    def get(self, type_url: TypeUrl, name: str) -> Resource | None: ...

    def names(self, type_url: TypeUrl) -> Collection[str]: ...

    def related(self, type_url: TypeUrl, name: str) -> Collection[str]:
        """Names that a client gets as well who asks for `name`.

        `name` may be an alias that nothing is sent under, or the client's own key: what every ztunnel has of its node.
        """
        ...

    def is_on_demand(self, type_url: TypeUrl, name: str) -> bool:
        """Whether a name is of a kind that is got only by asking: no wildcard covers it, and nothing refers to it."""
        ...

    def ask(self, type_url: TypeUrl, names: Collection[str]) -> Collection[str]:
        """The client asks for these names; those on demand are kept, and `get` finds them from now on.

        Returns names that are not kept, of these or of earlier ones, since a stream must not fill memory. To be called
        once at least for every stream, so that it is known that the client has spoken.
        """
        ...

    def drop(self, type_url: TypeUrl, names: Collection[str]) -> None:
        """The client does not want these names any more."""
        ...


class Variant(enum.Enum):
    """The two transports of one protocol."""

    STATE = "state of the world"
    DELTA = "delta"


class RequestReceived(msgspec.Struct, frozen=True):
    """Event: the client sent a message."""

    data: bytes


class ResourcesChanged(msgspec.Struct, frozen=True):
    """Event: the view changed; per type the names that are new, different or gone.

    `anew`: what was asked for by name has another source, and has to be asked for again.
    """

    names: Mapping[TypeUrl, Collection[str]]
    anew: bool = False


class SecondChance(msgspec.Struct, frozen=True):
    """Event: time has passed since a refusal, and with it perhaps its cause: an address in use is free again."""


Event = RequestReceived | ResourcesChanged | SecondChance


class CloseCode(enum.Enum):
    """Why a stream is ended by us; the server maps each to a gRPC status."""

    INVALID_ARGUMENT = "invalid argument"
    PERMISSION_DENIED = "permission denied"
    RESOURCE_EXHAUSTED = "resource exhausted"


class Send(msgspec.Struct, frozen=True):
    """Command: write these bytes to the client."""

    data: bytes


class RecordHeld(msgspec.Struct, frozen=True):
    """Command: a client that opened this type on this stream says that it has these versions already."""

    type_url: TypeUrl
    versions: Mapping[str, str]


class RecordAck(msgspec.Struct, frozen=True):
    """Command: the client has applied these versions; an empty version is a removal."""

    type_url: TypeUrl
    versions: Mapping[str, str]


class RecordNack(msgspec.Struct, frozen=True):
    """Command: the client refused an answer. `isolated` is false while the culprit among `versions` is looked for."""

    type_url: TypeUrl
    versions: Mapping[str, str]
    refusal: Refusal
    isolated: bool


class RecordForgotten(msgspec.Struct, frozen=True):
    """Command: the client asks for more names than are kept; so many are as if they had not been asked for."""

    names: int


class Close(msgspec.Struct, frozen=True):
    """Command: end the stream; nothing is accepted after it."""

    code: CloseCode
    reason: str


Command = Send | RecordHeld | RecordAck | RecordNack | RecordForgotten | Close
