"""Which data plane a workload has, from the labels that Istio's users already write.

Pure. A sidecar goes before ambient; what is neither is outside the mesh, and nothing is enforced on it. Where Istio
would not inject, this says so: a workload that is taken for protected and is not is the worst mistake to make here.
Source: Istio's sidecar injection and ambient references: `sidecar.istio.io/inject`, `istio-injection`,
`istio.io/rev`, `istio.io/dataplane-mode`. Pods of the host's network are in neither.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import msgspec

from peerauth.model.inventory import Namespace, Workload
from peerauth.model.meta import NO_LABELS, Labels, label_value
from peerauth.policy.decision import Dataplane

INJECT = "sidecar.istio.io/inject"
INJECTION = "istio-injection"
REVISION = "istio.io/rev"
DATAPLANE_MODE = "istio.io/dataplane-mode"
_LABELS = frozenset({INJECT, REVISION, DATAPLANE_MODE})
"""Those of a workload's own that have a say: the others, which are many, are not looked at."""

# What Istio's injector reads as yes once a pod is put before it; the label that puts it there is "true" to the letter.
_YES = frozenset({"true", "yes", "y", "on"})


class Membership(msgspec.Struct, frozen=True):
    """A workload's data plane, and a sentence that says which label made it so."""

    dataplane: Dataplane
    why: str


class Traits(NamedTuple):
    """What of a workload, beside its labels and its namespace, its data plane hangs on.

    `annotated` is its `sidecar.istio.io/inject` annotation.
    """

    annotated: str | None = None
    host_network: bool = False


_NO_TRAITS = Traits()


def traits_of(workload: Workload) -> Traits:
    """The traits of a workload; most have none."""
    annotations = workload.meta.annotations
    annotated = label_value(annotations, INJECT) if annotations else None
    if annotated is None and not workload.host_network:
        return _NO_TRAITS
    return Traits(annotated, workload.host_network)


def dataplane_of(workload: Workload, namespace: Namespace | None) -> Membership:
    """The data plane of a workload; `namespace` is None if nothing is known of it, which is no labels."""
    labels = namespace.meta.labels if namespace else NO_LABELS
    return membership_of(workload.meta.labels, traits_of(workload), namespace_labels=labels)


def membership_of(labels: Labels, traits: Traits, *, namespace_labels: Labels = NO_LABELS) -> Membership:
    """The same from just the facts that count."""
    heard = frozenset([pair for pair in labels if pair[0] in _LABELS])
    return _membership(heard, traits, namespace_labels)


@lru_cache(maxsize=1024)
def _membership(labels: Labels, traits: Traits, namespace_labels: Labels) -> Membership:
    annotated = traits.annotated
    if traits.host_network:
        return Membership(Dataplane.NONE, "it uses the host's network, which no data plane captures")
    refused = _sidecar_refused(labels, annotated, namespace_labels)
    wanted = _sidecar_wanted(labels, namespace_labels)
    if wanted and not refused:
        return Membership(Dataplane.SIDECAR, wanted)
    mode = label_value(labels, DATAPLANE_MODE)
    if mode == "ambient":
        return Membership(Dataplane.AMBIENT, f"its label {DATAPLANE_MODE} is ambient")
    if mode == "none":
        return Membership(Dataplane.NONE, f"its label {DATAPLANE_MODE} is none")
    if label_value(namespace_labels, DATAPLANE_MODE) == "ambient":
        return Membership(Dataplane.AMBIENT, f"its namespace's label {DATAPLANE_MODE} is ambient")
    unheard = f", and an annotation {INJECT} alone does not" if annotated in _YES else ""
    nobody = f"neither it nor its namespace has a label that puts it into the mesh{unheard}"
    return Membership(Dataplane.NONE, refused or nobody)


def _sidecar_refused(labels: Labels, annotated: str | None, namespace_labels: Labels) -> str:
    """Why there is no sidecar whatever else asks for one, or nothing. Istio: who says no at either level wins."""
    if label_value(namespace_labels, INJECTION) == "disabled":
        return f"its namespace's label {INJECTION} is disabled"
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
