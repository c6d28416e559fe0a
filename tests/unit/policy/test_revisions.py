"""Which istiod decides for a workload, what it reads, and what an edit of one revision costs."""

from __future__ import annotations

import msgspec
import pytest

from peerauth.model.changes import Delete, MeshObject, Reset, Upsert, ref_of
from peerauth.model.inventory import Namespace, Workload, WorkloadKey
from peerauth.model.mesh import Injector, MeshConfig, Operator, Requirement, meshes_of
from peerauth.model.meta import Meta
from peerauth.model.peerauth import PeerAuthentication
from peerauth.policy.decision import Dataplane, Level, Verdict
from peerauth.policy.mesh import Mesh
from peerauth.policy.revisions import standing_of
from samples.meshes import ROOT, for_revision, meta, namespace, pairs, policy, workload

INJECT, REV, INJECTION = "sidecar.istio.io/inject", "istio.io/rev", "istio-injection"
CANARY = MeshConfig(root_namespace="canary-root", revision="canary")
KNOWN = meshes_of([MeshConfig(), CANARY, Injector("canary", "next")])
RED = (Requirement("team", Operator.IN, ("red",)),)


def injected(by: str, labels: dict[str, str] | None = None) -> Workload:
    status = pairs({"sidecar.istio.io/status": by})
    return Workload(Meta("w", "foo", labels=pairs({INJECT: "true"} | (labels or {})), annotations=status))


@pytest.mark.parametrize(
    ("one", "space", "expected"),
    [
        (workload("foo/w", {INJECT: "true"}), None, "default"),
        (workload("foo/w", {INJECT: "true", REV: "canary"}), None, "canary"),
        (workload("foo/w", {INJECT: "true", REV: "next"}), namespace("foo"), "canary"),
        (workload("foo/w"), namespace("foo", {REV: "canary"}), "canary"),
        (workload("foo/w"), namespace("foo", {REV: "next"}), "canary"),
        (workload("foo/w"), namespace("foo", {REV: "absent"}), "absent"),
        # The webhooks of a revision ask for the namespace's word first, and for its `istio-injection` before that.
        (workload("foo/w", {REV: "default"}), namespace("foo", {REV: "canary"}), "canary"),
        (workload("foo/w", {REV: "canary"}), namespace("foo", {INJECTION: "enabled"}), "default"),
        (workload("foo/w"), namespace("foo", {INJECTION: "enabled", REV: "canary"}), "default"),
        # What the injector wrote into a pod is its own name, whatever the labels say by now.
        (injected('{"revision": "canary"}'), namespace("foo", {INJECTION: "enabled"}), "canary"),
        (injected('{"revision": "default"}', {REV: "next"}), namespace("foo", {REV: "canary"}), "default"),
        (injected('{"revision": "next"}'), None, "next"),
        (injected('{"containers": []}', {REV: "next"}), None, "canary"),
        (injected("{"), namespace("foo", {REV: "canary"}), "canary"),
        (injected('{"revision": 7}'), None, "default"),
        # ztunnel does not ask.
        (workload("foo/w"), namespace("foo", {"istio.io/dataplane-mode": "ambient", REV: ""}), "default"),
        (workload("foo/w", {INJECT: "false", REV: "canary"}), namespace("foo", {INJECTION: "enabled"}), "default"),
    ],
)
def test_a_workload_is_of_the_revision_that_injects_it(one: Workload, space: Namespace | None, expected: str) -> None:
    assert standing_of(one, space, KNOWN).istiod.revision == expected


def test_a_revision_brings_its_configuration_and_one_that_is_not_known_the_defaults() -> None:
    for name, root in (("canary", "canary-root"), ("next", "canary-root"), ("absent", ROOT), ("", ROOT)):
        stands = standing_of(workload("foo/w", {INJECT: "true"}), namespace("foo", {REV: name}), KNOWN)
        assert stands.istiod.root_namespace == root


def test_an_ambient_workload_of_a_namespace_that_istiod_does_not_read_is_not_called_protected() -> None:
    meshes = meshes_of([MeshConfig(discovery_selectors=(RED,))])
    mode = {"istio.io/dataplane-mode": "ambient"}
    read, unread = (
        standing_of(workload("foo/w"), namespace("foo", mode | team), meshes) for team in ({"team": "red"}, {})
    )
    assert (read.membership.dataplane, unread.membership.dataplane) == (Dataplane.AMBIENT, Dataplane.NONE)
    assert "discoverySelector" in unread.membership.why
    # Injection does not ask istiod's selectors, and a sidecar that is there is told what istiod reads.
    sidecar = standing_of(workload("foo/w"), namespace("foo", {INJECTION: "enabled"}), meshes)
    assert sidecar.membership.dataplane is Dataplane.SIDECAR


def loaded(*objects: MeshObject) -> Mesh:
    mesh = Mesh()
    mesh.apply(Reset("test", objects))
    return mesh


DEFAULT_POD, CANARY_POD = WorkloadKey("old", "w"), WorkloadKey("new", "w")
TWO_REVISIONS: tuple[MeshObject, ...] = (
    namespace("old", {INJECTION: "enabled"}),
    namespace("new", {REV: "canary"}),
    workload("old/w", {"app": "w"}),
    workload("new/w", {"app": "w"}),
)


def modes(mesh: Mesh) -> tuple[str, str]:
    return mesh.decisions.decision(DEFAULT_POD).mode, mesh.decisions.decision(CANARY_POD).mode


def test_a_policy_with_a_revision_is_heard_by_that_revision_and_one_without_by_all() -> None:
    strict = policy(f"{ROOT}/strict", "STRICT")
    assert modes(loaded(*TWO_REVISIONS, strict)) == ("STRICT", "STRICT")
    assert modes(loaded(*TWO_REVISIONS, for_revision(strict, "canary"))) == ("PERMISSIVE", "STRICT")
    assert modes(loaded(*TWO_REVISIONS, for_revision(strict, "default"))) == ("STRICT", "PERMISSIVE")
    assert modes(loaded(*TWO_REVISIONS, for_revision(strict, ""))) == ("PERMISSIVE", "PERMISSIVE")


def test_a_tag_in_a_policys_label_is_read_by_no_one() -> None:
    tagged = for_revision(policy(f"{ROOT}/strict", "STRICT"), "next")
    assert modes(loaded(*TWO_REVISIONS, Injector("canary", "next"), tagged)) == ("PERMISSIVE", "PERMISSIVE")


def test_a_tag_of_a_namespace_leads_to_what_its_revision_reads() -> None:
    mesh = loaded(
        *TWO_REVISIONS,
        namespace("new", {REV: "next"}),
        for_revision(policy(f"{ROOT}/strict", "STRICT"), "canary"),
    )
    assert modes(mesh) == ("PERMISSIVE", "PERMISSIVE")
    changes = mesh.apply(Upsert("test", Injector("canary", "next"))).decisions
    assert [change.key for change in changes] == [CANARY_POD]
    assert modes(mesh) == ("PERMISSIVE", "STRICT")
    mesh.apply(Delete("test", ref_of(Injector("canary", "next"))))
    assert modes(mesh) == ("PERMISSIVE", "PERMISSIVE")


@pytest.mark.parametrize(
    ("unheard", "level"),
    [
        (policy(f"{ROOT}/p", "DISABLE"), Level.MESH),
        (policy("new/p", "DISABLE"), Level.NAMESPACE),
        (policy("new/p", "DISABLE", selector={"app": "w"}, ports={80: "DISABLE"}), Level.WORKLOAD),
    ],
)
def test_what_another_revision_would_read_is_told_with_the_reason(unheard: PeerAuthentication, level: Level) -> None:
    mesh = loaded(*TWO_REVISIONS, policy(f"{ROOT}/strict", "STRICT"), for_revision(unheard, "default"))
    decision = mesh.decisions.decision(CANARY_POD)
    assert (decision.mode, decision.ports, decision.revision) == ("STRICT", (), "canary")
    [reason] = [each for each in decision.reasons if each.verdict is Verdict.IGNORED]
    assert (reason.level, reason.said, reason.policy) == (level, "DISABLE", unheard.meta.full_name)
    assert "istio.io/rev is default" in reason.why
    assert "of the revision canary" in reason.why


def test_a_policy_of_a_namespace_that_no_selector_matches_is_not_heard_the_root_namespace_included() -> None:
    selecting = MeshConfig(discovery_selectors=(RED,))
    red = namespace("old", {INJECTION: "enabled", "team": "red"})
    own, wide = policy("old/p", "DISABLE"), policy(f"{ROOT}/strict", "STRICT")
    assert modes(loaded(*TWO_REVISIONS, own, wide))[0] == "DISABLE"
    # Nothing is known of the root namespace: what stands there is taken for read.
    mesh = loaded(*TWO_REVISIONS, own, wide, selecting)
    assert modes(mesh)[0] == "STRICT"
    [reason] = [each for each in mesh.decisions.decision(DEFAULT_POD).reasons if each.verdict is Verdict.IGNORED]
    assert "discoverySelector" in reason.why
    mesh.apply(Upsert("test", red))
    assert modes(mesh)[0] == "DISABLE"
    mesh.apply(Delete("test", ref_of(own)))
    mesh.apply(Upsert("test", namespace(ROOT)))
    assert modes(mesh)[0] == "PERMISSIVE"
    mesh.apply(Upsert("test", namespace(ROOT, {"team": "red"})))
    assert modes(mesh)[0] == "STRICT"


def test_each_revision_has_its_own_root_namespace() -> None:
    mesh = loaded(
        *TWO_REVISIONS, CANARY, MeshConfig(), policy("canary-root/p", "STRICT"), policy(f"{ROOT}/p", "DISABLE")
    )
    assert modes(mesh) == ("DISABLE", "STRICT")
    mesh.apply(Upsert("test", msgspec.structs.replace(CANARY, root_namespace=ROOT)))
    assert modes(mesh) == ("DISABLE", "DISABLE")
    mesh.apply(Delete("test", ref_of(CANARY)))
    mesh.apply(Upsert("test", MeshConfig(root_namespace="canary-root")))
    assert modes(mesh) == ("STRICT", "STRICT")


def two_revisions(namespaces: int) -> list[MeshObject]:
    """Namespaces of ten classes each, one of them of the revision canary."""
    objects: list[MeshObject] = [MeshConfig(), CANARY]
    for n in range(namespaces):
        objects.append(namespace(f"ns-{n}", {REV: "canary"} if n == 0 else {INJECTION: "enabled"}))
        objects += [workload(f"ns-{n}/app-{a}", {"app": f"app-{a}"}) for a in range(10)]
    return objects


@pytest.mark.parametrize("namespaces", [10, 100])
@pytest.mark.parametrize(
    ("said", "visits"),
    [
        (msgspec.structs.replace(CANARY, root_namespace="other"), 10),
        (msgspec.structs.replace(CANARY, discovery_selectors=(RED,)), 10),
        (msgspec.structs.replace(CANARY, trust_domain="td"), 0),
        (MeshConfig(revision="nobody", root_namespace="other"), 0),
        (Injector("canary", "next"), 0),
        (policy("canary-root/p", "STRICT"), 10),
    ],
)
def test_an_edit_of_one_revision_costs_what_is_of_it(said: MeshObject, visits: int, namespaces: int) -> None:
    mesh = loaded(*two_revisions(namespaces))
    mesh.apply(Upsert("test", said))
    assert mesh.decisions.visited == visits


def test_workloads_of_one_revision_share_their_decisions_whatever_is_for_another() -> None:
    mesh = loaded(
        *two_revisions(10), policy(f"{ROOT}/p", "STRICT"), for_revision(policy(f"{ROOT}/q", "STRICT"), "canary")
    )
    assert len({id(decision) for _, decision in mesh.decisions.items()}) == 2


def test_a_decision_names_its_revision_and_the_only_configuration_is_the_defaults() -> None:
    mesh = loaded(*TWO_REVISIONS, CANARY, policy("canary-root/p", "STRICT"))
    assert modes(mesh) == ("STRICT", "STRICT")
    assert {decision.revision for _, decision in mesh.decisions.items()} == {"canary"} == mesh.decisions.revisions()
    mesh.apply(Upsert("test", Injector("default")))
    assert modes(mesh) == ("PERMISSIVE", "STRICT")
    assert mesh.decisions.decision(DEFAULT_POD).revision == "default"


def test_nothing_is_left_of_a_revision_when_its_last_workload_has_gone() -> None:
    mesh = loaded(*TWO_REVISIONS)
    assert mesh.decisions.revisions() == {"default", "canary"}
    mesh.apply(Delete("test", ref_of(Workload(meta("new/w", {"app": "w"})))))
    assert mesh.decisions.revisions() == {"default"}
