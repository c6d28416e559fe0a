"""Which data plane a workload has: what a live pod proves, and otherwise what the labels of Istio's users say will be.

Pure. A pod that is past admission has what it carries, whatever its labels say by now; of everything else the labels
say what it gets. A sidecar goes before ambient; what is neither is outside the mesh, and nothing is enforced on it.
Where Istio would not inject, this says so: to take a workload for protected that is not is the worst mistake to make
here.
Source: Istio's sidecar injection and ambient references (`sidecar.istio.io/inject`, `sidecar.istio.io/status`,
`istio-injection`, `istio.io/rev`, `istio.io/dataplane-mode`, `ambient.istio.io/redirection`), the selectors of its
webhooks, its injector's and its CNI plugin's own rules; for machines, how its clients choose between plaintext and
mutual TLS (`security.istio.io/tlsMode`, else the service account).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import msgspec

from peerauth.model.inventory import MACHINE_KINDS, Admission, ProxyRole, Workload
from peerauth.model.meta import NO_LABELS, Labels, label_value
from peerauth.policy.decision import Dataplane

INJECT = "sidecar.istio.io/inject"
INJECTION = "istio-injection"
REVISION = "istio.io/rev"
DATAPLANE_MODE = "istio.io/dataplane-mode"
TLS_MODE = "security.istio.io/tlsMode"
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
GATEWAY_MANAGED = "gateway.istio.io/managed"
TEMPLATES = "inject.istio.io/templates"
_GATEWAY_TEMPLATE = "gateway"
_GATEWAY_MARKS = (GATEWAY_NAME, GATEWAY_MANAGED)
STATUS = "sidecar.istio.io/status"
REDIRECTION = "ambient.istio.io/redirection"
_LABELS = frozenset({INJECT, REVISION, DATAPLANE_MODE, TLS_MODE, *_GATEWAY_MARKS})
"""Those of a workload's own that have a say: the others, which are many, are not looked at."""
_ANNOTATIONS = frozenset({INJECT, STATUS, REDIRECTION, TEMPLATES, *_GATEWAY_MARKS})

NEVER_INJECTED = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})
"""The namespaces that Istio's injector passes over, whatever anyone's labels say."""
NEVER_AMBIENT = frozenset({"kube-system"})
"""The namespaces that Istio's CNI plugin leaves alone unless it is configured otherwise."""

# What Istio's injector reads as yes once a pod is put before it; the label that puts it there is "true" to the letter.
_YES = frozenset({"true", "yes", "y", "on"})


class Membership(msgspec.Struct, frozen=True):
    """A workload's data plane, and what made it so, for people.

    `by_labels` is what the labels ask for, and `why_by_labels` which of them, where a live pod proves to have something
    else; None where the two agree, or where the labels of the namespace are not known and may have a say.
    """

    dataplane: Dataplane
    why: str
    by_labels: Dataplane | None = None
    why_by_labels: str = ""


class Machine(NamedTuple):
    """What decides about a workload outside Kubernetes: whether it has a service account, and whether the ServiceEntry
    that it is an endpoint of says that it is outside the mesh.
    """

    account: bool
    external: bool


class Traits(NamedTuple):
    """What of a workload, beside its labels and its namespace, its data plane hangs on.

    `annotated` is its `sidecar.istio.io/inject` annotation. `injected` and `redirected` are what a live pod proves:
    that the injector has been at it, and that the node's proxy gets its traffic; `injected_by` is the revision of the
    injector, if it says so. `gateway` is the annotation that names a gateway, `gateway_template` whether it is the
    gateway's template that would be injected.
    """

    annotated: str | None = None
    host_network: bool = False
    admission: Admission = Admission.AHEAD
    proxy: ProxyRole = ProxyRole.ABSENT
    injected: bool = False
    injected_by: str = ""
    redirected: bool = False
    gateway: str = ""
    gateway_template: bool = False
    machine: Machine | None = None

    @property
    def carries_proxy(self) -> bool:
        """Whether Istio's proxy is among its containers."""
        return self.injected or self.proxy is not ProxyRole.ABSENT


_NO_TRAITS = Traits()


def traits_of(workload: Workload) -> Traits:
    """The traits of a workload; most descriptions of one have none."""
    annotations = workload.meta.annotations
    said = {key: text for key, text in annotations if key in _ANNOTATIONS} if annotations else {}
    machine = Machine(workload.account_given, workload.external) if workload.kind in MACHINE_KINDS else None
    bare = workload.admission is Admission.AHEAD and workload.proxy is ProxyRole.ABSENT and not workload.host_network
    if bare and not said and machine is None:
        return _NO_TRAITS
    return Traits(
        annotated=said.get(INJECT),
        host_network=workload.host_network,
        admission=workload.admission,
        proxy=workload.proxy,
        injected=STATUS in said,
        injected_by=injecting_revision(said[STATUS]) if STATUS in said else "",
        redirected=said.get(REDIRECTION) == "enabled",
        gateway=next((key for key in _GATEWAY_MARKS if key in said), ""),
        gateway_template=_GATEWAY_TEMPLATE in {name.strip() for name in said.get(TEMPLATES, "").split(",")},
        machine=machine,
    )


class _Status(msgspec.Struct):
    """What the injector writes of itself into a pod."""

    revision: str = ""


@lru_cache(maxsize=256)
def injecting_revision(status: str) -> str:
    """The revision that wrote the annotation `sidecar.istio.io/status`, or '' if it does not say."""
    try:
        return msgspec.json.decode(status, type=_Status).revision
    except msgspec.DecodeError:
        return ""


def membership_of(labels: Labels, traits: Traits, *, namespace: str, namespace_labels: Labels | None) -> Membership:
    """The data plane of a workload, from just the facts that count.

    `namespace_labels` are None if nothing is known of the namespace.
    """
    heard = frozenset([pair for pair in labels if pair[0] in _LABELS])
    return _membership(heard, traits, namespace if namespace in NEVER_INJECTED else "", namespace_labels)


def hangs_on_namespace(workload: Workload) -> bool:
    """Whether the labels of the workload's namespace have a say in its data plane: nothing of its own decides."""
    if workload.admission is Admission.PAST or workload.meta.namespace in NEVER_AMBIENT:
        return False
    return _labels_leave_open(workload.meta.labels, traits_of(workload))


def _labels_leave_open(labels: Labels, traits: Traits) -> bool:
    if traits.host_network or traits.machine is not None:
        return False
    return label_value(labels, INJECT) is None and label_value(labels, DATAPLANE_MODE) is None


@lru_cache(maxsize=1024)
def _membership(labels: Labels, traits: Traits, namespace: str, namespace_labels: Labels | None) -> Membership:
    asked = _asked(labels, traits, namespace, namespace_labels or NO_LABELS)
    if traits.admission is Admission.AHEAD:
        return asked
    if namespace_labels is None and traits.admission is Admission.PAST and _labels_leave_open(labels, traits):
        return _proved(labels, traits, _WITHOUT_PROXY)
    found = _proved(labels, traits, asked)
    if found.dataplane is asked.dataplane:
        return found
    return Membership(found.dataplane, found.why, asked.dataplane, asked.why)


def _proved(labels: Labels, traits: Traits, asked: Membership) -> Membership:
    """What a pod that is past admission has, whatever its labels ask for."""
    gateway = _gateway(labels, traits)
    if gateway:
        return Membership(Dataplane.GATEWAY, gateway)
    if traits.host_network:
        return asked
    if traits.carries_proxy:
        mark = f"the annotation {STATUS}" if traits.proxy is ProxyRole.ABSENT else "the container istio-proxy"
        return Membership(Dataplane.SIDECAR, f"it carries {mark}{_agreeing(Dataplane.SIDECAR, asked)}")
    if traits.redirected:
        why = f"its annotation {REDIRECTION} is enabled{_agreeing(Dataplane.AMBIENT, asked)}"
        return Membership(Dataplane.AMBIENT, why)
    to_be_captured = traits.admission is Admission.STARTING and asked.dataplane is Dataplane.AMBIENT
    if asked.dataplane is Dataplane.NONE or to_be_captured:
        return asked
    return _NOT_CAPTURED if asked.dataplane is Dataplane.AMBIENT else _WITHOUT_PROXY


_WITHOUT_PROXY = Membership(Dataplane.NONE, "it carries no istio-proxy, and is not captured for ambient")
_NOT_CAPTURED = Membership(Dataplane.NONE, f"its annotation {REDIRECTION} is not enabled: no node's proxy captures it")


def _agreeing(proved: Dataplane, asked: Membership) -> str:
    return f", and {asked.why}" if asked.dataplane is proved else ""


def _asked(labels: Labels, traits: Traits, namespace: str, namespace_labels: Labels) -> Membership:
    """What a workload gets at its creation."""
    if traits.machine is not None:
        return _of_machine(labels, traits.machine)
    gateway = _gateway(labels, traits)
    if gateway:
        return Membership(Dataplane.GATEWAY, gateway)
    if traits.host_network:
        return Membership(Dataplane.NONE, "it uses the host's network, which no data plane captures")
    refused = _sidecar_refused(labels, traits.annotated, namespace, namespace_labels)
    wanted = _sidecar_wanted(labels, namespace_labels)
    if wanted and not refused:
        if traits.gateway_template:
            return Membership(Dataplane.GATEWAY, f"its annotation {TEMPLATES} asks for a gateway, and {wanted}")
        return Membership(Dataplane.SIDECAR, wanted)
    return _of_ambient(labels, traits, namespace, namespace_labels, otherwise=refused)


def _gateway(labels: Labels, traits: Traits) -> str:
    """What makes a gateway of a workload that Istio's proxy is in or will be in without being injected, or nothing."""
    if traits.proxy in {ProxyRole.ROUTER, ProxyRole.WAYPOINT}:
        return f"its container istio-proxy runs as a {traits.proxy}"
    live = traits.admission is not Admission.AHEAD
    if traits.proxy is ProxyRole.SIDECAR or (live and not traits.carries_proxy):
        return ""  # the mark is another project's gateway's
    label = next((key for key in _GATEWAY_MARKS if label_value(labels, key) is not None), "")
    if label or traits.gateway:
        return f"its label {label} names a gateway" if label else f"its annotation {traits.gateway} names a gateway"
    return f"it was injected by {TEMPLATES} as a gateway" if live and traits.gateway_template else ""


def _of_machine(labels: Labels, machine: Machine) -> Membership:
    said = label_value(labels, TLS_MODE)
    if machine.external:
        return Membership(Dataplane.NONE, "its ServiceEntry's location is MESH_EXTERNAL")
    if said is not None:
        return Membership(Dataplane.SIDECAR if said == "istio" else Dataplane.NONE, f"its label {TLS_MODE} is {said}")
    if machine.account:
        return Membership(Dataplane.SIDECAR, "it is a machine with a service account")
    return Membership(Dataplane.NONE, f"it is a machine with neither a service account nor a label {TLS_MODE}")


def _of_ambient(
    labels: Labels, traits: Traits, namespace: str, namespace_labels: Labels, *, otherwise: str
) -> Membership:
    mode = label_value(labels, DATAPLANE_MODE)
    if mode == "none":
        return Membership(Dataplane.NONE, f"its label {DATAPLANE_MODE} is none")
    whose = "its" if mode == "ambient" else "its namespace's"
    if mode == "ambient" or label_value(namespace_labels, DATAPLANE_MODE) == "ambient":
        if namespace in NEVER_AMBIENT:
            return Membership(Dataplane.NONE, f"Istio captures nothing in the namespace {namespace} for ambient")
        return Membership(Dataplane.AMBIENT, f"{whose} label {DATAPLANE_MODE} is ambient")
    unheard = f", and an annotation {INJECT} alone does not" if traits.annotated in _YES else ""
    nobody = f"neither it nor its namespace has a label that puts it into the mesh{unheard}"
    return Membership(Dataplane.NONE, otherwise or nobody)


def _sidecar_refused(labels: Labels, annotated: str | None, namespace: str, namespace_labels: Labels) -> str:
    """Why there is no sidecar whatever else asks for one, or nothing. Istio: who says no at any level wins."""
    if namespace:
        return f"Istio injects nothing in the namespace {namespace}"
    injection = label_value(namespace_labels, INJECTION)
    if injection not in {None, "enabled"}:
        # Every webhook that does not ask for `enabled` asks that the label is not there at all.
        return f"its namespace's label {INJECTION} is {injection or 'empty'}"
    for what, said in (("label", label_value(labels, INJECT)), ("annotation", annotated)):
        if said:
            return "" if said.lower() in _YES else f"its {what} {INJECT} is {said}"
    return ""


def _sidecar_wanted(labels: Labels, namespace_labels: Labels) -> str:
    """Which label asks for a sidecar, or nothing; the workload's own word first."""
    if label_value(labels, INJECT) == "true":
        return f"its label {INJECT} is true"
    if label_value(namespace_labels, INJECTION) == "enabled":
        return f"its namespace's label {INJECTION} is enabled"
    for whose, said in (("its", labels), ("its namespace's", namespace_labels)):
        revision = label_value(said, REVISION)
        if revision:
            return f"{whose} label {REVISION} is {revision}"
    return ""
