"""The whole configuration of one sidecar."""

from __future__ import annotations

from peerauth.dataplane.resources import Resources, SidecarWorkload


def render_sidecar(workload: SidecarWorkload) -> Resources:
    """All resources of one sidecar, serialized: clusters, then listeners. Equal workloads give equal bytes."""
    raise NotImplementedError
