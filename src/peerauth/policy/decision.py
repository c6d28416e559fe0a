"""What was decided for a workload, why, and what its data plane can enforce of it.

`EffectiveMode` has no UNSET: whoever takes one cannot be asked to know precedence. The reasons are the same objects
everywhere: explain, filter-chain metadata, the access log and the metrics show them.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from peerauth.model.mesh import DEFAULT_REVISION
from peerauth.model.meta import NOWHERE, Origin
from peerauth.model.peerauth import Mode


class EffectiveMode(StrEnum):
    """What a port must do with a connection."""

    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


class Dataplane(StrEnum):
    """Which proxy decides for a workload.

    GATEWAY: it is a proxy of the mesh itself, and its listeners come from Gateway resources. NONE: it is outside the
    mesh. PeerAuthentication is in force in neither.
    """

    SIDECAR = "sidecar"
    AMBIENT = "ambient"
    GATEWAY = "gateway"
    NONE = "none"

    @property
    def enforces(self) -> bool:
        """Whether connections to its workloads meet a proxy that does what PeerAuthentication says."""
        return self in {Dataplane.SIDECAR, Dataplane.AMBIENT}


class Level(StrEnum):
    """Who speaks, from the widest to the narrowest; DEFAULT is Istio's PERMISSIVE when no one does."""

    DEFAULT = "default"
    MESH = "mesh"
    NAMESPACE = "namespace"
    WORKLOAD = "workload"
    PORT = "port"


class Verdict(StrEnum):
    """What became of what a policy said.

    DECIDES: its mode is in force. INHERITS: it says UNSET (or nothing), so the wider level's result stands.
    OVERRIDDEN: it won at its level, and a narrower level said something else. LOSES: an older policy won at its level;
    it contributes nothing, its port entries included. IGNORED: it has no effect where it stands (a selector in the
    root namespace), or the istiod that decides for the workload does not read it.
    """

    DECIDES = "decides"
    INHERITS = "inherits"
    OVERRIDDEN = "overridden"
    LOSES = "loses"
    IGNORED = "ignored"


class Reason(msgspec.Struct, frozen=True):
    """One step of a decision: who spoke at which level, what it said, and what became of it.

    `policy` is `namespace/name`, empty for the DEFAULT. `port` is set for entries of `portLevelMtls`. `why` is a
    sentence for a person. `lost_to` names the policy that won where `verdict` is LOSES.
    """

    level: Level
    said: Mode
    verdict: Verdict
    policy: str = ""
    port: int | None = None
    origin: Origin = NOWHERE
    why: str = ""
    lost_to: str = ""


class PortDecision(msgspec.Struct, frozen=True, order=True):
    """The effective mode of one port that the winning workload policy names."""

    port: int
    mode: EffectiveMode


class Enforced(msgspec.Struct, frozen=True):
    """What the data plane does about a decision; differs from it where the data plane cannot do what was asked.

    `notes` says each difference in a sentence (ambient has no DISABLE).
    """

    mode: EffectiveMode
    ports: tuple[PortDecision, ...] = ()
    notes: tuple[str, ...] = ()

    def mode_of(self, port: int) -> EffectiveMode:
        """The mode in force on a port; ports that no policy names have the workload's."""
        return _mode_of(self.ports, port, self.mode)


class Decision(msgspec.Struct, frozen=True):
    """Everything decided for one workload: its mode, the ports that differ or are named, and the chain of reasons.

    `ports` ascend by number and hold every port of the winning workload policy. `enforced` is None where no proxy
    enforces: outside the mesh, and on gateways. `revision` is that of the istiod which decides.
    """

    dataplane: Dataplane
    mode: EffectiveMode
    ports: tuple[PortDecision, ...] = ()
    reasons: tuple[Reason, ...] = ()
    enforced: Enforced | None = None
    revision: str = DEFAULT_REVISION

    def mode_of(self, port: int) -> EffectiveMode:
        """What the policy asks of a port, declared or not."""
        return _mode_of(self.ports, port, self.mode)

    def deciding(self, port: int | None = None) -> Reason:
        """The reason that is in force for a port, or for the workload as a whole."""
        for reason in self.reasons:
            if reason.verdict is Verdict.DECIDES and reason.port is not None and reason.port == port:
                return reason
        return next(r for r in self.reasons if r.verdict is Verdict.DECIDES and r.port is None)


def _mode_of(ports: tuple[PortDecision, ...], port: int, otherwise: EffectiveMode) -> EffectiveMode:
    return next((entry.mode for entry in ports if entry.port == port), otherwise)
