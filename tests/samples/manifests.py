"""Manifests as people write them, shortened to what a test is about, and what `check` finds in them."""

from __future__ import annotations

from collections.abc import Mapping

from peerauth.analysis.lint import lint
from peerauth.analysis.lint.survey import Survey, survey
from peerauth.model.changes import Reset
from peerauth.model.diagnostic import Diagnostic
from peerauth.policy.mesh import Mesh
from peerauth.sources.reader import DocumentReader

FILE = "mesh.yaml"
IN_SIDECAR_MODE = {"istio-injection": "enabled"}
IN_AMBIENT_MODE = {"istio.io/dataplane-mode": "ambient"}


def documents(*parts: str) -> str:
    return "---\n".join(parts)


def _block(pairs: Mapping[str, str], indent: int) -> str:
    return "".join(f"{' ' * indent}{key}: {value!r}\n" for key, value in pairs.items())


def namespace(name: str = "foo", labels: Mapping[str, str] | None = None) -> str:
    """A Namespace, in sidecar mode if nothing else is said."""
    said = IN_SIDECAR_MODE if labels is None else labels
    written = f"  labels:\n{_block(said, 4)}" if said else ""
    return f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n{written}"


def pod(
    name: str = "foo/finance",
    *,
    ports: Mapping[int, str] | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    container: str = "",
    spec: str = "",
    live: bool = False,
) -> str:
    """A Pod labelled app=<its name>; `ports` are numbers with their names, `container` and `spec` further lines."""
    where, short = name.split("/")
    listed = "".join(
        f"        - containerPort: {n}\n" + (f"          name: {p}\n" if p else "")
        for n, p in ({8080: ""} if ports is None else ports).items()
    )
    return (
        f"apiVersion: v1\nkind: Pod\nmetadata:\n  name: {short}\n  namespace: {where}\n"
        f"  labels:\n{_block({'app': short} | dict(labels or {}), 4)}"
        + (f"  annotations:\n{_block(annotations, 4)}" if annotations else "")
        + f"spec:\n{spec}  containers:\n    - name: app\n      image: example/app\n"
        + (f"      ports:\n{listed}" if listed else "")
        + container
        + ("status:\n  phase: Running\n" if live else "")
    )


def service(name: str = "foo/finance", *, port: int = 80, target: int | str = 8080, port_name: str = "http") -> str:
    where, short = name.split("/")
    return (
        f"apiVersion: v1\nkind: Service\nmetadata:\n  name: {short}\n  namespace: {where}\nspec:\n"
        f"  selector:\n    app: {short}\n  ports:\n    - name: {port_name}\n      port: {port}\n"
        f"      targetPort: {target}\n"
    )


def policy(
    name: str = "foo/default",
    mode: str = "",
    *,
    app: str = "",
    ports: Mapping[int, str] | None = None,
    created: str = "",
    revision: str = "",
) -> str:
    where, short = name.split("/")
    entries = "".join(f"    {port}:\n      mode: {said}\n" for port, said in (ports or {}).items())
    spec = (
        (f"  selector:\n    matchLabels:\n      app: {app}\n" if app else "")
        + (f"  mtls:\n    mode: {mode}\n" if mode else "")
        + (f"  portLevelMtls:\n{entries}" if entries else "")
    )
    return (
        f"apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: {short}\n"
        f"  namespace: {where}\n"
        + (f"  creationTimestamp: '{created}'\n" if created else "")
        + (f"  labels:\n    istio.io/rev: {revision}\n" if revision else "")
        + ("spec:\n" + spec if spec else "spec: {}\n")
    )


def mesh_config(said: str, *, revision: str = "") -> str:
    """The ConfigMap of a revision with these lines of MeshConfig."""
    name = f"istio-{revision}" if revision else "istio"
    lines = "".join(f"    {line}\n" for line in said.splitlines())
    return (
        f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: istio-system\n"
        f"data:\n  mesh: |\n{lines}"
    )


def revision_tag(tag: str, revision: str) -> str:
    """The webhook configuration that leads from a tag to a revision."""
    return (
        "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\nmetadata:\n"
        f"  name: istio-revision-tag-{tag}\n  labels:\n    istio.io/tag: {tag}\n    istio.io/rev: {revision}\n"
    )


def destination_rule(host: str, tls: str, *, name: str = "foo/rule", port_tls: Mapping[int, str] | None = None) -> str:
    """A DestinationRule with a TLS mode for all ports ('' for none) and for single ones."""
    where, short = name.split("/")
    settings = "".join(
        f"      - port:\n          number: {port}\n        tls:\n          mode: {mode}\n"
        for port, mode in (port_tls or {}).items()
    )
    return (
        f"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: {short}\n"
        f"  namespace: {where}\nspec:\n  host: '{host}'\n  trafficPolicy:\n"
        + (f"    tls:\n      mode: {tls}\n" if tls else "")
        + (f"    portLevelSettings:\n{settings}" if settings else "")
    )


def surveyed(*parts: str) -> Survey:
    """The survey of some manifests, which must be without fault."""
    checked = list(DocumentReader().stream(documents(*parts).encode(), file=FILE))
    faults = [fault for document in checked for fault in document.diagnostics]
    assert not faults, faults
    mesh = Mesh()
    mesh.apply(Reset("test", tuple(obj for document in checked for obj in document.objects)))
    return survey(mesh.world, lambda workload: mesh.decisions.decision(workload.key))


def found(*parts: str, require_strict: bool = False) -> list[Diagnostic]:
    """Every finding about some manifests."""
    return list(lint(surveyed(*parts), require_strict=require_strict))


def found_of(code: str, *parts: str, require_strict: bool = False) -> list[Diagnostic]:
    """The findings of one code."""
    return [finding for finding in found(*parts, require_strict=require_strict) if finding.code == code]
