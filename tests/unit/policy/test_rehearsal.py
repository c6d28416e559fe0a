"""What counts as loosening a mesh, tried without doing it."""

from __future__ import annotations

import pytest

from peerauth.model.changes import Reset
from peerauth.policy.rehearsal import Rehearsal, loosening_of
from peerauth.sources.reader import DocumentReader
from samples.manifests import documents, namespace, pod, policy

MESH = documents(namespace(), pod(), policy("foo/default", "STRICT"))
SERVICE_ACCOUNT = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a, namespace: foo}\n"
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (MESH, MESH, False),
        (MESH, "# moved by one line\n" + MESH, False),
        (MESH, documents(MESH, policy("istio-system/default", "DISABLE")), False),
        (MESH, documents(namespace(), pod(), policy("foo/default", "PERMISSIVE")), True),
        (MESH, documents(namespace(), pod(), policy("foo/another", "STRICT")), True),
        (MESH, documents(pod(), policy("foo/default", "STRICT")), True),
        (documents(MESH, SERVICE_ACCOUNT), MESH, True),
        (MESH, documents(MESH, SERVICE_ACCOUNT), False),
        (MESH, documents(MESH, CONFIG + "    trustDomainAliases: [other]\n"), True),
        (MESH, documents(MESH, CONFIG + "    trustDomain: cluster.local\n"), False),
    ],
)
def test_also_what_is_gone_and_another_mesh_configuration_count(before: str, after: str, expected: bool) -> None:
    rehearsal = Rehearsal()
    rehearsal.take([said(before)])
    assert loosens(rehearsal, said(after)) is expected
    assert loosens(rehearsal, said(after)) is expected, "trying changes nothing"
    rehearsal.take([said(after)])
    assert not loosens(rehearsal, said(after))


def loosens(rehearsal: Rehearsal, change: Reset) -> bool:
    with rehearsal.trial([change]) as step:
        return loosening_of(step) is not None


def said(text: str) -> Reset:
    checked = list(DocumentReader().stream(text.encode(), file="a.yaml"))
    assert not any(document.diagnostics for document in checked)
    return Reset("a", tuple(obj for document in checked for obj in document.objects))
