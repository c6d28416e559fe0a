"""The names of the resource types of discovery: what is rendered here and what is served above goes by them.

Facts: xDS protocol, version 3 (type URLs of Envoy's resources); istio.security and istio.workload, as ztunnel asks for.
"""

from __future__ import annotations

from typing import NewType

TypeUrl = NewType("TypeUrl", str)

CLUSTER = TypeUrl("type.googleapis.com/envoy.config.cluster.v3.Cluster")
ENDPOINT = TypeUrl("type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment")
LISTENER = TypeUrl("type.googleapis.com/envoy.config.listener.v3.Listener")
ROUTE = TypeUrl("type.googleapis.com/envoy.config.route.v3.RouteConfiguration")
SECRET = TypeUrl("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret")

AUTHORIZATION = TypeUrl("type.googleapis.com/istio.security.Authorization")
ADDRESS = TypeUrl("type.googleapis.com/istio.workload.Address")
WORKLOAD = TypeUrl("type.googleapis.com/istio.workload.Workload")
