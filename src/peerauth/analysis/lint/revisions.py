"""Several istiods beside each other: which of them the input speaks of, and what it leaves unknown of them.

What is not known is decided by the default revision's configuration and said here. Source: Istio's canary upgrade and
discovery selector guides.
"""

from __future__ import annotations

from collections.abc import Iterator

from peerauth.analysis.lint.codes import UNKNOWN_NAMESPACE, UNKNOWN_REVISION, UNREAD_POLICY
from peerauth.analysis.lint.survey import Posture, Survey, listed
from peerauth.model.diagnostic import Diagnostic, Evidence, Severity
from peerauth.model.mesh import DEFAULT_REVISION
from peerauth.model.peerauth import PeerAuthentication
from peerauth.policy.decision import Dataplane
from peerauth.policy.membership import REVISION
from peerauth.policy.revisions import Istiod, is_for, istiod_of, revision_label


def istiods(survey: Survey) -> tuple[Istiod, ...]:
    """Every istiod that the input speaks of, by its revision's name; the default's is always among them."""
    meshes = survey.world.meshes
    names = {meshes.default, *meshes.configs, *meshes.tags.values(), *_followed(survey), *_labels(survey)}
    return tuple([istiod_of(name, meshes) for name in sorted(names)])


def reads(survey: Survey, istiod: Istiod, namespace: str) -> bool | None:
    """Whether an istiod reads what stands in a namespace; None if that is not known."""
    known = survey.world.namespaces.get(namespace)
    return istiod.mesh.reads(namespace, None if known is None else known.meta.labels)


def unknown_revisions(survey: Survey) -> Iterator[Diagnostic]:
    """Revisions that workloads or policies are of, and of which the input shows nothing while it does of others."""
    meshes, followed, labels = survey.world.meshes, _followed(survey), _labels(survey)
    known = {*meshes.configs, *meshes.injecting, *meshes.tags.values()}
    for revision in sorted({*followed, *labels}):
        is_unknown = bool(known) and not meshes.knows(revision)
        lacks_configuration = revision in followed and bool(meshes.configs) and revision not in meshes.configs
        # A tag whose target is not known could stand for the revision that policies name.
        is_named = revision in followed and revision != meshes.default
        may_be_tag = is_named and not meshes.knows(revision) and bool(labels.keys() - {revision})
        if is_unknown or lacks_configuration or may_be_tag:
            yield _unknown(revision, followed.get(revision, []), labels.get(revision, []), survey)


def unknown_of_ztunnel(survey: Survey) -> Iterator[Diagnostic]:
    """Ambient workloads, where several configurations leave open which of them ztunnel's istiod has."""
    meshes = survey.world.meshes
    ambient = [posture for posture in survey.postures if posture.decision.dataplane is Dataplane.AMBIENT]
    if ambient and len(meshes.configs) > 1:
        yield UNKNOWN_REVISION.found(
            f"which of the revisions {listed(meshes.configs)} ztunnel is connected to is not known: "
            f"{listed(posture.name for posture in ambient)} is decided by {meshes.default}",
            subject="revision of ztunnel",
            origin=min(posture.workload.meta.origin for posture in ambient),
            hint="see the XDS_ADDRESS of ztunnel's DaemonSet: it names the istiod of one revision",
            evidence=tuple(
                Evidence(f"the configuration of {name}", meshes.configs[name].origin) for name in sorted(meshes.configs)
            )[:10],
        )


def unknown_readers(survey: Survey) -> Iterator[Diagnostic]:
    """Namespaces with policies of which nobody said whether `discoverySelectors` match them."""
    places: dict[str, list[PeerAuthentication]] = {}
    for policy in survey.world.policies.values():
        if policy.meta.namespace not in survey.world.namespaces:
            places.setdefault(policy.meta.namespace, []).append(policy)
    selecting = [istiod for istiod in istiods(survey) if istiod.mesh.discovery_selectors]
    for namespace, policies in sorted(places.items()):
        asking = [istiod for istiod in selecting if reads(survey, istiod, namespace) is None]
        concerned = [policy for policy in policies if any(is_for(policy, istiod.revision) for istiod in asking)]
        if concerned:
            yield UNKNOWN_NAMESPACE.found(
                f"the Namespace {namespace} is not in the input: whether discoverySelectors of the mesh configuration "
                f"match it is not known, and {listed(policy.meta.full_name for policy in concerned)} is taken for read",
                subject=f"Namespace {namespace}",
                origin=min(policy.meta.origin for policy in concerned),
                severity=Severity.WARNING,
                hint=f"add the Namespace {namespace} with its labels to what is read",
                evidence=tuple(
                    Evidence(f"the revision {istiod.revision} has discoverySelectors", istiod.mesh.origin)
                    for istiod in asking[:10]
                ),
            )


def unread_policies(survey: Survey) -> Iterator[Diagnostic]:
    """Policies for whose namespace no istiod that would read them has a `discoverySelector`: nobody hears them."""
    all_of_them = istiods(survey)
    for name in sorted(survey.world.policies):
        policy = survey.world.policies[name]
        namespace = policy.meta.namespace
        concerned = [istiod for istiod in all_of_them if is_for(policy, istiod.revision)]
        if not concerned or any(reads(survey, istiod, namespace) is not False for istiod in concerned):
            continue
        yield UNREAD_POLICY.found(
            f"policy {policy.meta.full_name} is read by nobody: no discoverySelector of "
            f"{listed(istiod.revision for istiod in concerned)} matches the Namespace {namespace}",
            subject=f"PeerAuthentication {policy.meta.full_name}",
            origin=policy.meta.origin,
            hint=f"give the Namespace {namespace} the labels that a selector asks for, or do not count on the policy",
            evidence=tuple(
                Evidence(f"the discoverySelectors of the revision {istiod.revision}", istiod.mesh.origin)
                for istiod in concerned[:10]
            ),
        )


def _unknown(revision: str, workloads: list[Posture], policies: list[PeerAuthentication], survey: Survey) -> Diagnostic:
    meshes = survey.world.meshes
    who = [f"{listed(posture.name for posture in workloads)} is of it"] if workloads else []
    who += [f"{listed(policy.meta.full_name for policy in policies)} is for it alone"] if policies else []
    is_there = meshes.knows(revision)
    lacks = (
        "its mesh configuration is not in the input" if is_there else "the input shows nothing of it, nor such a tag"
    )
    state = "is not configured here" if is_there else "is not known"
    instead = f"the configuration of {meshes.default}" if meshes.default in meshes.configs else "Istio's defaults"
    effect = f": decided by {instead}" if workloads else ""
    config_map = "istio" if revision == DEFAULT_REVISION else f"istio-{revision}"
    origins = [*(posture.workload.meta.origin for posture in workloads), *(one.meta.origin for one in policies)]
    return UNKNOWN_REVISION.found(
        f"the revision {revision} {state}: {' and '.join(who)}, and {lacks}{effect}",
        subject=f"revision {revision}",
        origin=min(origins),
        hint=f"add the ConfigMap {config_map} to what is read, or the MutatingWebhookConfiguration of the tag",
        evidence=tuple(
            Evidence(f"{policy.meta.full_name} has the label {REVISION}", policy.meta.origin)
            for policy in policies[:10]
        ),
    )


def _followed(survey: Survey) -> dict[str, list[Posture]]:
    """The workloads whose proxies follow each revision."""
    found: dict[str, list[Posture]] = {}
    for decision, workloads in survey.decided:
        if decision.dataplane is not Dataplane.NONE:
            found.setdefault(decision.revision, []).extend(workloads)
    return found


def _labels(survey: Survey) -> dict[str, list[PeerAuthentication]]:
    """The policies that are for one revision alone, by it."""
    found: dict[str, list[PeerAuthentication]] = {}
    for name in sorted(survey.world.policies):
        policy = survey.world.policies[name]
        label = revision_label(policy)
        if label:
            found.setdefault(label, []).append(policy)
    return found
