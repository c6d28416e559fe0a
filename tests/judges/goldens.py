"""Rendered Envoy configurations held against golden files, and against Envoy's own opinion of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from google.protobuf import json_format

from peerauth.agent.envoy import find_envoy
from peerauth.dataplane.envoy.bootstrap import Sockets, bootstrap
from peerauth.dataplane.resources import Resources
from peerauth.dataplane.type_urls import CLUSTER, LISTENER

PARSERS = {CLUSTER: cluster_pb2.Cluster.FromString, LISTENER: listener_pb2.Listener.FromString}


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


def check(resources: Resources, golden: Path, *, update: bool) -> None:
    """Fails unless the resources are the golden ones, which an update makes them."""
    text = yaml.safe_dump(without_log_fields(readable(resources)), sort_keys=True, width=120)
    if update:
        golden.write_text(text)
    assert golden.read_text() == text


def complaints(resources: Resources, folder: Path) -> str:
    """What Envoy has against the resources: an error, or a warning about a deprecated or doubtful setting."""
    sockets = Sockets(admin=f"{folder}/admin", xds=f"{folder}/xds", sds=f"{folder}/sds")
    config = json.loads(bootstrap("test", cluster="test", sockets=sockets))
    for key, found in readable(resources).items():
        config["static_resources"].setdefault(key, []).extend(found)
    path = folder / "envoy.json"
    path.write_text(json.dumps(config))
    checked = subprocess.run(
        [find_envoy(), "--mode", "validate", "--config-path", path, "--log-level", "warning"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return checked.stderr if checked.returncode or "warning" in checked.stderr else ""
