"""Every finding of this package by its code: a stable name, how bad it is, and one line on what it means.

A code is never given a new meaning; one that is retired stays retired. Groups: 00 the documents themselves (what
`model/schema` and the readers report), 01 policies among themselves, 02 ports, 03 what is not enforced, 04 who would be
refused, 05 what was required. docs/findings has one page for each, which a test holds.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from peerauth.model.diagnostic import Diagnostic, Evidence, Severity
from peerauth.model.meta import NOWHERE, Origin
from peerauth.model.schema.faults import ALL_FAULTS, ENCODING, LIMIT, SYNTAX, UNSUPPORTED_YAML


class FindingCode(msgspec.Struct, frozen=True):
    """A kind of finding. `name` is for people and SARIF (kebab case); `summary` is a sentence without a full stop."""

    code: str
    name: str
    severity: Severity
    summary: str

    def found(
        self,
        message: str,
        *,
        subject: str,
        origin: Origin = NOWHERE,
        path: str = "",
        hint: str = "",
        evidence: tuple[Evidence, ...] = (),
        severity: Severity | None = None,
    ) -> Diagnostic:
        """One finding of this kind; `severity` only where a case is milder than its kind."""
        return Diagnostic(
            code=self.code,
            severity=severity or self.severity,
            message=message,
            origin=origin,
            path=path,
            hint=hint,
            subject=subject,
            evidence=evidence,
        )


CONFLICT = FindingCode(
    "PA0101", "policy-conflict", Severity.WARNING, "Two policies speak at one level, and only the oldest is heard"
)
ROOT_SELECTOR = FindingCode(
    "PA0102",
    "root-namespace-selector",
    Severity.ERROR,
    "A policy of the root namespace has a selector, so it has no effect",
)
NOTHING_SELECTED = FindingCode(
    "PA0103", "nothing-selected", Severity.WARNING, "A selector matches no workload of its namespace"
)
DOWNGRADE = FindingCode(
    "PA0104", "narrower-is-weaker", Severity.INFO, "A narrower policy admits what a wider STRICT one would refuse"
)
DEFINED_TWICE = FindingCode(
    "PA0105", "defined-twice", Severity.WARNING, "One object is described twice, and only the last is heard"
)
REMOVED_POLICY = FindingCode(
    "PA0106", "removed-policy", Severity.WARNING, "A policy of an API that Istio has removed: nothing it says is heard"
)
MAY_SELECT = FindingCode(
    "PA0107", "may-select", Severity.INFO, "A selector names a label that pods get only when they are created"
)
SERVICE_PORT = FindingCode(
    "PA0201", "service-port", Severity.WARNING, "A port entry names a Service's port, not the workload's"
)
UNKNOWN_PORT = FindingCode(
    "PA0202", "undeclared-port", Severity.INFO, "A port entry names a port that no selected workload declares"
)
SERVER_FIRST = FindingCode(
    "PA0203", "server-first-permissive", Severity.INFO, "A protocol whose server speaks first is on a PERMISSIVE port"
)
AMBIENT_DISABLE = FindingCode(
    "PA0301", "ambient-disable", Severity.WARNING, "Ambient mode has no DISABLE: it is enforced as PERMISSIVE"
)
OUTSIDE_MESH = FindingCode(
    "PA0302", "outside-the-mesh", Severity.WARNING, "A policy selects workloads on which nothing is enforced"
)
EXCLUDED_PORT = FindingCode(
    "PA0303", "excluded-port", Severity.WARNING, "An annotation keeps a port away from the proxy, so its mode is void"
)
UNKNOWN_NAMESPACE = FindingCode(
    "PA0304", "unknown-namespace", Severity.INFO, "What is enforced hangs on a Namespace that was not given"
)
UNKNOWN_REVISION = FindingCode(
    "PA0308", "unknown-revision", Severity.INFO, "A revision is named of which the input shows nothing"
)
UNREAD_POLICY = FindingCode(
    "PA0309", "unread-policy", Severity.WARNING, "A policy stands in a namespace that no istiod reads"
)
NOT_AS_LABELLED = FindingCode(
    "PA0306", "not-as-labelled", Severity.WARNING, "A pod that runs has another data plane than its labels ask for"
)
ON_GATEWAY = FindingCode(
    "PA0307", "on-a-gateway", Severity.INFO, "PeerAuthentication is not in force on the listeners of a gateway"
)
ISTIO_DIFFERS = FindingCode(
    "PA0305", "istio-differs", Severity.WARNING, "Istio itself enforces the policy otherwise in ambient mode"
)
PROBE_REFUSED = FindingCode(
    "PA0401", "probe-refused", Severity.WARNING, "The kubelet probes a STRICT port and is not rewritten"
)
API_SERVER_REFUSED = FindingCode(
    "PA0402", "api-server-refused", Severity.WARNING, "The API server calls a STRICT port without a certificate"
)
SCRAPE_REFUSED = FindingCode("PA0403", "scrape-refused", Severity.WARNING, "A STRICT port is announced for scraping")
CLIENT_CONTRADICTS = FindingCode(
    "PA0404", "client-contradicts", Severity.WARNING, "A DestinationRule tells clients what the servers refuse"
)
NOT_STRICT = FindingCode("PA0501", "not-strict", Severity.ERROR, "STRICT is required, and a port is not STRICT")
NOTHING_REQUIRED_OF = FindingCode(
    "PA0502", "nothing-to-require", Severity.WARNING, "STRICT is required, and there is no workload to require it of"
)
NOT_UNDERSTOOD = FindingCode(
    "PA0503",
    "not-understood",
    Severity.ERROR,
    "STRICT is required, and what runs containers is not understood",
)

LINT_CODES: Mapping[str, FindingCode] = {
    finding.code: finding
    for finding in (
        CONFLICT,
        ROOT_SELECTOR,
        NOTHING_SELECTED,
        DOWNGRADE,
        DEFINED_TWICE,
        REMOVED_POLICY,
        MAY_SELECT,
        SERVICE_PORT,
        UNKNOWN_PORT,
        SERVER_FIRST,
        AMBIENT_DISABLE,
        OUTSIDE_MESH,
        EXCLUDED_PORT,
        UNKNOWN_NAMESPACE,
        NOT_AS_LABELLED,
        ON_GATEWAY,
        UNKNOWN_REVISION,
        UNREAD_POLICY,
        ISTIO_DIFFERS,
        PROBE_REFUSED,
        API_SERVER_REFUSED,
        SCRAPE_REFUSED,
        CLIENT_CONTRADICTS,
        NOT_STRICT,
        NOTHING_REQUIRED_OF,
        NOT_UNDERSTOOD,
    )
}

ALL_CODES: Mapping[str, FindingCode] = {
    **{
        fault.code: FindingCode(fault.code, fault.name, Severity.ERROR, fault.summary.rstrip("."))
        for fault in ALL_FAULTS
    },
    **LINT_CODES,
}
"""Every code that `check` can report: the faults of documents and the findings."""

UNREADABLE = frozenset(fault.code for fault in (SYNTAX, LIMIT, ENCODING, UNSUPPORTED_YAML))
"""What makes a text impossible to read: nothing can be said about what it holds."""
