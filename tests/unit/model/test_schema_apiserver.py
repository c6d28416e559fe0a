"""What the API server itself calls, and which revisions its webhooks say there are."""

from __future__ import annotations

import pytest

from peerauth.model.inventory import ApiServerTarget
from peerauth.model.mesh import Injector
from samples.documents import checked


def test_webhooks_and_api_services_name_their_services() -> None:
    hooks = checked(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: w}\n"
        "webhooks:\n- {name: a.b, clientConfig: {service: {namespace: ns, name: s, port: 8443}}}\n"
        "- {name: c.d, clientConfig: {url: 'https://x'}}\n"
    ).objects
    (api,) = checked(
        "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {name: v1.x}\n"
        "spec: {service: {namespace: ns, name: t}}\n"
    ).objects
    found = [
        (one.kind, one.service_namespace, one.service_name, one.service_port, one.webhook)
        for one in (*hooks, api)
        if isinstance(one, ApiServerTarget)
    ]
    assert found == [("ValidatingWebhookConfiguration", "ns", "s", 8443, "a.b"), ("APIService", "ns", "t", 443, "")]


@pytest.mark.parametrize(
    ("kind", "labels", "expected"),
    [
        ("MutatingWebhookConfiguration", "{istio.io/rev: canary, app: sidecar-injector}", [("canary", "")]),
        ("MutatingWebhookConfiguration", "{istio.io/rev: canary, istio.io/tag: next}", [("canary", "next")]),
        ("MutatingWebhookConfiguration", "{istio.io/rev: canary}", []),
        ("MutatingWebhookConfiguration", "{app: sidecar-injector}", []),
        ("ValidatingWebhookConfiguration", "{istio.io/rev: canary, app: sidecar-injector}", []),
    ],
)
def test_istios_webhooks_say_which_revisions_there_are_and_which_tags_lead_to_them(
    kind: str, labels: str, expected: list[tuple[str, str]]
) -> None:
    found = checked(
        f"apiVersion: admissionregistration.k8s.io/v1\nkind: {kind}\nmetadata: {{name: hook, labels: {labels}}}\n"
    )
    assert found.diagnostics == ()
    assert [(one.revision, one.tag) for one in found.objects if isinstance(one, Injector)] == expected
