"""Kinds that are not read: which of them do not exist, which say nothing, and which must not go unnoticed.

What runs containers and is not understood is no workload here, so nothing is known of its ports: whoever asks for
STRICT must hear of it. Policies of APIs that Istio has removed are heard by no one. Sources: Istio's API reference and
its release notes (1.6 removed `authentication.istio.io` and `rbac.istio.io`); Kubernetes' API reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from peerauth.model.inventory import PassedOver, PassedOverBecause
from peerauth.model.meta import Meta
from peerauth.model.schema import place
from peerauth.model.schema.report import Report

ISTIO_KINDS: Mapping[str, frozenset[str]] = {
    "security.istio.io": frozenset({"AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"}),
    "networking.istio.io": frozenset(
        {
            "DestinationRule",
            "EnvoyFilter",
            "Gateway",
            "ProxyConfig",
            "ServiceEntry",
            "Sidecar",
            "VirtualService",
            "WorkloadEntry",
            "WorkloadGroup",
        }
    ),
    "telemetry.istio.io": frozenset({"Telemetry"}),
    "extensions.istio.io": frozenset({"TrafficExtension", "WasmPlugin"}),
    "install.istio.io": frozenset({"IstioOperator"}),
}
"""Every kind of Istio's API groups. A document of another kind in one of them is a mistake, and may be a policy."""

_REMOVED = frozenset({("authentication.istio.io", "Policy"), ("authentication.istio.io", "MeshPolicy")})
_ABOUT_OTHERS = frozenset({"kyverno.io", "policies.kyverno.io", "constraints.gatekeeper.sh", "mutations.gatekeeper.sh"})
_KUBERNETES = frozenset({"", "apps", "autoscaling", "batch", "events", "extensions", "policy"})


def is_about_others(group: str) -> bool:
    """Whether the kinds of a group are rules about pods: they have what pods have, and run nothing."""
    return group in _ABOUT_OTHERS


def _is_known(group: str) -> bool:
    """Whether the kinds of a group are known: those among them that run something are read."""
    return group in _KUBERNETES or group.endswith((".k8s.io", ".istio.io"))


def has_pod_template(resource: place.Mapping) -> bool:
    """Whether a resource has a pod template where controllers have theirs."""
    holder: object = resource
    for step in ("spec", "template", "spec", "containers"):
        holder = holder.get(step) if isinstance(holder, dict) else None
    return isinstance(holder, list)


def noteworthy(report: Report, *, group: str, kind: str) -> PassedOver | None:
    """What to remember of a resource that is not read; None if it says nothing about connections."""
    resource, origin = report.mapping, report.place.value(())
    if (group, kind) in _REMOVED:
        because = PassedOverBecause.REMOVED
    elif not (_is_known(group) or is_about_others(group)) and _runs_something(resource):
        because = PassedOverBecause.NOT_UNDERSTOOD
    else:
        return None
    meta = resource.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    name, namespace = meta.get("name"), meta.get("namespace")
    default = "" if kind == "MeshPolicy" else report.default_namespace
    return PassedOver(
        Meta(
            name=name if isinstance(name, str) else str(origin),
            namespace=namespace if isinstance(namespace, str) else default,
            origin=origin,
        ),
        kind=kind,
        group=group,
        because=because,
    )


def _runs_something(resource: place.Mapping) -> bool:
    """Whether containers with images, or a reference to a workload, are anywhere in what a resource asks for."""
    left: list[object] = [value for key, value in resource.items() if key not in ("metadata", "status")]
    while left:
        match left.pop():
            case dict() as mapping:
                if isinstance(mapping.get("workloadRef"), dict) or _have_images(mapping.get("containers")):
                    return True
                left.extend(mapping.values())
            case list() as items:
                left.extend(items)
    return False


def _have_images(containers: object) -> bool:
    items: Iterable[object] = containers if isinstance(containers, list) else ()
    return any(isinstance(item, dict) and "image" in item for item in items)
