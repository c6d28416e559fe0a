"""What rendering comes to: serialized xDS resources by type and name."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import Message

from peerauth.dataplane.type_urls import TypeUrl

Resources = Mapping[TypeUrl, Mapping[str, bytes]]
"""Serialized resources by type, then by name; names ascend. The bytes are the resource itself, not wrapped in an Any.

Types stand in the order they must be sent in: clusters before the listeners that use them."""


def serialize(message: Message) -> bytes:
    """A message's bytes, maps in key order: one content has one form."""
    return message.SerializeToString(deterministic=True)
