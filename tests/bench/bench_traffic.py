"""Traffic through the sidecars against Envoys configured by hand: PYTHONPATH=tests python tests/bench/bench_traffic.py

    load -> client's Envoy -> server's Envoy -> application        (see sidecar_paths.py, handwritten/)

How ways are compared is in turns.py. What counts of the processor time is that of the server's proxy.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from bench.loader import BULK, KEPT, NEW, said_of_load
from bench.sidecar_paths import BOTH_HBONE, BY_HAND, PERMISSIVE, PLAIN, STRICT, all_ways
from bench.turns import Columns, compare

COLUMNS = Columns(
    short={BY_HAND: "by hand", PLAIN: "plain"},
    frugal=BY_HAND,
    whose="server",
    goals={
        (KEPT, STRICT, BY_HAND): 0.98,
        (KEPT, PERMISSIVE, BY_HAND): 0.95,
        (NEW, STRICT, BY_HAND): 0.97,
        (BULK, STRICT, BY_HAND): 0.98,
        (BULK, PERMISSIVE, BY_HAND): 0.95,
        (BULK, BOTH_HBONE, BY_HAND): 0.90,
    },
)


async def run(*, rounds: int, seconds: float) -> None:
    print(said_of_load(seconds))
    with tempfile.TemporaryDirectory() as folder:
        async with all_ways(Path(folder)) as ways:
            for load in (KEPT, NEW, BULK):
                await compare(load, ways, COLUMNS, rounds=rounds, seconds=seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="as short as can be: whether it runs, not what it costs")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    asyncio.run(run(rounds=1, seconds=0.05) if options.quick else run(rounds=options.rounds, seconds=1))


if __name__ == "__main__":
    main()
