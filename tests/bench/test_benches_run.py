"""Every benchmark runs, as small as it goes: what it says of speed is looked at by people, that it works by this."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
RUNNER = FOLDER.parents[1] / "tools" / "bench.py"
NEED_ENVOY = {"ambient", "change", "dial", "node", "traffic"}
NEED_ROOT = {"ambient", "dial", "node"}
"""For namespaces: without them `node` does without, and the others say why they measure nothing."""
NAMES = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RUNNER), "--quick", *arguments], capture_output=True, text=True, timeout=100, check=False
    )


def marks(name: str) -> list[pytest.MarkDecorator]:
    return [mark for mark, names in ((pytest.mark.envoy, NEED_ENVOY), (pytest.mark.root, NEED_ROOT)) if name in names]


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in NAMES])
def test_a_benchmark_runs_and_prints_a_ratio(name: str) -> None:
    ran = bench(name)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert not ran.stderr
    _, heading, table = ran.stdout.partition(f"\n== {name}: ")
    assert heading
    assert "ratio" in table or " /" in table


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    ran = bench("nothing")
    assert ran.returncode == 2
    assert all(name in ran.stderr for name in NAMES)


def test_a_benchmark_that_fails_fails_the_run_and_does_not_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bench_broken.py").write_text('"""Broken."""\nraise SystemExit(3)\n')
    (tmp_path / "bench_whole.py").write_text('"""Whole."""\nprint("ran")\n')
    runner = runpy.run_path(str(RUNNER))
    monkeypatch.setitem(runner["benchmarks"].__globals__, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench"])
    assert runner["main"]() == 1
    said = capfd.readouterr()
    assert "ran" in said.out
    assert "failed: broken" in said.err
