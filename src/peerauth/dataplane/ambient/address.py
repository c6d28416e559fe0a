"""Workloads and services as ztunnel knows them: `istio.workload.Address` resources, their names and aliases.

A resource's name is a workload's uid or a service's `NAMESPACE/HOSTNAME`; `NETWORK/ADDRESS` is another name for
whatever has the address, by which a client may ask but under which nothing is ever sent. ztunnel refuses what it cannot
read, so only literals become addresses, and nothing is sent that it has no value for.

Source: wire.md sections 1.3, 1.5, 1.7 and 1.10.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from peerauth.dataplane.resources import serialize
from peerauth.model.inventory import MACHINE_KINDS, Service, ServicePort, Workload, WorkloadKey
from peerauth.model.mesh import MeshConfig
from peerauth.model.meta import label_value
from peerauth.model.tables import Name, name_of
from peerauth.policy.decision import Dataplane
from peerauth.proto import workload_pb2 as pb

_GROUPS = {
    "Deployment": "apps",
    "StatefulSet": "apps",
    "DaemonSet": "apps",
    "ReplicaSet": "apps",
    "Job": "batch",
    "CronJob": "batch",
    **dict.fromkeys(sorted(MACHINE_KINDS), "networking.istio.io"),
}
_TYPES = {"Deployment": pb.DEPLOYMENT, "CronJob": pb.CRONJOB, "Job": pb.JOB}
_PROTOCOLS = {
    "http": pb.HTTP11,
    "http2": pb.HTTP2,
    "kubernetes.io/h2c": pb.HTTP2,
    "grpc": pb.GRPC,
    "tcp": pb.TCP,
    "tls": pb.TLS,
    "https": pb.TLS,
}
_CANONICAL_NAME = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_CANONICAL_REVISION = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")


class ClusterNames(msgspec.Struct, frozen=True):
    """By what the resources of one cluster are named, and what they have in common.

    `network` is what the node proxies have as NETWORK; `domain` ends the names of services.
    """

    id: str = "Kubernetes"
    network: str = ""
    domain: str = "cluster.local"

    def alias(self, address: str) -> str:
        """The other name of what has this address; `address` is a literal."""
        return f"{self.network}/{ipaddress.ip_address(address)}"


class Backend(msgspec.Struct, frozen=True):
    """A service that leads to a workload, and which of the workload's ports each of its ports leads to."""

    service: Service
    ports: tuple[tuple[ServicePort, int], ...]


def workload_name(key: WorkloadKey, *, cluster: ClusterNames) -> str:
    """The uid of a workload: its resource's name."""
    return f"{cluster.id}/{_GROUPS.get(key.kind, '')}/{key.kind}/{key.namespace}/{key.name}"


def service_name(name: Name, *, cluster: ClusterNames) -> str:
    """The name of a service's resource."""
    return f"{name.namespace}/{hostname(name, cluster=cluster)}"


def hostname(name: Name, *, cluster: ClusterNames) -> str:
    """The DNS name of a service."""
    return f"{name.name}.{name.namespace}.svc.{cluster.domain}"


def literals(addresses: Iterable[str]) -> list[str]:
    """Those that are IPv4 or IPv6 addresses, in the form that tells equal ones equal, in the order given."""
    return [str(found) for text in addresses if (found := _parsed(text)) is not None]


def packed_addresses(workload: Workload) -> list[bytes]:
    """The addresses of a workload as they stand on the wire, in one order."""
    return [ipaddress.ip_address(text).packed for text in sorted(literals(workload.addresses))]


def workload_address(
    workload: Workload,
    *,
    dataplane: Dataplane,
    policies: Iterable[str],
    backends: Iterable[Backend],
    mesh: MeshConfig,
    cluster: ClusterNames,
) -> bytes:
    """A workload's resource. `policies` are names of authorizations; each of them has to be sent before this.

    A sidecar ends HBONE by itself, under every mode: clients tunnel to it and its node's proxy lets the tunnel pass.
    """
    meta = workload.meta
    meshed = dataplane.enforces
    message = pb.Workload(
        uid=workload_name(workload.key, cluster=cluster),
        name=meta.name,
        namespace=meta.namespace,
        addresses=packed_addresses(workload),
        network=cluster.network,
        tunnel_protocol=pb.HBONE if meshed else pb.NONE,
        native_tunnel=dataplane is Dataplane.SIDECAR,
        trust_domain=mesh.trust_domain,
        service_account=workload.service_account,
        node=workload.node,
        canonical_name=_first_label(workload, _CANONICAL_NAME) or meta.name,
        canonical_revision=_first_label(workload, _CANONICAL_REVISION) or "latest",
        workload_type=_TYPES.get(workload.kind, pb.POD),
        workload_name=meta.name,
        authorization_policies=sorted(policies),
        status=pb.HEALTHY,
        cluster_id=cluster.id,
        network_mode=pb.HOST_NETWORK if workload.host_network else pb.STANDARD,
    )
    names = [text for text in workload.addresses if _parsed(text) is None]
    if names:
        message.hostname = names[0]
    for backend in backends:
        ports = message.services[service_name(name_of(backend.service), cluster=cluster)].ports
        for port, target in backend.ports:
            ports.add(service_port=port.number, target_port=target, app_protocol=_protocol(port))
    return serialize(pb.Address(workload=message))


def service_address(service: Service, *, cluster: ClusterNames) -> bytes:
    """A service's resource; a headless one has no addresses."""
    name = name_of(service)
    message = pb.Service(name=name.name, namespace=name.namespace, hostname=hostname(name, cluster=cluster))
    for text in sorted(literals(service.cluster_ips)):
        message.addresses.add(network=cluster.network, address=ipaddress.ip_address(text).packed)
    for port in service.ports:
        if port.protocol == "TCP":
            target = port.target if isinstance(port.target, int) else 0
            message.ports.add(service_port=port.number, target_port=target, app_protocol=_protocol(port))
    return serialize(pb.Address(service=message))


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _first_label(workload: Workload, keys: Iterable[str]) -> str:
    return next((value for key in keys if (value := label_value(workload.meta.labels, key))), "")


def _protocol(port: ServicePort) -> pb.AppProtocol.ValueType:
    said = port.app_protocol or port.name.partition("-")[0]
    return _PROTOCOLS.get(said.lower(), pb.UNKNOWN)
