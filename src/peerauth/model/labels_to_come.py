"""Labels that a pod gets when it is created: no description of its controller has them, and a selector may name them.

Whether such a selector matches is not known before the pod runs. Sources: Kubernetes' well-known labels and its
controllers' references; Istio's sidecar injection (canonical service, tlsMode); Argo Rollouts, OpenShift and Knative.
"""

from __future__ import annotations

from peerauth.model.inventory import MACHINE_KINDS, Admission, Workload
from peerauth.model.meta import Labels

POD_NAME = "statefulset.kubernetes.io/pod-name"
_BATCH = frozenset(
    {
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-completion-index",
        "batch.kubernetes.io/job-name",
        "controller-uid",
        "job-name",
    }
)
_BY_KIND = {
    "Deployment": frozenset({"pod-template-hash"}),
    "ReplicaSet": frozenset[str](),
    "StatefulSet": frozenset({POD_NAME, "apps.kubernetes.io/pod-index", "controller-revision-hash"}),
    "DaemonSet": frozenset({"controller-revision-hash", "pod-template-generation"}),
    "Job": _BATCH,
    "CronJob": _BATCH,
    "Pod": frozenset[str](),
}
_BY_OTHERS = frozenset({"deployment", "deploymentconfig", "rollouts-pod-template-hash"}).union(*_BY_KIND.values())
"""What controllers that are not Kubernetes' own may add: all that Kubernetes' do, and theirs."""
_PREFIXES_OF_OTHERS = ("apps.kruise.io/", "serving.knative.dev/")
_OF_EVERY_POD = frozenset(
    {
        "security.istio.io/tlsMode",
        "service.istio.io/canonical-name",
        "service.istio.io/canonical-revision",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    }
)


def comes_later(key: str) -> bool:
    """Whether there are workloads that get a label with this key when they are created."""
    return key in _OF_EVERY_POD or key in _BY_OTHERS or key.startswith(_PREFIXES_OF_OTHERS)


def may_get(workload: Workload, key: str, value: str) -> bool:
    """Whether a pod of a workload may get a label that its description does not have. One with that key is known."""
    if workload.admission is not Admission.AHEAD or workload.kind in MACHINE_KINDS:
        return False
    if key in _OF_EVERY_POD:
        return True
    added = _BY_KIND.get(workload.kind)
    if added is None:
        return comes_later(key)
    if key == POD_NAME:
        stem, _, ordinal = value.rpartition("-")
        return key in added and stem == workload.meta.name and ordinal.isdecimal()
    return key in added


def may_match(workload: Workload, selector: Labels) -> bool:
    """Whether a selector that does not match a workload's labels may match those that some pods of it will have."""
    missing = selector - workload.meta.labels
    if not missing:
        return False
    known = {key for key, _ in workload.meta.labels}
    return all(key not in known and may_get(workload, key, value) for key, value in missing)
