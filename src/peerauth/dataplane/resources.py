"""What a sidecar is rendered from, and what comes out: serialized xDS resources by type and name.

`SidecarWorkload` holds everything one sidecar's configuration depends on, and nothing else: two equal values are the
same bytes, so a caller may cache by it. Endpoints are address literals or socket paths, never names: resolving is the
caller's. Names of types are those of the xDS protocol, version 3.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from google.protobuf.message import Message

from peerauth.dataplane.type_urls import CLUSTER, LISTENER, SECRET, TypeUrl
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.inventory import WorkloadKey
from peerauth.model.mesh import DEFAULT_MESH, MeshConfig
from peerauth.model.placement import Capture
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.decision import Decision

__all__ = ["CLUSTER", "LISTENER", "SECRET", "TypeUrl"]

Resources = Mapping[TypeUrl, Mapping[str, bytes]]
"""Serialized resources by type, then by name; names ascend. The bytes are the resource itself, not wrapped in an Any.

Types stand in the order they must be sent in: clusters before the listeners that use them."""


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """A place to connect to: an address literal and port, or the path of a Unix socket (`@name`: abstract)."""

    address: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class DeclaredPort(msgspec.Struct, frozen=True, order=True):
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
    declared: tuple[DeclaredPort, ...] = ()
    capture: Capture = Capture.EXPLICIT
    mesh: MeshConfig = DEFAULT_MESH
    egress: tuple[EgressPort, ...] = ()
    ranges: tuple[str, ...] = ()


def serialize(message: Message) -> bytes:
    """A message's bytes, maps in key order: one content has one form."""
    return message.SerializeToString(deterministic=True)
