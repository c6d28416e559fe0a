"""What a connection carries along inside the proxy: entries of its filter state, set when it begins.

An entry may be shared with the connection that is made for this one: with the next hop only, or with every hop after
it. Source: Envoy's well-known filter state keys.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from envoy.extensions.filters.network.set_filter_state.v3 import set_filter_state_pb2

from peerauth.dataplane.envoy.tls import packed

CLUSTER = "envoy.tcp_proxy.cluster"
"""The cluster that a TCP proxy uses instead of its own."""
SERVER_NAMES = "envoy.network.upstream_subject_alt_names"
"""Whom the server's certificate must name, beside what the cluster asks of it."""
REMOTE_ADDRESS = "envoy.filters.listener.original_dst.remote_ip"
"""Whose connection it is: what the next listener inside the proxy logs as its source."""

STRING = "envoy.string"
HASHABLE_STRING = "envoy.hashable_string"

Value = value_pb2.FilterStateValue
NOT_SHARED = Value.NONE
NEXT_HOP = Value.ONCE
EVERY_HOP = Value.TRANSITIVE


def state(
    key: str,
    text: str,
    *,
    factory: str = "",
    shared: value_pb2.FilterStateValue.SharedWithUpstream.ValueType = NOT_SHARED,
) -> value_pb2.FilterStateValue:
    """One entry of a connection's filter state; `text` is a format string. No factory: the key's own."""
    value = Value(object_key=key, factory_key=factory, shared_with_upstream=shared)
    value.format_string.text_format_source.inline_string = text
    return value


def remember(values: Iterable[value_pb2.FilterStateValue]) -> listener_components_pb2.Filter:
    """A network filter that sets filter state when a connection begins."""
    config = set_filter_state_pb2.Config(on_new_connection=values)
    return listener_components_pb2.Filter(name="envoy.filters.network.set_filter_state", typed_config=packed(config))


def literal(text: str) -> str:
    """Text as a format string that yields it."""
    return text.replace("%", "%%")
