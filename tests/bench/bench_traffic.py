"""Traffic through the sidecars against Envoys configured by hand: PYTHONPATH=tests python tests/bench/bench_traffic.py

    load -> client's Envoy -> server's Envoy -> application        (see sidecar_paths.py, handwritten/)

All ways take turns in every round; a ratio is the median over the rounds of the ratio inside a round. Rates share the
machine's processors among load, application and both proxies, so that they flatter whoever is compared; the processor
time of the server's proxy for each request does not. Access logs are written to /dev/null.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.loader import WRK, Load, put
from bench.sidecar_paths import BIG, Way, all_ways

KEPT = Load("requests on 64 kept connections", "/small", 64)
NEW = Load("a connection for each request, 16 at a time", "/small", 16, reconnect=True)
BULK = Load("answers of 1 MB on 4 connections", "/big", 4)
GOALS = {
    (KEPT, "STRICT server"): 0.98,
    (KEPT, "PERMISSIVE server"): 0.95,
    (NEW, "STRICT server"): 0.97,
    (BULK, "STRICT server"): 0.98,
    (BULK, "PERMISSIVE server"): 0.95,
    (BULK, "STRICT, both ends, HBONE"): 0.90,
}
"""Of what is by hand, in rate."""


class Taken(NamedTuple):
    """One turn: answers a second, and microseconds of the server's proxy for each."""

    rate: float
    processor: float


def processor_seconds(process: int) -> float:
    """What all threads of a process have used."""
    threads = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


async def turn(way: Way, load: Load, *, seconds: float) -> Taken:
    before = processor_seconds(way.server)
    answers, taken = await put(load, port=way.port, seconds=seconds)
    used = processor_seconds(way.server) - before
    return Taken(answers / taken, used / max(1, answers) * 1e6)


def report(load: Load, ways: Sequence[Way], rounds: Sequence[Sequence[Taken]]) -> None:
    """`rounds` has each round's turns, in the order of `ways`: plaintext, by hand, then peerauth's."""

    def ratio(way: int, base: int, of: Callable[[Taken], float]) -> float:
        return median(of(turns[way]) / of(turns[base]) for turns in rounds)

    big = load is BULK
    unit = "Gbit/s" if big else "per s"
    print(f"{'':28}{unit:>9}{'/ by hand':>11}{'/ plain':>9}{'server us':>11}{'by hand /':>11}")
    for at, way in enumerate(ways):
        rate = median(turns[at].rate for turns in rounds) * (BIG * 8 / 1e9 if big else 1)
        cost = median(turns[at].processor for turns in rounds)
        by_hand, plain = (ratio(at, base, lambda one: one.rate) for base in (1, 0))
        frugal = 1 / ratio(at, 1, lambda one: one.processor)
        goal = f"  goal {GOALS[load, way.name]}" if (load, way.name) in GOALS else ""
        shown = f"{rate:9.2f}" if big else f"{rate:9.0f}"
        print(f"{way.name:28}{shown}{by_hand:11.3f}{plain:9.3f}{cost:11.1f}{frugal:11.3f}{goal}")


async def run(*, rounds: int, seconds: float) -> None:
    print("load by wrk" if WRK and seconds >= 1 else "load by Python: mind the server's microseconds, not the rates")
    with tempfile.TemporaryDirectory() as folder:
        async with all_ways(Path(folder)) as ways:
            for load in (KEPT, NEW, BULK):
                print(f"\n{load.name}, {rounds} rounds of {seconds:g} s")
                for way in ways:
                    await turn(way, load, seconds=min(1, seconds))  # warm, and not counted
                turns = [[await turn(way, load, seconds=seconds) for way in ways] for _ in range(rounds)]
                report(load, ways, turns)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="as short as can be: whether it runs, not what it costs")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    asyncio.run(run(rounds=1, seconds=0.05) if options.quick else run(rounds=options.rounds, seconds=1))


if __name__ == "__main__":
    main()
