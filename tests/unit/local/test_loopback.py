"""A workload keeps its place, and no two share one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peerauth.local.loopback import LoopbackPlan
from peerauth.model.inventory import WorkloadKey

KEYS = st.sets(st.integers(0, 600).map(lambda n: WorkloadKey("foo", f"w{n}")), max_size=300)


@given(first=KEYS, more=KEYS, instance=st.integers(0, 39))
def test_places_are_distinct_and_stay(first: set[WorkloadKey], more: set[WorkloadKey], instance: int) -> None:
    plan = LoopbackPlan(instance)
    before = plan.place(first)
    after = plan.place(first | more)
    assert {key: after[key] for key in first} == before
    addresses = [address for place in after.values() for address in (place.address, place.application)]
    assert len(set(addresses)) == len(addresses)
    assert all(address.startswith("127.") and not address.endswith((".0", ".255")) for address in addresses)


def test_runs_do_not_share_addresses() -> None:
    key = WorkloadKey("foo", "a")
    assert LoopbackPlan(0).place([key]) != LoopbackPlan(1).place([key])
    blocks = {
        place.split(".")[1]
        for n in range(40)
        for p in LoopbackPlan(n).place([key]).values()
        for place in (p.address, p.application)
    }
    assert len(blocks) == 80
