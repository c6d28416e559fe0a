"""The node's proxy with more and more workloads: PYTHONPATH=tests python tests/bench/bench_node.py [--quick]

A real Envoy for each size, told by the control plane as in the product (node_bed.py): what it takes in memory, how long
until it listens, what a destination takes that it has dialled, and how long a change takes until it is acknowledged.
The sizes take turns in every round; a ratio is that of medians, to the smallest size. The remote workload that comes
and goes is one that the node has dialled. Times are in milliseconds; `decide` and `render` are the control plane's,
`envoy` is from there to the acknowledgement, `CPU` Envoy's processor time on all threads until then.

Three things are asserted, because they are no times: a changed policy of one workload changes one resource; it and a
remote workload that comes or goes make no listener drain; the latter closes no filter chain either.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.node_bed import (
    LOCAL_NAMESPACE,
    SOURCE,
    Bed,
    Started,
    Taken,
    local_workload,
    places_for,
    remote_workload,
)
from peerauth.agent.netns import unsupported
from peerauth.model.changes import Change, Delete, Upsert, ref_of
from rigs.envoyrig import Authority
from samples.meshes import policy

Say = Callable[[Bed, int], Change]
MODES = ("STRICT", "PERMISSIVE")
APART = 4_000
"""The distance between the first workloads of two beds: more than either has."""
POLICY = "a workload's policy changes"
REMOTE_COMES = "a remote workload comes"
REMOTE_GOES = "a remote workload goes"
LOCAL_COMES = "a workload of the node comes"
LOCAL_GOES = "a workload of the node goes"
GOALS = {POLICY: "for Envoy 1.3, 1024 bytes"} | dict.fromkeys((REMOTE_COMES, REMOTE_GOES), "3 ms of CPU, 1024 bytes")
STEPS = ("decide", "render", "envoy")


class Size(NamedTuple):
    """How many workloads a node has, and how many the rest of its mesh."""

    local: int
    remote: int


class Sizes(NamedTuple):
    """The nodes, the smallest first, and how many destinations the first of them dials."""

    nodes: tuple[Size, ...]
    dialled: int
    rounds: int


Bench = dict[str, dict[Size, list[Taken]]]
"""By kind of change and node."""


async def measure(beds: Mapping[Size, Bed], sizes: Sizes) -> Bench:
    """Nothing stays in a bed that was not there. Raises SystemExit if a change was more than it may be."""

    def one_policy(bed: Bed, number: int) -> Change:
        selector = {"app": local_workload(bed.first).meta.name}
        return Upsert(SOURCE, policy(f"{LOCAL_NAMESPACE}/bench", MODES[number % 2], selector=selector))

    remote: dict[str, Say] = {
        REMOTE_GOES: lambda bed, _: Delete(SOURCE, ref_of(remote_workload(bed.remote - 1))),
        REMOTE_COMES: lambda bed, _: Upsert(SOURCE, remote_workload(bed.remote - 1)),
    }
    local: dict[str, Say] = {
        LOCAL_COMES: lambda bed, _: Upsert(SOURCE, local_workload(bed.spare)),
        LOCAL_GOES: lambda bed, _: Delete(SOURCE, ref_of(local_workload(bed.spare))),
    }
    for bed in beds.values():
        await bed.dial([bed.remote - 1])
    taken = await turns(beds, remote, rounds=sizes.rounds)
    await turns(beds, {POLICY: one_policy}, rounds=2)  # with the first there is a policy that was not
    taken |= await turns(beds, {POLICY: one_policy}, rounds=4 * sizes.rounds)
    for name, by_size in taken.items():
        check(name, [one for each in by_size.values() for one in each])
    return taken | await turns(beds, local, rounds=sizes.rounds)


async def turns(beds: Mapping[Size, Bed], says: Mapping[str, Say], *, rounds: int) -> Bench:
    taken: Bench = {name: {size: [] for size in beds} for name in says}
    for number in range(rounds):
        for name, say in says.items():
            for size, bed in beds.items():
                taken[name][size].append(await bed.take(say(bed, number)))
    return taken


def check(name: str, taken: Sequence[Taken]) -> None:
    """Raises SystemExit if one of these changes was more than a change in place of one resource."""
    for one in taken:
        if len(one.names) != 1:
            raise SystemExit(f"{name}: {sorted(one.names)} changed")
        if one.draining.listeners or (one.draining.chains and name != POLICY):
            raise SystemExit(f"{name}: {one.draining} are draining")


def report(name: str, by_size: Mapping[Size, Sequence[Taken]]) -> None:
    """One row for each size."""
    print(f"\n{name}")
    steps = "".join(f"{step:>9}" for step in STEPS)
    print(
        f"{'local':>7}{'remote':>8}{steps}{'ratio':>7}{'all':>9}{'ratio':>7}{'CPU':>8}{'ratio':>7}{'resources':>11}{'bytes':>9}"
    )
    smallest = next(iter(by_size.values()))

    def shown(each: Sequence[Taken], of: Callable[[Taken], float]) -> str:
        middle = median(map(of, each))
        return f"{middle * 1e3:9.2f}{middle / median(map(of, smallest)):7.2f}"

    for size, each in by_size.items():
        control = "".join(f"{median(getattr(one, step) for one in each) * 1e3:9.2f}" for step in STEPS[:-1])
        print(
            f"{size.local:7}{size.remote:8}{control}"
            f"{shown(each, lambda one: one.envoy)}{shown(each, lambda one: one.whole)}"
            f"{shown(each, lambda one: one.processor)[1:]}{len(each[0].names):11}"
            f"{median(one.wire for one in each):9.0f}"
            + (f"  goal {GOALS[name]}" if name in GOALS and each is not smallest else "")
        )


def report_started(started: Sequence[Started]) -> None:
    """Each has more than the one before it of one thing; the first has no remote workloads."""
    alone, least, *_ = started
    print(f"{'local':>7}{'remote':>8}{'MB':>8}{'ratio':>7}{'open files':>12}{'ready s':>9}{'KB for each':>13}")
    for each, before in zip(started, [alone, *started], strict=False):
        slope = ""
        if each.remote > before.remote:
            slope = f"{(each.resident - before.resident) / (each.remote - before.remote) / 1024:13.2f} remote one"
        elif each.local > before.local:
            slope = f"{(each.resident - before.resident) / (each.local - before.local) / 1024:13.2f} local one"
        print(
            f"{each.local:7}{each.remote:8}{each.resident / 1e6:8.1f}{each.resident / least.resident:7.2f}"
            f"{each.files:12}{each.seconds:9.2f}{slope}"
        )


async def report_dialled(bed: Bed, number: int) -> None:
    """What destinations take that were dialled, each once."""
    await bed.dial(range(number // 10))  # with the first there is what all share
    before = bed.resident()
    await bed.dial(range(number // 10, number))
    each = (bed.resident() - before) / (number - number // 10) / 1024
    print(f"\nKB for each of {number} remote workloads once it was dialled: {each:.2f}")


async def run(sizes: Sizes) -> None:
    starts = [Size(sizes.nodes[0].local, 0), *sizes.nodes]
    blocks = [range(at * APART, at * APART + size.local + 1) for at, size in enumerate(starts)]
    reason, authority = unsupported(), Authority()
    print(f"explicit capture, for {reason}" if reason else "each local workload in a network namespace of its own")
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        places = await stack.enter_async_context(places_for(blocks))
        beds: dict[Size, Bed] = {}
        started: list[Started] = []
        for size, block in zip(starts, blocks, strict=True):
            own = folder / f"{size.local}-{size.remote}"
            own.mkdir()
            bed = Bed(own, {number: places[number] for number in block}, authority)
            stack.push_async_callback(bed.stop)
            started.append(await bed.start(size.remote))
            if size.remote:
                beds[size] = bed
            else:
                await bed.stop()
        report_started(started)
        for name, by_size in (await measure(beds, sizes)).items():
            report(name, by_size)
        if not reason:
            await report_dialled(beds[sizes.nodes[0]], sizes.dialled)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="as short as can be: whether it runs, not what it costs")
    small = Sizes((Size(2, 10), Size(2, 20), Size(5, 20)), dialled=10, rounds=2)
    nodes = (Size(10, 1_000), Size(10, 10_000), Size(100, 10_000), Size(1_000, 10_000))
    asyncio.run(run(small if parser.parse_args().quick else Sizes(nodes, dialled=1_000, rounds=12)))


if __name__ == "__main__":
    main()
