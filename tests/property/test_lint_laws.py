"""What holds of findings and explanations for every mesh, however odd."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from peerauth.analysis.explain import Explainer, Shared, decision_document, explain, why_dataplane
from peerauth.analysis.lint import lint
from peerauth.analysis.lint.codes import LINT_CODES
from peerauth.analysis.lint.revisions import istiods
from peerauth.analysis.lint.survey import Survey, survey
from peerauth.analysis.report import in_order
from peerauth.cli.explained import body_lines, explanation_lines
from peerauth.cli.findings import finding_lines
from peerauth.cli.render import plain
from peerauth.model.changes import MeshObject, Reset, ref_of
from peerauth.model.inventory import ApiServerTarget, DestinationRule, PortTls, Probe, Workload
from peerauth.model.meta import Meta
from peerauth.policy.capture import captured_of
from peerauth.policy.decision import Dataplane, EffectiveMode, Verdict
from peerauth.policy.mesh import Mesh
from samples.meshes import objects, pairs

_NAMESPACES = st.sampled_from(["istio-system", "foo", "bar"])
_ANNOTATIONS = st.dictionaries(
    st.sampled_from(
        [
            "traffic.sidecar.istio.io/excludeInboundPorts",
            "traffic.sidecar.istio.io/includeInboundPorts",
            "sidecar.istio.io/interceptionMode",
            "ambient.istio.io/bypass-inbound-capture",
            "sidecar.istio.io/rewriteAppHTTPProbers",
            "prometheus.io/scrape",
            "prometheus.io/port",
        ]
    ),
    st.sampled_from(["", "*", "8080", "8080, 80", "true", "false", "none,", "NONE"]),
)


@st.composite
def annotated(draw: st.DrawFn, workload: Workload) -> Workload:
    meta = msgspec.structs.replace(workload.meta, annotations=pairs(draw(_ANNOTATIONS)))
    ports: list[int | str] = [80, 8080, "http", "absent"]
    return msgspec.structs.replace(
        workload, meta=meta, probes=(Probe("liveness", "http", draw(st.sampled_from(ports))),)
    )


@st.composite
def rules(draw: st.DrawFn) -> DestinationRule:
    modes = st.sampled_from(["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL", "ELSE"])
    ports = st.sampled_from([None, 1000, 1001])
    tls = draw(st.lists(st.builds(PortTls, modes, ports, st.sampled_from(["", "v1"])), max_size=3))
    host = draw(st.sampled_from(["a", "b.foo", "c.bar.svc.cluster.local", "*", "", "a.b.c.d"]))
    return DestinationRule(Meta(draw(st.sampled_from(["a", "b"])), draw(_NAMESPACES)), host=host, tls=tuple(tls))


def targets() -> st.SearchStrategy[ApiServerTarget]:
    names = st.sampled_from(["a", "b"])
    return st.builds(ApiServerTarget, st.builds(Meta, names), st.just("APIService"), _NAMESPACES, names, st.just(1000))


def everything() -> st.SearchStrategy[list[MeshObject]]:
    """A mesh with at most one object of each name."""
    plain_or_annotated = objects().flatmap(lambda one: annotated(one) if isinstance(one, Workload) else st.just(one))
    one = st.one_of(plain_or_annotated, plain_or_annotated, plain_or_annotated, rules(), targets())
    return st.lists(one, max_size=16, unique_by=ref_of)


def surveyed(objects: list[MeshObject]) -> Survey:
    mesh = Mesh()
    mesh.apply(Reset("test", tuple(objects)))
    return survey(mesh.world, lambda workload: mesh.decisions.decision(workload.key))


@given(everything())
def test_every_mesh_can_be_linted_and_every_finding_can_be_shown(mesh: list[MeshObject]) -> None:
    for finding in lint(surveyed(mesh), require_strict=True):
        assert finding.code in LINT_CODES
        assert finding.message
        assert finding.hint
        assert finding.subject
        assert all("\n" not in plain(line) for line in finding_lines(finding))


@given(everything())
def test_findings_do_not_depend_on_the_order_of_the_input(mesh: list[MeshObject]) -> None:
    assert in_order(lint(surveyed(mesh))) == in_order(lint(surveyed(mesh[::-1])))


@given(everything())
def test_strict_is_met_exactly_where_everything_that_could_be_reached_is_strict(mesh: list[MeshObject]) -> None:
    seen = surveyed(mesh)
    for posture in seen.postures:
        alone = msgspec.structs.replace(seen, postures=[posture])
        failed = any(one.code == "PA0501" for one in lint(alone, require_strict=True))
        on = posture.decision.dataplane if posture.decision.dataplane.enforces else Dataplane.SIDECAR
        modes = {on.in_force(posture.decision.mode_of(port)) for port in (None, *posture.ports_of_interest())}
        mesh_config = seen.world.meshes.of(posture.decision.revision)
        captured = captured_of(posture.workload, on, mesh=mesh_config)
        kept_away = captured.others or any(captured.gap(port) for port in posture.ports_of_interest())
        is_open = modes != {EffectiveMode.STRICT} or bool(kept_away)
        asked = seen.membership(posture).by_labels
        missing = posture.decision.dataplane is Dataplane.NONE and asked is not None and asked.enforces
        assert failed == (is_open if seen.may_be_enforced(posture) else missing)


@given(everything())
def test_each_policy_that_loses_is_reported_and_no_other(mesh: list[MeshObject]) -> None:
    seen = surveyed(mesh)
    reported = {one.subject.removeprefix("PeerAuthentication ") for one in lint(seen) if one.code == "PA0101"}
    reasons = [reason for posture in seen.postures for reason in posture.decision.reasons]
    losers = {reason.policy for reason in reasons if reason.verdict is Verdict.LOSES}
    assert losers <= reported
    # What no workload shows yet can lose as well, but never a policy that a workload heeds and none saw lose; unless
    # it is in another revision, where others speak.
    if len(istiods(seen)) > 1:
        return
    heeded = {reason.policy for reason in reasons if reason.verdict not in (Verdict.LOSES, Verdict.IGNORED)}
    broad = {policy.meta.full_name for policy in seen.world.policies.values() if not policy.selector}
    assert not (reported & heeded & broad)


@given(everything(), st.sampled_from([None, 80, 8080, 65535]))
def test_an_explanation_has_every_port_and_agrees_with_the_decision(mesh: list[MeshObject], port: int | None) -> None:
    seen = surveyed(mesh)
    for posture in seen.postures:
        why = why_dataplane(posture.workload, seen.world)
        explained = explain(
            posture.workload,
            posture.decision,
            declared=posture.declared,
            why_dataplane=why,
            port=port,
            meshes=seen.world.meshes,
        )
        document = decision_document(explained)
        expected = posture.ports_of_interest() if port is None else [port]
        assert document["ports"] == {str(number): posture.decision.mode_of(number).value for number in expected}
        enforced = document["enforced"]
        assert (enforced is None) == (not posture.decision.dataplane.enforces)
        if isinstance(enforced, dict):
            assert enforced["ports"] == {str(number): posture.enforced_on(number) for number in expected}
            nothing = None in (enforced["mode"], *enforced["ports"].values())
            assert not nothing or document["notes"]
        assert list(explanation_lines(explained, port=port))
        msgspec.json.encode(document)


@given(everything())
def test_the_numbers_of_declared_ports_are_those_of_the_declared_ports(mesh: list[MeshObject]) -> None:
    seen = surveyed(mesh)
    for posture in seen.postures:
        assert posture.declared == tuple(port.number for port in seen.world.declared_ports(posture.workload))
        assert posture.services == seen.world.services_selecting(posture.workload)


@given(everything(), st.sampled_from([None, 80, 8080]), st.booleans())
def test_what_workloads_share_is_what_each_would_be_told_alone(
    mesh: list[MeshObject], port: int | None, forgetful: bool
) -> None:
    seen = surveyed(mesh)
    meshes = seen.world.meshes
    explainer = Explainer(port=port, meshes=meshes)
    bodies = Shared(lambda one: list(body_lines(one, port=port)), most=1 if forgetful else 1000)
    for posture in (*seen.postures, *seen.postures):
        why = why_dataplane(posture.workload, seen.world)
        said = posture.declared
        alone = explain(posture.workload, posture.decision, declared=said, why_dataplane=why, port=port, meshes=meshes)
        together = explainer.explain(posture.workload, posture.decision, declared=said, why_dataplane=why)
        assert together == alone
        assert bodies.of(together) == list(body_lines(alone, port=port))
