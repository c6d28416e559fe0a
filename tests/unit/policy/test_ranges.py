"""Which destinations a client's proxy asks for: the private address space, and what documents add to it."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from peerauth.model.changes import Delete, MeshObject, Reset, Upsert, ref_of
from peerauth.model.inventory import Node, Service, ServiceCIDR, Workload
from peerauth.model.world import World
from peerauth.policy.ranges import MeshRanges
from samples.meshes import changes, meta

PRIVATE = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")


def ranges_of(*objects: MeshObject) -> tuple[str, ...]:
    world = World()
    world.apply(Reset("test", objects))
    return MeshRanges(world).ranges


def beyond(*objects: MeshObject) -> list[str]:
    found = ranges_of(*objects)
    assert set(PRIVATE) <= set(found)
    return [block for block in found if block not in PRIVATE]


def at(*addresses: str, name: str = "foo/a") -> Workload:
    return Workload(meta(name), addresses=addresses)


def test_the_private_address_space_is_always_the_meshs() -> None:
    inside = at("10.1.2.3", "fd00::1", "::ffff:10.1.2.3")
    assert ranges_of() == ranges_of(inside, Node(meta("n"), ("10.1.0.0/24", "fd00:1::/64"))) == PRIVATE


def test_addresses_beyond_it_are_so_with_a_block_around_them() -> None:
    said = (at("203.0.113.7", "2001:db8::7"), Service(meta("foo/s"), cluster_ips=("198.51.100.1",)))
    assert beyond(*said) == ["198.51.0.0/16", "203.0.0.0/16", "2001:db8::/64"]


def test_blocks_of_nodes_and_services_are_so_as_they_stand() -> None:
    said = (
        Node(meta("n"), ("203.0.113.0/24", "2001:db8:1::/80")),
        ServiceCIDR(meta("kubernetes"), ("198.51.100.0/26",)),
    )
    assert beyond(*said) == ["198.51.100.0/26", "203.0.113.0/24", "2001:db8:1::/80"]


def test_what_never_leaves_the_host_or_is_no_address_is_not() -> None:
    assert beyond(at("127.0.0.1", "169.254.0.1", "::1", "fe80::1", "::", "vm.example", "224.0.0.1")) == []


def test_blocks_within_others_are_not_told_apart_and_neighbours_are() -> None:
    blocks = ServiceCIDR(meta("kubernetes"), ("203.0.113.0/25", "203.0.113.128/25", "203.0.113.64/26"))
    assert beyond(blocks) == ["203.0.113.0/25", "203.0.113.128/25"]


def test_one_more_address_of_a_block_is_no_news_and_neither_is_one_less() -> None:
    world = World()
    found = MeshRanges(world)
    assert found.update(world.apply(Upsert("test", at("203.0.113.7"))))
    for change in (Upsert("test", at("203.0.9.9", name="foo/b")), Delete("test", ref_of(at()))):
        assert not found.update(world.apply(change))
        assert "203.0.0.0/16" in found.ranges
    assert found.update(world.apply(Reset("test")))
    assert found.ranges == PRIVATE


_addresses = st.lists(st.sampled_from(["10.0.0.1", "203.0.113.7", "203.0.1.1", "2001:db8::7"]), max_size=2).map(tuple)
_blocks = st.lists(st.sampled_from(["203.0.0.0/16", "203.0.0.0/15", "2001:db8::/32", "10.0.0.0/24"]), max_size=2).map(
    tuple
)
_names = st.sampled_from(["foo/a", "foo/b"])
_said: st.SearchStrategy[MeshObject] = st.one_of(
    st.builds(Workload, _names.map(meta), addresses=_addresses),
    st.builds(Service, _names.map(meta), cluster_ips=_addresses),
    st.builds(Node, _names.map(meta), _blocks),
    st.builds(ServiceCIDR, _names.map(meta), _blocks),
)


@given(st.lists(st.lists(changes(_said), max_size=3), max_size=6))
def test_ranges_are_what_they_would_be_if_everything_were_read_afresh(steps: Sequence[Sequence[Upsert]]) -> None:
    world = World()
    found = MeshRanges(world)
    for step in steps:
        before = found.ranges
        differs = found.update(world.apply(*step))
        assert found.ranges == MeshRanges(world).ranges
        assert differs == (before != found.ranges)
