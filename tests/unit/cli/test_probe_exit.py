"""How `peerauth probe` ends: 0 is a proof, and nothing else is."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from peerauth.cli.main import cli
from peerauth.local.proof import PortReport
from peerauth.model.inventory import WorkloadKey
from peerauth.model.peerauth import Mode
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode, Level, Reason, Verdict
from peerauth.policy.reception import ClientKind
from peerauth.probe import Attempt, Outcome, RefusedBy, judge_port
from peerauth.runtime import probing

REASON = Reason(Level.NAMESPACE, Mode.STRICT, Verdict.DECIDES, policy="foo/default")
ACCEPTED = Attempt(ClientKind.MTLS, Outcome.ACCEPTED, "answered")
REFUSED = Attempt(ClientKind.PLAINTEXT, Outcome.REFUSED, "reset", how=RefusedBy.RESET)
LET_IN = Attempt(ClientKind.PLAINTEXT, Outcome.ACCEPTED, "answered")


def report(*attempts: Attempt) -> PortReport:
    strict = EffectiveMode.STRICT
    verdicts = judge_port(Decision(Dataplane.SIDECAR, strict), 80, attempts)
    return PortReport(WorkloadKey("foo", "a"), 80, True, strict, strict, REASON, verdicts)


def all_kinds(outcome: Outcome, how: RefusedBy | None = None) -> PortReport:
    return report(*(Attempt(kind, outcome, "as always", how=how) for kind in ClientKind))


PROVEN = report(REFUSED, ACCEPTED)
NO_PROOF = {
    "no port at all": (),
    "a port that nobody dialled": (report(),),
    "a port that nobody dialled beside one that is proven": (PROVEN, report()),
    "nothing can be reached": (all_kinds(Outcome.UNREACHABLE),),
    "nothing answers": (all_kinds(Outcome.NO_ANSWER),),
    "everyone is turned away": (all_kinds(Outcome.REFUSED, RefusedBy.CLOSED),),
    "everyone is turned away by an alert": (all_kinds(Outcome.REFUSED, RefusedBy.ALERT),),
    "nobody can say whose TLS it is": (all_kinds(Outcome.UNVERIFIED),),
    "one port of two is silent": (PROVEN, all_kinds(Outcome.NO_ANSWER)),
    "plaintext gets in": (report(LET_IN, ACCEPTED),),
}


def probed(monkeypatch: pytest.MonkeyPatch, reports: tuple[PortReport, ...]) -> tuple[int, int, bool]:
    """The exit codes with either output, and whether the document says that all is well."""

    async def found(*_arguments: object, **_options: object) -> tuple[PortReport, ...]:
        return reports

    monkeypatch.setattr(probing, "probe_running", found)
    text, document = (CliRunner().invoke(cli, ["probe", *more]) for more in ([], ["-o", "json"]))
    return text.exit_code, document.exit_code, json.loads(document.stdout)["ok"]


def test_a_proof_ends_with_0(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probed(monkeypatch, (PROVEN, PROVEN)) == (0, 0, True)


@pytest.mark.parametrize("reports", NO_PROOF.values(), ids=NO_PROOF)
def test_what_proved_nothing_does_not(monkeypatch: pytest.MonkeyPatch, reports: tuple[PortReport, ...]) -> None:
    assert probed(monkeypatch, reports) == (1, 1, False)
