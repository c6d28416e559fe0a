"""Destinations, each a cluster that a proxy gets by asking for it: its name is where a connection was going.

Pure. A cluster knows no TLS; its endpoints do (`hops`). One address is a cluster of one endpoint. A Service is a
cluster whose endpoints are a resource of their own, of the same name, so that one that comes or goes leaves the cluster
as it is.
"""

from __future__ import annotations

import ipaddress
import re

from envoy.config.cluster.v3 import cluster_pb2

from peerauth.dataplane.envoy import hops, parts
from peerauth.dataplane.resources import Endpoint, serialize
from peerauth.dataplane.type_urls import CLUSTER, ENDPOINT, TypeUrl
from peerauth.policy.destinations import Destination

PREFIX = "dst|"
ASKED_BY = f"{PREFIX}%DOWNSTREAM_LOCAL_ADDRESS%"
"""The name that a captured connection asks for, as a format string."""

_NAME = re.compile(rf"{re.escape(PREFIX)}(?:\[([0-9a-f:.]{{2,45}})\]|([0-9.]{{7,15}})):([1-9][0-9]{{0,4}})")


def destination_name(address: str, port: int) -> str:
    """The name that a connection to this address and port asks for; the address is a literal in its shortest form."""
    return f"{PREFIX}{Endpoint(address, port)}"


def destination_of(name: str) -> tuple[str, int] | None:
    """The address and port that a name is about; None if no connection asks for such a name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    address, port = match[1] or match[2], int(match[3])
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return None
    return (address, port) if port < 1 << 16 else None


def destination_resources(name: str, destination: Destination) -> dict[TypeUrl, bytes]:
    """What the proxy that asked for `name` gets: a cluster, and for a Service the endpoints as well."""
    cluster = hops.endpoint_cluster(name)
    endpoints = hops.load_assignment(name, destination.endpoints)
    if not destination.balanced:
        cluster.type = cluster_pb2.Cluster.STATIC
        cluster.load_assignment.CopyFrom(endpoints)
        return {CLUSTER: serialize(cluster)}
    cluster.type = cluster_pb2.Cluster.EDS
    cluster.eds_cluster_config.eds_config.CopyFrom(parts.over_ads())
    return {CLUSTER: serialize(cluster), ENDPOINT: serialize(endpoints)}
