"""Each folder here with a `node.yaml` is a case: the node to render, and beside it what its Envoy must be told.

After a wanted change: `pytest tests/golden --update-golden`, and read the difference.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml

from judges import goldens
from peerauth.dataplane.ambient.node import NodeProxy, render_node

CASES = sorted(path.parent for path in Path(__file__).parent.glob("*/node.yaml"))


def node(case: Path) -> NodeProxy:
    return msgspec.convert(yaml.safe_load((case / "node.yaml").read_text()), NodeProxy)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rendered_node_is_the_golden_one(case: Path, update_golden: bool) -> None:
    goldens.check(render_node(node(case)), case / "envoy.golden.yaml", update=update_golden)


@pytest.mark.envoy
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_envoy_accepts_the_rendered_node(case: Path, tmp_path: Path) -> None:
    assert goldens.complaints(render_node(node(case)), tmp_path) == ""


def test_there_are_cases() -> None:
    assert CASES
