"""Services of many endpoints: a listener inside the proxy that leads a connection to the piece it was balanced to.

The cluster of such a Service has an endpoint for each of its pieces (`policy.shards`), weighted by how much is in it.
The endpoint is this listener, with metadata that names the piece: a destination that the proxy asks for like any other,
when the first connection is balanced to it. So a change of one endpoint is a change of one piece, and of the weights.

Fail closed: without a name, or an answer, the connection leads nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2

from peerauth.dataplane.envoy import accesslog, filterstate, parts
from peerauth.dataplane.envoy.captured import REMEMBER_SOURCE, asking
from peerauth.dataplane.envoy.filterstate import state
from peerauth.dataplane.envoy.hops import METADATA, SHARD, TO_SHARD, inner_listener
from peerauth.model.inventory import WorkloadKey


def shard_listener(
    workload: WorkloadKey | str, *, knows: Iterable[value_pb2.FilterStateValue] = ()
) -> listener_pb2.Listener:
    """The listener; `knows` is what it hands on of what it was told about a connection."""
    says = [*knows, REMEMBER_SOURCE, state(filterstate.CLUSTER, f"%DYNAMIC_METADATA({METADATA}:{SHARD})%")]
    filters = [filterstate.remember(says), parts.tcp_proxy(TO_SHARD, parts.BLACKHOLE, asking=asking())]
    return inner_listener(TO_SHARD, filters, log=accesslog.not_handed_on(workload))
