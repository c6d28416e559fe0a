"""Short names for decisions and sidecars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peerauth.dataplane.envoy.sidecar_values import ApplicationPort, SidecarWorkload
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.endpoint import Endpoint
from peerauth.model.inventory import WorkloadKey
from peerauth.model.meta import Origin
from peerauth.model.peerauth import Mode
from peerauth.policy.decision import (
    Dataplane,
    Decision,
    EffectiveMode,
    Level,
    PortDecision,
    Reason,
    Verdict,
)

FINANCE = SpiffeId("cluster.local", "foo", "finance")
CLIENT = SpiffeId("cluster.local", "foo", "client")


def decided(
    mode: str, ports: Mapping[int, str] | None = None, *, policy: str = "foo/default", line: int = 1
) -> Decision:
    """A decision at namespace level, with port exceptions of the policy `foo/finance`."""
    entries = tuple(PortDecision(port, EffectiveMode(said)) for port, said in sorted((ports or {}).items()))
    reasons = [Reason(Level.NAMESPACE, Mode(mode), Verdict.DECIDES, policy, origin=Origin("p.yaml", line))]
    for entry in entries:
        said = Mode(entry.mode.value)
        reasons.append(Reason(Level.PORT, said, Verdict.DECIDES, "foo/finance", entry.port, Origin("p.yaml", line)))
    effective = EffectiveMode(mode)
    return Decision(Dataplane.SIDECAR, effective, entries, tuple(reasons))


def sidecar(decision: Decision, **changes: Any) -> SidecarWorkload:
    """The sidecar of `foo/finance` at 127.77.0.1, ports 8080 and 9000, application at 127.0.0.1:18080 for both."""
    fields: dict[str, Any] = {
        "key": WorkloadKey("foo", "finance"),
        "identity": FINANCE,
        "addresses": ("127.77.0.1",),
        "declared": tuple(ApplicationPort(port, Endpoint("127.0.0.1", 18080)) for port in (8080, 9000)),
    }
    return SidecarWorkload(decision=decision, **(fields | changes))
