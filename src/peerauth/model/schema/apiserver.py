"""The Services that the API server itself calls: admission webhooks' and aggregated APIs'.

The API server has no certificate of the mesh, so a STRICT port refuses it. Istio's own webhooks say besides which
revisions there are, and which tags lead to them. Source: Kubernetes' API reference (ValidatingWebhookConfiguration,
MutatingWebhookConfiguration, APIService); Istio's charts (labels of the sidecar injector and of revision tags).
"""

from __future__ import annotations

from collections.abc import Iterator

from peerauth.model.inventory import ApiServerTarget
from peerauth.model.mesh import Injector
from peerauth.model.meta import Meta, label_value
from peerauth.model.schema import fields
from peerauth.model.schema.description import Document
from peerauth.model.schema.metadata import ClusterResource, cluster_meta
from peerauth.model.schema.report import Report

HTTPS = 443
MUTATING = "MutatingWebhookConfiguration"
REVISION, TAG = "istio.io/rev", "istio.io/tag"


class ServiceReference(Document):
    """A Service by its name."""

    namespace: str | None = None
    name: str | None = None
    port: fields.Port | None = None


_NO_SERVICE = ServiceReference()


class ClientConfig(Document):
    """Where a webhook is: those given by URL are outside the cluster."""

    service: ServiceReference | None = None


class Webhook(Document):
    """One webhook."""

    client_config: ClientConfig | None = None
    name: str | None = None


class Webhooks(ClusterResource):
    """A configuration of admission webhooks."""

    webhooks: list[Webhook] | None = None


class ApiService(ClusterResource):
    """An aggregated API; the API server's own have no Service."""

    spec: ClientConfig | None = None


def webhooks(document: Webhooks, report: Report, *, kind: str) -> tuple[ApiServerTarget | Injector, ...]:
    """One target for each webhook that is a Service, and an Injector if they inject sidecars."""
    meta = cluster_meta(document.metadata, report)
    found: list[ApiServerTarget | Injector] = [*_injector(meta)] if kind == MUTATING else []
    for webhook in document.webhooks or ():
        found.extend(_target(webhook.client_config, meta=meta, kind=kind, webhook=webhook.name or ""))
    return tuple(found)


def _injector(meta: Meta) -> Iterator[Injector]:
    """Istio's injector of a revision or, under a tag, the name that leads to it."""
    revision, tag = label_value(meta.labels, REVISION), label_value(meta.labels, TAG)
    if revision and (tag or label_value(meta.labels, "app") == "sidecar-injector"):
        yield Injector(revision, tag or "", meta.origin)


def api_service(document: ApiService, report: Report) -> tuple[ApiServerTarget, ...]:
    """The Service behind an aggregated API; none for the API server's own."""
    meta = cluster_meta(document.metadata, report)
    return tuple(_target(document.spec, meta=meta, kind="APIService", webhook=""))


def _target(holder: ClientConfig | None, *, meta: Meta, kind: str, webhook: str) -> Iterator[ApiServerTarget]:
    service = holder.service if holder is not None else None
    if service is not None and service != _NO_SERVICE:
        yield ApiServerTarget(
            meta=meta,
            kind=kind,
            service_namespace=service.namespace or "",
            service_name=service.name or "",
            service_port=service.port or HTTPS,
            webhook=webhook,
        )
