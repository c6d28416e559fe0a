"""The probe: connects to a workload's port as each kind of client, and compares what happens with the decision.

`kinds` is pure (kinds, outcomes, expectations, verdicts), `connect` does the I/O, `credentials` makes and holds
certificates, `tls` and `hbone` speak the protocols.
"""

from __future__ import annotations

from peerauth.probe.connect import HBONE_PORT, ProbeTarget, SocketFactory, attempt
from peerauth.probe.credentials import ClientCertificate, Credentials, foreign_certificate
from peerauth.probe.kinds import (
    OF_ANOTHER_DOMAIN,
    Attempt,
    Expectation,
    Outcome,
    ProbeVerdict,
    RefusedBy,
    expectation,
    judge,
    judge_port,
    outcome_of,
)

__all__ = [
    "HBONE_PORT",
    "OF_ANOTHER_DOMAIN",
    "Attempt",
    "ClientCertificate",
    "Credentials",
    "Expectation",
    "Outcome",
    "ProbeTarget",
    "ProbeVerdict",
    "RefusedBy",
    "SocketFactory",
    "attempt",
    "expectation",
    "foreign_certificate",
    "judge",
    "judge_port",
    "outcome_of",
]
