"""The Services that the API server itself calls: admission webhooks' and aggregated APIs'.

The API server has no certificate of the mesh, so a STRICT port refuses it. Istio's own webhooks say besides which
revisions there are, and which tags lead to them. Source: Kubernetes' API reference (ValidatingWebhookConfiguration,
MutatingWebhookConfiguration, APIService); Istio's charts (labels of the sidecar injector and of revision tags).
"""

from __future__ import annotations

from peerauth.model.inventory import ApiServerTarget
from peerauth.model.mesh import Injector
from peerauth.model.meta import Meta, label_value
from peerauth.model.schema.fields import Fields
from peerauth.model.schema.metadata import metadata
from peerauth.model.schema.place import Mapping, Path
from peerauth.model.schema.watched import holds

HTTPS = 443
MUTATING = "MutatingWebhookConfiguration"
REVISION, TAG = "istio.io/rev", "istio.io/tag"


def webhooks(
    fields: Fields, resource: Mapping, path: Path, *, default_namespace: str, kind: str
) -> tuple[ApiServerTarget | Injector, ...]:
    """One target for each webhook that is a Service, and an Injector if they inject sidecars.

    Those given by URL are outside the cluster.
    """
    meta = metadata(fields, resource, path, default_namespace=default_namespace, namespaced=False)
    found: list[ApiServerTarget | Injector] = [*_injector(meta)] if kind == MUTATING else []
    for at, webhook in fields.mappings(resource, "webhooks", path):
        client = fields.mapping(webhook, "clientConfig", at)
        name = fields.text(webhook, "name", at)
        found.extend(_target(fields, client, (*at, "clientConfig"), meta=meta, kind=kind, webhook=name))
    return tuple(found)


def _injector(meta: Meta) -> tuple[Injector, ...]:
    """Istio's injector of a revision or, under a tag, the name that leads to it."""
    revision, tag = label_value(meta.labels, REVISION), label_value(meta.labels, TAG)
    app = label_value(meta.labels, "app")
    if not revision or (not tag and (app is None or not holds(_injects, app))):
        return ()
    return (Injector(revision, tag or "", meta.origin),)


def _injects(app: str) -> bool:
    return app == "sidecar-injector"


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
