"""Destinations, each a cluster that a proxy gets by asking for it: its name is where a connection was going.

Pure. A cluster knows no TLS; its endpoints do (`hops`). One address is a cluster of one endpoint, or, spoken to in
plaintext by a sidecar, of that address. A Service is a cluster whose endpoints are a resource of their own, of the same
name, so that one that comes or goes leaves the cluster as it is. One of many endpoints is a cluster of its pieces, each
with a name and endpoints of its own (`shards`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from envoy.config.cluster.v3 import cluster_pb2

from peerauth.dataplane.envoy import hops, parts
from peerauth.dataplane.resources import serialize
from peerauth.dataplane.type_urls import CLUSTER, ENDPOINT, TypeUrl
from peerauth.model.addresses import is_address
from peerauth.model.endpoint import Endpoint
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.decision import Dataplane
from peerauth.policy.destinations import Asked, Destination, Destinations
from peerauth.policy.mesh import Mesh, Step
from peerauth.policy.outbound import Transport
from peerauth.policy.rollout import Orders, peers_at_once
from peerauth.policy.shards import LONGEST_LABEL

PREFIX = "dst|"
ASKED_BY = f"{PREFIX}%DOWNSTREAM_LOCAL_ADDRESS%"
"""The name that a captured connection asks for, as a format string."""

_IPV6 = r"\[([0-9a-f]{0,4}:[0-9a-f:.]{1,40})\]"
_LABEL = rf"[01]{{1,{LONGEST_LABEL}}}"
_NAME = re.compile(rf"{re.escape(PREFIX)}(?:{_IPV6}|([0-9.]{{7,15}})):([1-9][0-9]{{0,4}})(?:\|({_LABEL}))?")


def destination_name(address: str, port: int, shard: str = "") -> str:
    """The name that a connection to this address and port asks for; the address is a literal in its shortest form."""
    return f"{PREFIX}{Endpoint(address, port)}|{shard}" if shard else f"{PREFIX}{Endpoint(address, port)}"


def destination_of(name: str) -> Asked | None:
    """What a name is about; None if no connection asks for such a name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    address, port, shard = match[1] or match[2], int(match[3]), match[4] or ""
    return Asked(address, port, shard) if is_address(address) and port < 1 << 16 else None


def destination_resources(
    name: str, destination: Destination, *, client: Dataplane = Dataplane.SIDECAR
) -> dict[TypeUrl, bytes]:
    """What the proxy that asked for `name` gets: a cluster, and for a Service the endpoints as well."""
    if not destination.balanced and client is Dataplane.SIDECAR:
        (end,) = destination.endpoints
        if end.transport is Transport.PLAINTEXT:
            return {CLUSTER: serialize(_straight(name, end))}
    cluster = hops.endpoint_cluster(name)
    endpoints = hops.load_assignment(name, destination.endpoints)
    if destination.shards:
        whole = name.removeprefix(PREFIX).partition("|")[0]
        parted = (hops.shard_endpoint(f"{PREFIX}{whole}|{one.label}", whole, one.weight) for one in destination.shards)
        endpoints.endpoints.add(lb_endpoints=parted)
    if not destination.balanced:
        cluster.type = cluster_pb2.Cluster.STATIC
        cluster.load_assignment.CopyFrom(endpoints)
        return {CLUSTER: serialize(cluster)}
    cluster.type = cluster_pb2.Cluster.EDS
    cluster.eds_cluster_config.eds_config.CopyFrom(parts.over_ads())
    return {CLUSTER: serialize(cluster), ENDPOINT: serialize(endpoints)}


def _straight(name: str, end: DestinationEndpoint) -> cluster_pb2.Cluster:
    """The way to one address as it is, without a stop inside the proxy.

    Only where nothing else can be in the cluster: the mark that such a connection needs, to be let by, is none that a
    listener inside the proxy could be reached with. A node's has to stay in its namespace, which is seen to there.
    """
    return parts.static_cluster(name, Endpoint(end.address, end.port), mark=parts.PROXY_MARK)


class DestinationResources:
    """What clients of one data plane get for the names that they ask for, rendered once for all of them, when asked.

    A projection: `update` takes every step of the mesh. What turns out to be the same is not rendered again.
    """

    def __init__(self, mesh: Mesh, *, client: Dataplane) -> None:
        self._mesh = mesh
        self._client = client
        self._destinations = Destinations(mesh.world)
        self._rendered: dict[str, tuple[Destination | None, Mapping[TypeUrl, bytes]]] = {}
        self._stale: set[str] = set()

    def serves(self, type_url: TypeUrl, name: str) -> bool:
        """Whether a name is one of a destination at all."""
        return type_url in {CLUSTER, ENDPOINT} and name.startswith(PREFIX)

    def get(self, type_url: TypeUrl, name: str) -> bytes | None:
        """A resource of a name; None if nothing is there."""
        if name not in self._rendered or name in self._stale:
            self._look(name)
        return self._rendered[name][1].get(type_url)

    def ask(self, name: str) -> None:
        """Someone wants to know of a name from now on."""
        if (asked := destination_of(name)) is not None:
            self._destinations.ask(*asked)

    def drop(self, name: str) -> None:
        """Nobody wants to know of it any longer."""
        self._rendered.pop(name, None)
        self._stale.discard(name)
        if (asked := destination_of(name)) is not None:
            self._destinations.forget(*asked)

    def update(self, step: Step, orders: Orders) -> frozenset[str]:
        """Takes what the mesh and the rollout have taken; the names that may stand for something else now.

        Sidecars are told of workloads as the rollout orders; a node's proxy speaks HBONE whatever is decided, so that
        nothing has to wait for it.
        """
        sidecars = self._client is Dataplane.SIDECAR
        peers = orders.announce if sidecars else peers_at_once(step, self._mesh, client=self._client)
        stale = frozenset(destination_name(*asked) for asked in self._destinations.update(step.edits, peers))
        self._stale.update(self._rendered.keys() & stale)
        return stale

    def _look(self, name: str) -> None:
        self._stale.discard(name)
        asked = destination_of(name)
        now = self._destinations.at(*asked) if asked is not None else None
        if name not in self._rendered or self._rendered[name][0] != now:
            made = destination_resources(name, now, client=self._client) if now is not None else {}
            self._rendered[name] = now, made
