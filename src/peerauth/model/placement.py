"""Where a workload runs, as whoever runs it says: data like any other, upserted by its own source.

Documents say what is to run; a placement says where it does, whose proxy is there, and how connections get to it.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from peerauth.model.inventory import WorkloadKey


class Capture(StrEnum):
    """How connections get to the proxy.

    EXPLICIT: it binds the workload's own address and declared ports. TRANSPARENT: the workload's network namespace
    redirects whatever arrives or leaves.
    """

    EXPLICIT = "explicit"
    TRANSPARENT = "transparent"


class Captor(StrEnum):
    """Whose proxy connections are led to: nobody's, one of the workload's own, or the node's."""

    NOBODY = "nobody"
    SIDECAR = "sidecar"
    NODE = "node"


class Placement(msgspec.Struct, frozen=True, gc=False):
    """Where one workload runs: its node, and the literal addresses that it has there, whatever its document says.

    `application` is the address at which its application listens in explicit capture, where the workload's own belong
    to the proxy. `network_namespace` is the path of its network namespace, empty where it has none of its own; a path
    must not come to mean another namespace while a proxy uses it.
    """

    workload: WorkloadKey
    node: str
    addresses: tuple[str, ...]
    capture: Capture
    captor: Captor = Captor.NOBODY
    application: str = ""
    network_namespace: str = ""
