"""A proof is told whole: what happened, what was wanted, and nothing is called proven that was not tried."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from peerauth.cli.proved import HEADINGS, LEGEND, WORDS, decider, proof_lines
from peerauth.cli.render import plain
from peerauth.local.flows import Flow, FlowReport
from peerauth.local.proof import PortReport, report_document
from peerauth.model.connections import Arrival
from peerauth.model.inventory import WorkloadKey
from peerauth.model.peerauth import Mode
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode, Level, Reason, Verdict
from peerauth.policy.reception import ClientKind
from peerauth.probe import Attempt, Outcome, RefusedBy, judge_port

FINANCE = WorkloadKey("foo", "finance")
STRICT = Reason(Level.NAMESPACE, Mode.STRICT, Verdict.DECIDES, policy="foo/default")
ACCEPTED = Attempt(ClientKind.MTLS, Outcome.ACCEPTED, "answered")
REFUSED = Attempt(ClientKind.PLAINTEXT, Outcome.REFUSED, "reset", how=RefusedBy.RESET)
LET_IN = Attempt(ClientKind.PLAINTEXT, Outcome.ACCEPTED, "answered")


def report(*attempts: Attempt, declared: bool = True) -> PortReport:
    verdicts = judge_port(Decision(Dataplane.SIDECAR, EffectiveMode.STRICT), 8080, attempts)
    return PortReport(FINANCE, 8080, declared, EffectiveMode.STRICT, EffectiveMode.STRICT, STRICT, verdicts)


def told(*reports: PortReport, flows: tuple[FlowReport, ...] = ()) -> str:
    return "\n".join(plain(each).rstrip() for each in proof_lines(reports, flows))


def test_a_good_proof_says_so() -> None:
    assert told(report(REFUSED, ACCEPTED)).endswith("2 connections to 1 port: every one did what the policy says")


def test_a_connection_that_got_in_against_the_policy_is_named() -> None:
    text = told(report(LET_IN, ACCEPTED))
    assert "FAILED foo/finance:8080 plaintext" in text
    assert text.endswith("1 of 2 connections to 1 port did not do what the policy says")


def test_a_flow_that_arrived_otherwise_than_wanted_fails_the_proof() -> None:
    flow = Flow(
        WorkloadKey("foo", "client"), FINANCE, "127.0.0.21", 8080, 8080, EffectiveMode.STRICT, Arrival.MUTUAL_TLS
    )
    text = told(report(REFUSED, ACCEPTED), flows=(FlowReport(flow, Arrival.PLAINTEXT, ok=False, sentence="plaintext"),))
    assert "FAILED foo/client -> foo/finance:8080: plaintext" in text


def test_what_the_data_plane_cannot_do_is_said() -> None:
    reported = msgspec.structs.replace(report(ACCEPTED), mode=EffectiveMode.DISABLE, enforced=EffectiveMode.PERMISSIVE)
    assert "enforced as PERMISSIVE: ambient mode has no DISABLE" in told(reported)
    assert "enforced as" not in told(report(ACCEPTED))
    outside = msgspec.structs.replace(report(ACCEPTED), enforced=EffectiveMode.DISABLE)
    assert "enforced as DISABLE: no proxy of the mesh stands before it" in told(outside)


def test_when_no_application_answers_the_next_step_is_said() -> None:
    silent = Attempt(ClientKind.MTLS, Outcome.REFUSED, "closed", how=RefusedBy.CLOSED)
    assert "--apps" in told(report(REFUSED, silent))
    assert "--apps" not in told(report(LET_IN, silent))


def test_nothing_probed_is_not_called_proven() -> None:
    assert told().strip() == "nothing was probed: no sidecar workload declares a port"
    assert report_document(())["ok"] is False


def test_a_port_that_nobody_declares_is_marked() -> None:
    assert "8080*" in told(report(REFUSED, ACCEPTED, declared=False))


def test_every_kind_of_client_has_a_heading_and_a_meaning() -> None:
    assert set(HEADINGS) == set(ClientKind)
    assert [name for name, _ in LEGEND] == list(HEADINGS.values())


def test_every_outcome_has_a_word() -> None:
    assert set(WORDS) == set(Outcome)


def test_the_decider_is_named_with_its_scope() -> None:
    port = Reason(Level.PORT, Mode.DISABLE, Verdict.DECIDES, policy="foo/finance", port=8080)
    assert decider(port) == "foo/finance says DISABLE for port 8080"
    assert decider(STRICT) == "foo/default says STRICT for the namespace"
    assert "default" in decider(Reason(Level.DEFAULT, Mode.PERMISSIVE, Verdict.DECIDES))


def test_every_field_of_the_json_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "json.md").read_text().partition("## probe")[2]
    document = msgspec.json.decode(msgspec.json.encode(report_document([report(REFUSED, ACCEPTED)])))
    fields = [*document, *document["ports"][0], *document["ports"][0]["connections"][0]]
    assert [field for field in fields if not re.search(rf"\b{field}\b", page)] == []
