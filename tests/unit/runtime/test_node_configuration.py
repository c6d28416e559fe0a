"""The node's configuration in the cache is what rendering everything anew would give, at the cost of what changed."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from peerauth.dataplane.ambient.node import HbonePeer, NodeProxy, NodeWorkload, render_node
from peerauth.dataplane.resources import CLUSTER, LISTENER
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.inventory import WorkloadKey
from peerauth.model.mesh import DEFAULT_MESH, MeshConfig
from peerauth.runtime.node_configuration import NodeConfiguration
from peerauth.xds.cache import ResourceCache
from peerauth.xds.wire import ProxyKey
from sidecars import decided

PROXY = ProxyKey("node~test")
ALIASED = msgspec.structs.replace(DEFAULT_MESH, trust_domain_aliases=("old.example",))

identities = st.sampled_from([SpiffeId("cluster.local", "foo", name) for name in ("a", "b", "c")])


@st.composite
def nodes(draw: st.DrawFn) -> NodeProxy:
    numbers = draw(st.sets(st.integers(1, 4)))
    workloads = tuple(
        NodeWorkload(
            WorkloadKey("foo", f"w{number}"),
            draw(identities),
            (f"10.0.0.{number}",),
            decided(draw(st.sampled_from(["STRICT", "PERMISSIVE"]))),
            draw(st.sampled_from(["", f"/run/netns/w{number}"])),
            (8080,),
            "127.0.0.1",
        )
        for number in sorted(numbers)
    )
    peers = tuple(sorted(HbonePeer(w.identity, w.addresses) for w in workloads))
    mesh: MeshConfig = draw(st.sampled_from([DEFAULT_MESH, ALIASED]))
    return NodeProxy(workloads, peers, mesh)


def held(cache: ResourceCache) -> dict[str, dict[str, bytes]]:
    return {
        kind: {name: resource.body for name, resource in sorted(cache.view(PROXY).by_type.get(kind, {}).items())}
        for kind in (CLUSTER, LISTENER)
    }


@given(st.lists(nodes(), min_size=1, max_size=5))
def test_after_any_changes_the_cache_holds_what_rendering_anew_gives(steps: list[NodeProxy]) -> None:
    cache = ResourceCache()
    configuration = NodeConfiguration(cache, proxy=PROXY)
    for node in steps:
        before = held(cache)
        said = configuration.configure(node.workloads, peers=node.peers, mesh=node.mesh)
        after = held(cache)
        assert after == {kind: dict(bodies) for kind, bodies in render_node(node).items()}
        assert said == {
            name
            for kind in after
            for name in before[kind].keys() | after[kind].keys()
            if before[kind].get(name) != after[kind].get(name)
        }
        assert configuration.identities() == {workload.identity for workload in node.workloads}


@given(nodes())
def test_what_is_the_same_is_not_pushed(node: NodeProxy) -> None:
    configuration = NodeConfiguration(ResourceCache(), proxy=PROXY)
    configuration.configure(node.workloads, peers=node.peers, mesh=node.mesh)
    assert configuration.configure(node.workloads, peers=node.peers, mesh=node.mesh) == frozenset()
