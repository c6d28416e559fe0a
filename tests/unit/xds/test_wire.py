"""The bytes of the discovery protocol, judged by protobuf."""

from __future__ import annotations

import pytest
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from peerauth.dataplane.type_urls import LISTENER, TypeUrl
from peerauth.xds import wire
from peerauth.xds.wire import Resource

# Lengths around 128 and 16384, where a length takes one more byte.
BODIES = st.one_of(
    st.binary(max_size=20),
    st.integers(0, 60).map(lambda extra: b"x" * (100 + extra)),
    st.integers(0, 60).map(lambda extra: b"x" * (16_330 + extra)),
)
TEXT = st.text(max_size=12)
TYPES = st.text(min_size=1, max_size=60).map(TypeUrl)


@given(type_url=TYPES, bodies=st.lists(st.tuples(TEXT, BODIES), max_size=4), nonce=TEXT, version=TEXT)
def test_spliced_state_answers_are_what_protobuf_would_write(
    type_url: TypeUrl, bodies: list[tuple[str, bytes]], nonce: str, version: str
) -> None:
    resources = [Resource.of(type_url, name=name, body=body) for name, body in bodies]
    message = discovery_pb2.DiscoveryResponse(type_url=type_url, nonce=nonce, version_info=version)
    for _, body in bodies:
        message.resources.add(type_url=type_url, value=body)
    spliced = wire.encode_state(resources, type_url=type_url, nonce=nonce, version=version)
    assert spliced == message.SerializeToString(deterministic=True)


@given(type_url=TYPES, bodies=st.lists(st.tuples(TEXT, BODIES), max_size=4), nonce=TEXT, removed=st.lists(TEXT))
def test_spliced_delta_answers_are_what_protobuf_would_write(
    type_url: TypeUrl, bodies: list[tuple[str, bytes]], nonce: str, removed: list[str]
) -> None:
    resources = [Resource.of(type_url, name=name, body=body) for name, body in bodies]
    message = discovery_pb2.DeltaDiscoveryResponse(type_url=type_url, nonce=nonce, removed_resources=removed)
    for resource in resources:
        entry = message.resources.add(name=resource.name, version=resource.version)
        entry.resource.type_url, entry.resource.value = type_url, resource.body
    spliced = wire.encode_delta(resources, type_url=type_url, nonce=nonce, removed=removed)
    assert spliced == message.SerializeToString(deterministic=True)


def test_a_version_is_the_content() -> None:
    one = Resource.of(LISTENER, name="a", body=b"same")
    assert one.version == Resource.of(LISTENER, name="b", body=b"same").version
    assert one.version != Resource.of(LISTENER, name="a", body=b"other").version


def test_a_set_has_one_version_whatever_its_order() -> None:
    a, b = (Resource.of(LISTENER, name=name, body=b"1") for name in "ab")
    assert wire.set_version([a, b]) == wire.set_version([b, a])
    assert len({wire.set_version(each) for each in ([], [a], [b], [a, b])}) == 4


def test_state_requests_are_read_whole() -> None:
    message = discovery_pb2.DiscoveryRequest(
        version_info="v", resource_names=["a"], type_url=LISTENER, response_nonce="7"
    )
    message.node.id = "proxy"
    message.error_detail.code = 3
    message.error_detail.message = "x" * 10_000
    assert wire.parse_state(message.SerializeToString()) == wire.StateRequest(
        type_url=LISTENER,
        node_id="proxy",
        nonce="7",
        refusal=wire.Refusal(3, "x" * wire.MAX_NACK_MESSAGE),
        names=("a",),
        version="v",
    )


def test_delta_requests_are_read_whole() -> None:
    message = discovery_pb2.DeltaDiscoveryRequest(
        type_url=LISTENER,
        resource_names_subscribe=["a"],
        resource_names_unsubscribe=["b"],
        initial_resource_versions={"c": "1"},
    )
    assert wire.parse_delta(message.SerializeToString()) == wire.DeltaRequest(
        type_url=LISTENER, node_id="", nonce="", refusal=None, subscribe=("a",), unsubscribe=("b",), held={"c": "1"}
    )


@pytest.mark.parametrize("parse", [wire.parse_state, wire.parse_delta])
def test_broken_bytes_are_an_error(parse: object) -> None:
    assert callable(parse)
    with pytest.raises(DecodeError):
        parse(b"\x22\x7fshort")
