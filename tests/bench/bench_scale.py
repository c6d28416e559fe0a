"""What a change costs, whatever the mesh: PYTHONPATH=tests python tests/bench/bench_scale.py [--quick]

One control plane as in the product, in a process of its own (scale_mesh.py), and a simulated sidecar for each of its
sockets (simulated_proxies.py); 20 of them have asked for the workloads, the pod and the Service that change. Processor
time is that of the control plane's process with all its threads, elapsed time ends with the last acknowledgement.
`held` is the longest that its event loop did not turn, elapsed and in processor time of its thread: on a machine that
others use, the latter says what the code did. Ratios are of medians of processor time, to the smallest mesh; those of
the mesh's policy are for each sidecar. All sizes take turns in every round.

    --before CHECKOUT          another version of the product, with a .venv, which takes turns too
    --sizes SIDECARS:WORKLOADS ...

Asserted, because it is no time: a proxy whose workload is not what changes, and which has not asked for it, receives
not one byte.

Beside it stand figures of istiod, with 50 and 500 proxies, which were measured elsewhere (istiod.py).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

import msgspec

from bench.istiod import ISTIOD, ISTIOD_MB_FOR_EACH, RECONNECT
from bench.scale_mesh import COMES, DISABLED, ENDPOINT_CHANGES, GOES, OF_MESH, OF_NAMESPACE, OF_WORKLOAD, Cost
from bench.simulated_proxies import SimulatedProxies
from bench.versions import THIS, Version, versions

PER_NAMESPACE = 20
TURNS = ((OF_MESH,), (OF_NAMESPACE,), (OF_WORKLOAD,), (DISABLED,), (GOES, COMES), (ENDPOINT_CHANGES,))
"""What takes turns with itself, and what with another."""
Size = tuple[int, int]
"""Sidecars and workloads."""
SIZES = tuple((sidecars, workloads) for workloads in (10_000, 100_000) for sidecars in (100, 1_000, 5_000))
BESIDE_ISTIOD = ((50, 50), (500, 500))


class Subject(NamedTuple):
    """What is compared: a version and a size."""

    version: Version
    sidecars: int
    workloads: int
    per_namespace: int


class Taken(NamedTuple):
    """One change. `told` are bytes to those whom it concerns, `reached` how many of them received any; `others` are
    bytes to the other proxies.
    """

    cost: Cost
    reached: int
    told: int
    others: int


class Bed:
    """One mesh and its sidecars."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    async def start(self, stack: contextlib.AsyncExitStack) -> None:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        version = self.subject.version
        script = str(version.checkout / "tests" / "bench" / "scale_mesh.py")
        self._control = await asyncio.create_subprocess_exec(
            *(version.python, script, folder, *map(str, self.subject[1:])),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=version.environment(),
            limit=1 << 26,
        )
        stack.push_async_callback(self._stop)
        there = json.loads(await self._line())
        self._sockets: list[str] = there["sockets"]
        self.kinds: Mapping[str, Sequence[int]] = there["kinds"]
        self.load = msgspec.convert(there["load"], Cost)
        self._proxies = await SimulatedProxies.start(self._sockets)
        stack.push_async_callback(self._proxies.stop)
        self.connected = await self._order({"settle": True})
        await self._proxies.ask({self._sockets[int(at)]: names for at, names in there["ask"].items()})
        self._had = await self._proxies.quiet()

    async def take(self, kind: str, number: int) -> Taken:
        cost = await self._order({"change": kind, "number": number})
        return await self._taken(cost, concerned=self.kinds[kind])

    async def end(self, kind: str) -> None:
        await self._order({"end": kind})
        self._had = await self._proxies.quiet()

    async def reconnect(self) -> Taken:
        await self._order({"expect": True})
        await self._proxies.reconnect()
        cost = await self._order({"settle": True})
        return await self._taken(cost, concerned=range(len(self._sockets)))

    async def _taken(self, cost: Cost, *, concerned: Sequence[int]) -> Taken:
        before, after = self._had, await self._proxies.quiet()
        self._had = after
        told = {self._sockets[each] for each in concerned}
        new = {path: after[path].payload - before[path].payload for path in self._sockets}
        others = sum(count for path, count in new.items() if path not in told)
        return Taken(cost, sum(bool(new[path]) for path in told), sum(new[path] for path in told), others)

    async def _order(self, order: object) -> Cost:
        assert self._control.stdin is not None
        self._control.stdin.write(json.dumps(order).encode() + b"\n")
        return msgspec.json.decode(await self._line(), type=Cost)

    async def _line(self) -> bytes:
        assert self._control.stdout is not None
        if not (line := await self._control.stdout.readline()):
            raise SystemExit(f"the control plane of {self.subject} ended")
        return line

    async def _stop(self) -> None:
        self._control.kill()
        await self._control.wait()


Bench = dict[str, dict[Subject, list[Taken]]]


async def measure(beds: Sequence[Bed], *, rounds: int) -> Bench:
    """Every kind of change in every bed. The first two of a kind are not counted: they bring what was not there."""
    taken: Bench = {kind: {bed.subject: [] for bed in beds} for turns in TURNS for kind in turns}
    for turns in TURNS:
        for number in range(rounds + 2):
            for kind in turns:
                for bed in beds:
                    taken[kind][bed.subject].append(await bed.take(kind, number))
        for kind in turns:
            for bed in beds:
                await bed.end(kind)
                del taken[kind][bed.subject][:2]
    return taken


def check(kind: str, taken: Sequence[Taken]) -> None:
    """Raises SystemExit if a proxy received something that it had not asked for."""
    if others := max(one.others for one in taken):
        raise SystemExit(f"{kind}: {others} bytes to proxies that it does not concern")


def report(kind: str, by_subject: Mapping[Subject, Sequence[Taken]]) -> None:
    """One row for each size and version."""
    print(f"\n{kind}")
    print(
        f"{'sidecars':>9}{'workloads':>11}{'reached':>9}{'CPU ms':>9}{'ratio':>7}{'elapsed ms':>12}"
        f"{'held ms':>9}{'(CPU)':>8}{'bytes to each':>15}{'to others':>11}"
    )
    base: dict[Version, float] = {}
    for subject, taken in by_subject.items():
        processor = median(one.cost.processor for one in taken)
        each = processor / (subject.sidecars if kind == OF_MESH else 1)
        ratio = each / base.setdefault(subject.version, each)
        held, on_processor = (max(getattr(one.cost, of) for one in taken) for of in ("held", "held_processor"))
        reached = median(one.reached for one in taken)
        told = median(one.told / max(1, one.reached) for one in taken)
        print(
            f"{subject.sidecars:9}{subject.workloads:11}{reached:9.0f}{processor * 1e3:9.2f}{ratio:7.2f}"
            f"{median(one.cost.elapsed for one in taken) * 1e3:12.1f}{held * 1e3:9.1f}{on_processor * 1e3:8.1f}"
            f"{told:15.0f}{max(one.others for one in taken):11}  {subject.version}"
        )


def report_beside_istiod(taken: Bench) -> None:
    """What istiod took for the same, and this as a part of it."""
    print(f"\n{'beside istiod':24}{'proxies':>8}{'istiod: kB':>12}{'CPU ms':>8}{'kB':>10}{'CPU ms':>9}", end="")
    print(f"{'of istiod kB':>14}{'CPU':>8}   (goal at most 0.1, the mesh's policy 1)")
    for kind, by_subject in taken.items():
        for subject, each in by_subject.items():
            if (theirs := ISTIOD.get((kind, subject.sidecars))) is None:
                continue
            kilobytes = median(one.told + one.others for one in each) / 1e3
            processor = median(one.cost.processor for one in each) * 1e3
            print(
                f"{kind:24}{subject.sidecars:8}{theirs.kilobytes:12}{theirs.processor:8}{kilobytes:10.1f}"
                f"{processor:9.1f}{kilobytes / theirs.kilobytes:14.4f}{processor / theirs.processor:8.3f}"
                f"  {subject.version}"
            )


def report_started(beds: Sequence[Bed]) -> None:
    """What it took until every sidecar had its first configuration; `MB` is then the control plane's memory."""
    print(
        f"{'sidecars':>9}{'workloads':>11}{'loaded s':>10}{'held s':>8}{'connected s':>13}{'CPU ms each':>13}{'MB':>8}"
    )
    for bed in beds:
        _, sidecars, workloads, _ = bed.subject
        each = bed.connected.processor / sidecars * 1e3
        print(
            f"{sidecars:9}{workloads:11}{bed.load.processor:10.2f}{bed.load.held_processor:8.2f}"
            f"{bed.connected.elapsed:13.2f}{each:13.2f}{bed.connected.resident / 1e6:8.0f}"
            f"  {bed.subject.version}"
        )


def report_memory(beds: Sequence[Bed]) -> None:
    """The slope between the smallest and the largest of each version."""
    for version in dict.fromkeys(bed.subject.version for bed in beds):
        first, *_, last = (bed for bed in beds if bed.subject.version == version)
        more = last.subject.sidecars - first.subject.sidecars
        slope = (last.connected.resident - first.connected.resident) / more / 1e6
        print(f"memory for each proxy: {slope:.3f} MB, {slope / ISTIOD_MB_FOR_EACH:.2f} of istiod's", end="")
        print(f"  {version}")


async def run(subjects: Sequence[Subject], *, rounds: int, beside_istiod: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        beds = [Bed(subject) for subject in subjects]
        for bed in beds:
            await bed.start(stack)
        report_started(beds)
        taken = await measure(beds, rounds=rounds)
        for kind, by_subject in taken.items():
            report(kind, by_subject)
        if beside_istiod:
            taken[RECONNECT] = {bed.subject: [await bed.reconnect()] for bed in beds}
            report_beside_istiod(taken)
            report_memory(beds)
        for kind, by_subject in taken.items():
            check(kind, [one for subject, each in by_subject.items() if subject.version == THIS for one in each])


def size(text: str) -> Size:
    sidecars, workloads = map(int, text.split(":"))
    return sidecars, workloads


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="as short as can be: whether it runs, not what it costs")
    parser.add_argument("--before", default="", metavar="CHECKOUT", help="another version of the product")
    parser.add_argument(
        "--sizes",
        nargs="*",
        type=size,
        default=SIZES,
        metavar="SIDECARS:WORKLOADS",
        help="none: only those beside istiod's",
    )
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    sizes: Sequence[Size] = options.sizes
    beside, rounds = BESIDE_ISTIOD, options.rounds
    if options.quick:
        sizes, beside, rounds = ((5, 20), (10, 40)), ((5, 5), (10, 10)), 1
    for shapes, namespaces in ((sizes, 0), (beside, 5)):
        if subjects := [
            Subject(version, *each, each[0] // namespaces if namespaces else min(PER_NAMESPACE, each[0] // 2))
            for version in versions(options.before)
            for each in shapes
        ]:
            asyncio.run(run(subjects, rounds=rounds, beside_istiod=shapes is beside))


if __name__ == "__main__":
    main()
