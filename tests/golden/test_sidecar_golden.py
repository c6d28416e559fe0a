"""Each folder here with a `sidecar.yaml` is a case: the sidecar to render, and beside it what it must become.

After a wanted change: `pytest tests/golden --update-golden`, and read the difference. The fields of the access log are
left out of the golden files (they are everywhere and are tested with `telemetry.envoy`).
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml

from judges import goldens
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.envoy.sidecar_values import SidecarWorkload

CASES = sorted(path.parent for path in Path(__file__).parent.glob("*/sidecar.yaml"))


def workload(case: Path) -> SidecarWorkload:
    return msgspec.convert(yaml.safe_load((case / "sidecar.yaml").read_text()), SidecarWorkload)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rendered_sidecar_is_the_golden_one(case: Path, update_golden: bool) -> None:
    goldens.check(render_sidecar(workload(case)), case / "envoy.golden.yaml", update=update_golden)


@pytest.mark.envoy
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_envoy_accepts_the_rendered_sidecar(case: Path, tmp_path: Path) -> None:
    assert goldens.complaints(render_sidecar(workload(case)), tmp_path) == ""


def test_there_are_cases() -> None:
    assert CASES
