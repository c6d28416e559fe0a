"""Short names for the objects of a mesh, and hypothesis strategies over a universe small enough for collisions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import strategies as st

from peerauth.model.changes import Change, Delete, MeshObject, Reset, Upsert, ref_of
from peerauth.model.inventory import (
    Admission,
    IngressListener,
    Namespace,
    Port,
    ProxyRole,
    Service,
    ServicePort,
    Sidecar,
    Workload,
)
from peerauth.model.mesh import Injector, MeshConfig, Operator, Redirection, Requirement
from peerauth.model.meta import Labels, Meta
from peerauth.model.peerauth import Mode, PeerAuthentication, PortMode

ROOT = "istio-system"
START = datetime(2024, 1, 1, tzinfo=UTC)


def pairs(labels: Mapping[str, str] | None) -> Labels:
    return frozenset((labels or {}).items())


def meta(name: str, labels: Mapping[str, str] | None = None, *, age: int | None = None) -> Meta:
    """`namespace/name`, or a name alone; `age` is the day it was created on, None for not given."""
    namespace, _, short = name.rpartition("/")
    created = None if age is None else START + timedelta(days=age)
    return Meta(short, namespace, labels=pairs(labels), created=created)


def policy(
    name: str,
    mode: str = "UNSET",
    *,
    selector: Mapping[str, str] | None = None,
    ports: Mapping[int, str] | None = None,
    age: int | None = None,
) -> PeerAuthentication:
    entries = tuple(PortMode(port, Mode(said)) for port, said in sorted((ports or {}).items()))
    return PeerAuthentication(meta(name, age=age), selector=pairs(selector), mode=Mode(mode), ports=entries)


def for_revision(one: PeerAuthentication, revision: str) -> PeerAuthentication:
    """The same policy, for the istiod of one revision alone."""
    labels = pairs({"istio.io/rev": revision})
    return msgspec.structs.replace(one, meta=msgspec.structs.replace(one.meta, labels=labels))


def workload(name: str, labels: Mapping[str, str] | None = None, *, ports: tuple[Port, ...] = ()) -> Workload:
    return Workload(meta(name, labels), ports=ports)


def namespace(name: str, labels: Mapping[str, str] | None = None) -> Namespace:
    return Namespace(meta(name, labels))


_NAMES = st.sampled_from(["a", "b", "c"])
_NAMESPACES = st.sampled_from([ROOT, "foo", "bar", "kube-system"])
_AGES = st.sampled_from([None, 0, 1])
_MODES = st.sampled_from([str(mode) for mode in Mode])
_PORTS = st.dictionaries(st.sampled_from([80, 8080, 9000]), _MODES, max_size=2)
PORTS = (80, 8080, 9000, 65535)


def label_sets(*, min_size: int = 0) -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["x", "y"]), min_size=min_size, max_size=2)


@st.composite
def policies(draw: st.DrawFn) -> PeerAuthentication:
    """Any policy that the validator lets through: port entries only with a selector."""
    selector = draw(label_sets())
    return policy(
        f"{draw(_NAMESPACES)}/{draw(_NAMES)}",
        draw(_MODES),
        selector=selector,
        ports=draw(_PORTS) if selector else {},
        age=draw(_AGES),
    )


def for_one_revision(of: st.SearchStrategy[PeerAuthentication]) -> st.SearchStrategy[PeerAuthentication]:
    """Policies that only the istiod of one revision reads."""
    return st.builds(for_revision, of, st.sampled_from(["default", "canary", "next"]))


def policy_sets() -> st.SearchStrategy[list[PeerAuthentication]]:
    return st.lists(policies(), max_size=9, unique_by=lambda one: one.meta.full_name)


_ANNOTATED: list[dict[str, str]] = [
    {},
    {},
    {"sidecar.istio.io/inject": "false"},
    {"sidecar.istio.io/status": "{}"},
    {"sidecar.istio.io/status": '{"revision": "canary"}'},
    {"ambient.istio.io/redirection": "enabled"},
    {"inject.istio.io/templates": "gateway"},
]


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    labels = draw(label_sets())
    labels |= draw(st.sampled_from([{}, {}, {"istio.io/dataplane-mode": "none"}, {"sidecar.istio.io/inject": "true"}]))
    labels |= draw(st.sampled_from([{}, {}, {"gateway.networking.k8s.io/gateway-name": "g"}]))
    labels |= draw(st.sampled_from([{}, {}, {"istio.io/rev": "canary"}, {"istio.io/rev": "next"}]))
    annotations: dict[str, str] = draw(st.sampled_from(_ANNOTATED))
    return Workload(
        Meta(draw(_NAMES), draw(_NAMESPACES), labels=pairs(labels), annotations=pairs(annotations)),
        kind=draw(st.sampled_from(["Pod", "Deployment", "Pod", "Deployment", "WorkloadEntry"])),
        ports=draw(st.sampled_from([(), (Port(8080, "http"),), (Port(9000, "http"), Port(80))])),
        host_network=draw(st.sampled_from([False, False, False, True])),
        admission=draw(st.sampled_from([Admission.AHEAD, *Admission])),
        proxy=draw(st.sampled_from([ProxyRole.ABSENT, *ProxyRole])),
        account_given=draw(st.booleans()),
    )


@st.composite
def namespaces(draw: st.DrawFn) -> Namespace:
    said = [
        {},
        {"istio-injection": "enabled"},
        {"istio.io/dataplane-mode": "ambient"},
        {"team": "red"},
        {"istio-injection": "off"},
        {"istio.io/rev": "canary", "team": "red"},
        {"istio.io/rev": "next"},
    ]
    return namespace(draw(_NAMESPACES), draw(st.sampled_from(said)))


@st.composite
def services(draw: st.DrawFn) -> Service:
    targets: list[int | str] = draw(st.lists(st.sampled_from([80, 8080, "http", "absent"]), max_size=2))
    ports = tuple(ServicePort(1000 + i, target) for i, target in enumerate(targets))
    return Service(meta(f"{draw(_NAMESPACES)}/{draw(_NAMES)}"), selector=pairs(draw(label_sets())), ports=ports)


@st.composite
def sidecars(draw: st.DrawFn) -> Sidecar:
    ingress = tuple(
        IngressListener(port, f"127.0.0.1:{port + 1}") for port in draw(st.sets(st.sampled_from([80, 443])))
    )
    name = f"{draw(_NAMESPACES)}/{draw(_NAMES)}"
    return Sidecar(meta(name, age=draw(_AGES)), selector=pairs(draw(label_sets())), ingress=ingress)


def mesh_configs() -> st.SearchStrategy[MeshConfig]:
    red = (Requirement("team", Operator.IN, ("red",)),)
    named = (Requirement("kubernetes.io/metadata.name", Operator.NOT_IN, ("bar",)),)
    return st.builds(
        MeshConfig,
        root_namespace=_NAMESPACES,
        trust_domain=st.sampled_from(["cluster.local", "td"]),
        discovery_selectors=st.sampled_from([(), (), (red,), (red, named)]),
        redirection=st.sampled_from([Redirection(), Redirection(intercepts=False), Redirection(excluded="8080")]),
        revision=st.sampled_from(["default", "default", "canary"]),
    )


def injectors() -> st.SearchStrategy[Injector]:
    return st.builds(Injector, st.sampled_from(["default", "canary"]), st.sampled_from(["", "default", "next"]))


def policy_objects() -> st.SearchStrategy[MeshObject]:
    """Everything that a decision depends on."""
    said = st.one_of(policies(), policies(), for_one_revision(policies()))
    return st.one_of(said, said, workloads(), workloads(), namespaces(), mesh_configs(), injectors())


def objects() -> st.SearchStrategy[MeshObject]:
    return st.one_of(policy_objects(), services(), sidecars())


def changes(of: st.SearchStrategy[MeshObject]) -> st.SearchStrategy[Change]:
    """Changes by two sources that speak about the same few names."""
    source = st.sampled_from(["files", "cluster"])
    return st.one_of(
        st.builds(Upsert, source, of),
        st.builds(Delete, source, of.map(ref_of)),
        st.builds(Reset, source, st.lists(of, max_size=8).map(tuple)),
    )
