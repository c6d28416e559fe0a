"""What an Envoy counts: configurations that it took, handshakes that failed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from peerauth.agent.admin import ask

STANDS_STILL = (
    "listener_manager.listener_added",
    "listener_manager.listener_modified",
    "listener_manager.listener_in_place_updated",
    "listener_manager.listener_removed",
    "listener_manager.total_listeners_draining",
    "listener_manager.total_filter_chains_draining",
    "cluster_manager.cluster_added",
    "cluster_manager.cluster_modified",
    "cluster_manager.cluster_removed",
)
"""What moves in an Envoy when it takes a configuration that is not the one it has."""


async def envoy_stats(admin: Path) -> dict[str, int]:
    """The counters and gauges of an Envoy."""
    answer = await ask(admin, "/stats?format=json")
    return {each["name"]: each["value"] for each in json.loads(answer.body)["stats"] if "name" in each}


def failed_handshakes(stats: Mapping[str, int]) -> dict[str, int]:
    """What an Envoy counts when a handshake fails, by listener or cluster."""
    kinds = ("connection_error", "fail_verify_no_cert", "fail_verify_error", "fail_verify_san")
    return {
        name: value
        for name, value in stats.items()
        if name.startswith(("listener.", "cluster.")) and name.endswith(kinds)
    }
