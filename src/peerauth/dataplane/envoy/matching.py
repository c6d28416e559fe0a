"""Matchers that choose a connection's filter chain by where it was going.

A listener's matcher is replaced without touching a connection; what a connection's own chain says decides its fate.
"""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf import wrappers_pb2
from google.protobuf.message import Message
from xds.type.matcher.v3 import matcher_pb2

from peerauth.dataplane.envoy.tls import packed

_OnMatch = matcher_pb2.Matcher.OnMatch


def lookup(
    what: Message, table: Mapping[str, matcher_pb2.Matcher.OnMatch], *, otherwise: matcher_pb2.Matcher.OnMatch
) -> matcher_pb2.Matcher.OnMatch:
    """What `table` has for the connection's `what` (an input message, such as the destination's port), exactly."""
    matcher = matcher_pb2.Matcher(on_no_match=otherwise)
    matcher.matcher_tree.input.name = what.DESCRIPTOR.name
    matcher.matcher_tree.input.typed_config.CopyFrom(packed(what))
    for key in sorted(table):
        matcher.matcher_tree.exact_match_map.map[key].CopyFrom(table[key])
    return _OnMatch(matcher=matcher)


def to_chain(name: str) -> matcher_pb2.Matcher.OnMatch:
    """The filter chain of this name."""
    match = _OnMatch()
    match.action.name = "chain"  # Envoy goes by the type; there may be ten thousand of these
    match.action.typed_config.CopyFrom(packed(wrappers_pb2.StringValue(value=name)))
    return match
