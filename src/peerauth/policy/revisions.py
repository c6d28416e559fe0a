"""Which istiod decides for a workload, and what of the policies that istiod reads.

Pure. Several revisions of istiod may run beside each other. A sidecar follows the one that injected it, and an istiod
reads what has no label `istio.io/rev` or has its revision there to the letter (tags do not count), in the namespaces
that its `discoverySelectors` match. Source: Istio's canary upgrade and discovery selector guides, the selectors of its
injection webhooks (the namespace's word goes before the pod's), and its filters of what is read by revision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from peerauth.model.inventory import Namespace, Workload
from peerauth.model.mesh import DEFAULT_MESH, DEFAULT_REVISION, MeshConfig, Meshes
from peerauth.model.meta import NO_LABELS, Labels, label_value
from peerauth.model.peerauth import PeerAuthentication
from peerauth.model.world import World
from peerauth.policy.decision import Dataplane
from peerauth.policy.membership import INJECTION, REVISION, Membership, Traits, membership_of, traits_of

_FOLLOWS_NOTHING = frozenset({Dataplane.NONE, Dataplane.AMBIENT})
"""Where `istio.io/rev` says nothing: ztunnel has an istiod of its own, which is taken to be the default's."""


class Asked(NamedTuple):
    """What says which revision a workload is of: a revision's name or a tag, '' for none; `injected` is a proof."""

    name: str = ""
    injected: bool = False


NOT_ASKED = Asked()


class Istiod(msgspec.Struct, frozen=True):
    """The control plane of one revision, as far as it matters to what it reads. `mesh` is the default's if unknown."""

    revision: str = DEFAULT_REVISION
    mesh: MeshConfig = DEFAULT_MESH

    @property
    def root_namespace(self) -> str:
        """Where its mesh policies stand."""
        return self.mesh.root_namespace

    def reads(self, namespace: str, labels: Labels | None) -> bool:
        """Whether it reads the policies of a namespace; what is not known is taken for yes, and said elsewhere."""
        return self.mesh.reads(namespace, labels) is not False


class Standing(NamedTuple):
    """Where a workload stands: its data plane, what says which revision it is of, and the istiod of that."""

    membership: Membership
    asked: Asked
    istiod: Istiod


def revision_label(policy: PeerAuthentication) -> str | None:
    """The revision that a policy is for, or None if it is for all."""
    return label_value(policy.meta.labels, REVISION) if policy.meta.labels else None


def is_for(policy: PeerAuthentication, revision: str) -> bool:
    """Whether the istiod of a revision reads a policy, if it reads its namespace."""
    return revision_label(policy) in (None, revision)


def istiod_of(revision: str, meshes: Meshes) -> Istiod:
    """The istiod of a revision."""
    return Istiod(revision, meshes.of(revision))


def istiod_for(asked: Asked, meshes: Meshes) -> Istiod:
    """The istiod that a workload is led to. An injector writes its own revision, never a tag."""
    return istiod_of(asked.name if asked.injected else meshes.named(asked.name), meshes)


def standing_of(workload: Workload, namespace: Namespace | None, meshes: Meshes) -> Standing:
    """Where a workload stands; `namespace` is None if nothing is known of it."""
    meta = workload.meta
    labels = namespace.meta.labels if namespace else None
    return standing(
        meta.labels,
        traits_of(workload),
        namespace=meta.namespace,
        namespace_labels=labels,
        istiod_for=lambda asked: istiod_for(asked, meshes),
    )


def standing_in(workload: Workload, world: World) -> Standing:
    """The same for a workload of a world."""
    return standing_of(workload, world.namespaces.get(workload.meta.namespace), world.meshes)


def standing(
    labels: Labels,
    traits: Traits,
    *,
    namespace: str,
    namespace_labels: Labels | None,
    istiod_for: Callable[[Asked], Istiod],
) -> Standing:
    """The same from just the facts that count; `istiod_for` finds the istiod that is asked for."""
    membership = membership_of(labels, traits, namespace=namespace, namespace_labels=namespace_labels)
    asked = _asked(labels, traits, namespace_labels or NO_LABELS, membership.dataplane)
    istiod = istiod_for(asked)
    if membership.dataplane is Dataplane.AMBIENT and not istiod.reads(namespace, namespace_labels):
        membership = Membership(Dataplane.NONE, _unread(namespace, istiod))
    return Standing(membership, asked, istiod)


def _unread(namespace: str, istiod: Istiod) -> str:
    return (
        f"no discoverySelector of the mesh configuration ({istiod.revision}) matches its namespace {namespace}, "
        "so that ztunnel is told nothing of it"
    )


def _asked(labels: Labels, traits: Traits, namespace_labels: Labels, dataplane: Dataplane) -> Asked:
    if dataplane in _FOLLOWS_NOTHING:
        return NOT_ASKED
    if traits.injected_by:
        return Asked(traits.injected_by, injected=True)
    if label_value(namespace_labels, INJECTION) == "enabled":
        return NOT_ASKED
    named = label_value(namespace_labels, REVISION) or label_value(labels, REVISION)
    return Asked(named) if named else NOT_ASKED
