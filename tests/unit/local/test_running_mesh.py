"""Another process finds the runs that live, and only those."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from peerauth.local.instance import claim
from peerauth.local.running_mesh import FILE, RunningMesh, RunningWorkload, find, publish
from peerauth.model.inventory import WorkloadKey

MESH = RunningMesh(
    pid=os.getpid(),
    capture="explicit",
    paths=("/mesh.yaml",),
    trust_domain="cluster.local",
    authority="/state/ca/cluster.local",
    outside="",
    workloads=(RunningWorkload(WorkloadKey("foo", "finance", "Deployment"), ("127.64.0.1",), (8080,)),),
)


def test_what_is_published_is_found_while_the_run_lives(tmp_path: Path) -> None:
    with claim(tmp_path / "run") as instance:
        assert list(find(tmp_path / "run")) == []
        publish(MESH, folder=instance.folder)
        assert list(find(tmp_path / "run")) == [MESH]
        assert stat.S_IMODE((instance.folder / FILE).stat().st_mode) == 0o600
    assert list(find(tmp_path / "run")) == []


def test_a_run_that_died_is_not_found(tmp_path: Path) -> None:
    with claim(tmp_path / "run") as instance:
        publish(MESH, folder=instance.folder)
        left = (instance.folder / FILE).read_bytes()
    instance.folder.mkdir()
    (instance.folder / FILE).write_bytes(left)
    assert list(find(tmp_path / "run")) == []


def test_nothing_runs_where_nothing_ever_ran(tmp_path: Path) -> None:
    assert list(find(tmp_path / "never")) == []
