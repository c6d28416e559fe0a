"""The Services that the API server itself calls: admission webhooks' and aggregated APIs'.

The API server has no certificate of the mesh, so a STRICT port refuses it. Source: Kubernetes' API reference
(ValidatingWebhookConfiguration, MutatingWebhookConfiguration, APIService).
"""

from __future__ import annotations

from peerauth.model.inventory import ApiServerTarget
from peerauth.model.meta import Meta
from peerauth.model.schema.fields import Fields
from peerauth.model.schema.metadata import metadata
from peerauth.model.schema.place import Mapping, Path

HTTPS = 443


def webhooks(
    fields: Fields, resource: Mapping, path: Path, *, default_namespace: str, kind: str
) -> tuple[ApiServerTarget, ...]:
    """One target for each webhook that is a Service; those given by URL are outside the cluster."""
    meta = metadata(fields, resource, path, default_namespace=default_namespace, namespaced=False)
    found: list[ApiServerTarget] = []
    for at, webhook in fields.mappings(resource, "webhooks", path):
        client = fields.mapping(webhook, "clientConfig", at)
        name = fields.text(webhook, "name", at)
        found.extend(_target(fields, client, (*at, "clientConfig"), meta=meta, kind=kind, webhook=name))
    return tuple(found)


def api_service(
    fields: Fields, resource: Mapping, path: Path, *, default_namespace: str
) -> tuple[ApiServerTarget, ...]:
    """The Service behind an aggregated API; none for the API server's own."""
    meta = metadata(fields, resource, path, default_namespace=default_namespace, namespaced=False)
    spec = fields.mapping(resource, "spec", path)
    return _target(fields, spec, (*path, "spec"), meta=meta, kind="APIService", webhook="")


def _target(
    fields: Fields, holder: Mapping, path: Path, *, meta: Meta, kind: str, webhook: str
) -> tuple[ApiServerTarget, ...]:
    service = fields.mapping(holder, "service", path)
    if not service:
        return ()
    where: Path = (*path, "service")
    return (
        ApiServerTarget(
            meta=meta,
            kind=kind,
            service_namespace=fields.text(service, "namespace", where),
            service_name=fields.text(service, "name", where),
            service_port=fields.port(service, "port", where) or HTTPS,
            webhook=webhook,
        ),
    )
