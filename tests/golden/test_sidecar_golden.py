"""Each folder here with a `sidecar.yaml` is a case: the sidecar to render, and beside it what it must become.

After a wanted change: `pytest tests/golden --update-golden`, and read the difference. The fields of the access log are
left out of the golden files (they are everywhere and are tested with `peerauth.telemetry`).
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from google.protobuf import json_format

from peerauth.agent.envoy import find_envoy
from peerauth.dataplane.envoy.bootstrap import Sockets, bootstrap
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.resources import CLUSTER, LISTENER, Resources, SidecarWorkload

CASES = sorted(path.parent for path in Path(__file__).parent.glob("*/sidecar.yaml"))
PARSERS = {CLUSTER: cluster_pb2.Cluster.FromString, LISTENER: listener_pb2.Listener.FromString}


def workload(case: Path) -> SidecarWorkload:
    return msgspec.convert(yaml.safe_load((case / "sidecar.yaml").read_text()), SidecarWorkload)


def readable(resources: Resources) -> dict[str, list[dict[str, Any]]]:
    """The resources as Envoy's own YAML would have them."""
    rendered = {}
    for type_url, parse in PARSERS.items():
        key = type_url.rpartition(".")[2].lower() + "s"
        messages = [parse(body) for body in resources[type_url].values()]
        rendered[key] = [json_format.MessageToDict(message, preserving_proto_field_name=True) for message in messages]
    return rendered


def without_log_fields(value: Any) -> Any:
    """The same with the access log's fields replaced by what the log is for."""
    if isinstance(value, list):
        return [without_log_fields(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "json_format" in value:
        fields = value["json_format"]
        return {"json_format": f"<{fields['direction']} {fields['kind']} {fields['event']} of {fields['workload']}>"}
    return {key: without_log_fields(item) for key, item in value.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rendered_sidecar_is_the_golden_one(case: Path, update_golden: bool) -> None:
    text = yaml.safe_dump(without_log_fields(readable(render_sidecar(workload(case)))), sort_keys=True, width=120)
    golden = case / "envoy.golden.yaml"
    if update_golden:
        golden.write_text(text)
    assert golden.read_text() == text


@pytest.mark.envoy
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_envoy_accepts_the_rendered_sidecar(case: Path, tmp_path: Path) -> None:
    sockets = Sockets(admin=f"{tmp_path}/admin", xds=f"{tmp_path}/xds", sds=f"{tmp_path}/sds")
    config = json.loads(bootstrap("test", cluster="test", sockets=sockets))
    for key, resources in readable(render_sidecar(workload(case))).items():
        config["static_resources"].setdefault(key, []).extend(resources)
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(config))
    checked = subprocess.run(
        [find_envoy(), "--mode", "validate", "--config-path", path, "--log-level", "warning"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "warning" not in checked.stderr, "a deprecated or doubtful setting"


def test_there_are_cases() -> None:
    assert CASES
