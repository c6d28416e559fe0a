"""HBONE through the node's Envoy against plaintext and sidecars' mutual TLS: tests/bench/bench_ambient.py [--quick]

    load -> [client's proxy] -> veth, bridge, veth -> [server's proxy] -> application        (see ambient_paths.py)

How ways are compared is in turns.py. What counts of the processor time is that of all proxies on the way, so that two
sidecars and the one Envoy of a node, which is at both ends, mean the same. Needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from bench.ambient_paths import BARE, BOTH_ENDS, HBONE, MUTUAL_TLS, SIDECAR_HBONE, all_ways
from bench.loader import ALONE, BULK, KEPT, NEW, SINGLE, said_of_load
from bench.turns import Columns, compare
from peerauth.agent.netns import unsupported

COLUMNS = Columns(
    short={MUTUAL_TLS: "mTLS", BOTH_ENDS: "plain", BARE: "no proxy"},
    frugal=MUTUAL_TLS,
    whose="proxies",
    goals={(load, way, MUTUAL_TLS): 0.90 for load in (SINGLE, BULK) for way in (HBONE, SIDECAR_HBONE)}
    | {(load, HBONE, BOTH_ENDS): 0.42 for load in (SINGLE, BULK)}
    | {(ALONE, way, MUTUAL_TLS): 0.89 for way in (HBONE, SIDECAR_HBONE)},
)
"""In rate. With one request at a time that is the inverse of the time that each takes: 1 / 1.12."""


async def run(*, rounds: int, seconds: float) -> None:
    print(said_of_load(seconds))
    print("plain: by the node's Envoy at both ends, as HBONE is; no proxy: from namespace to namespace")
    with tempfile.TemporaryDirectory() as folder:
        async with all_ways(Path(folder)) as ways:
            for load in (KEPT, ALONE, NEW, SINGLE, BULK):
                await compare(load, ways, COLUMNS, rounds=rounds, seconds=seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="as short as can be: whether it runs, not what it costs")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if reason := unsupported():
        print(f"no ratio was measured: {reason}")
        return
    asyncio.run(run(rounds=1, seconds=0.05) if options.quick else run(rounds=options.rounds, seconds=1))


if __name__ == "__main__":
    main()
