"""What a node's Envoy is rendered from: the workloads that it serves.

Values only. Two equal values are the same bytes, so a caller may cache by them. Addresses are literals.
"""

from __future__ import annotations

import msgspec

from peerauth.identity.spiffe import SpiffeId
from peerauth.model.inventory import WorkloadKey
from peerauth.model.mesh import DEFAULT_MESH, MeshConfig
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode


class NodeWorkload(msgspec.Struct, frozen=True):
    """One ambient workload of the node.

    `namespace` is the path of its network namespace. A path must not come to mean another namespace while a proxy uses
    it: whoever makes a namespace anew gives it a new path. `ports` are those that the workload declares.

    Without a namespace (explicit capture) the proxy binds the workload's own addresses, on 15008 and on `ports` alone,
    and the application listens on the same ports of the address `application`.
    """

    key: WorkloadKey
    identity: SpiffeId
    addresses: tuple[str, ...]
    decision: Decision
    namespace: str = ""
    ports: tuple[int, ...] = ()
    application: str = ""

    def mode_in_force(self, port: int | None) -> EffectiveMode:
        """What plaintext meets on a port, declared or not; None is every port that no policy names."""
        return Dataplane.AMBIENT.in_force(self.decision.mode_of(port))


class NodeProxy(msgspec.Struct, frozen=True):
    """One node: its own workloads, and the mesh's ranges of addresses, as prefixes (what is asked about)."""

    workloads: tuple[NodeWorkload, ...] = ()
    ranges: tuple[str, ...] = ()
    mesh: MeshConfig = DEFAULT_MESH
