"""What a sidecar is rendered from. Values only.

`SidecarWorkload` holds everything one sidecar's configuration depends on, and nothing else: two equal values are the
same bytes, so a caller may cache by it. Endpoints are address literals or socket paths, never names: resolving is the
caller's.
"""

from __future__ import annotations

import msgspec

from peerauth.identity.spiffe import SpiffeId
from peerauth.model.endpoint import Endpoint
from peerauth.model.inventory import WorkloadKey
from peerauth.model.mesh import DEFAULT_MESH, MeshConfig
from peerauth.model.placement import Capture
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.decision import Decision


class ApplicationPort(msgspec.Struct, frozen=True, order=True):
    """A port the workload says it listens on, and where the application really does.

    `endpoint` None is the workload's own address and the same port, which only TRANSPARENT capture can reach: in
    EXPLICIT capture the sidecar itself is there, so such a port refuses every connection.
    """

    number: int
    endpoint: Endpoint | None = None


class EgressPort(msgspec.Struct, frozen=True):
    """A listener of the sidecar for its own application's outgoing connections (explicit capture).

    `name` tells two listeners of one sidecar apart and appears in statistics; usually the host it stands for.
    """

    name: str
    bind: str
    port: int
    endpoints: tuple[DestinationEndpoint, ...] = ()


class SidecarWorkload(msgspec.Struct, frozen=True):
    """One workload as its sidecar sees it. `addresses` are the workload's own literals, IPv4 or IPv6.

    `ranges` are the mesh's addresses, as prefixes: what TRANSPARENT capture asks about when the application dials it.
    `egress` are the listeners the application dials in EXPLICIT capture.
    """

    key: WorkloadKey
    identity: SpiffeId
    addresses: tuple[str, ...]
    decision: Decision
    declared: tuple[ApplicationPort, ...] = ()
    capture: Capture = Capture.EXPLICIT
    mesh: MeshConfig = DEFAULT_MESH
    egress: tuple[EgressPort, ...] = ()
    ranges: tuple[str, ...] = ()
