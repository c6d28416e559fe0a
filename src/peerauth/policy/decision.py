"""What was decided for a workload, why, and what its data plane does about it.

`EffectiveMode` has no UNSET: whoever takes one cannot be asked to know precedence. The reasons are the same objects
everywhere: explain, filter-chain metadata, the access log and the metrics show them.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from peerauth.model.mesh import DEFAULT_REVISION
from peerauth.model.meta import NOWHERE, Origin
from peerauth.model.peerauth import Mode
from peerauth.model.placement import Captor


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

    @property
    def captor(self) -> Captor:
        """Whose proxy is to capture the connections of its workloads."""
        match self:
            case Dataplane.SIDECAR:
                return Captor.SIDECAR
            case Dataplane.AMBIENT:
                return Captor.NODE
            case _:
                return Captor.NOBODY

    def in_force(self, asked: EffectiveMode) -> EffectiveMode:
        """What connections to its workloads meet where the policy asks for a mode; never stricter than that.

        Ambient has no DISABLE: it admits plaintext as well as HBONE, which is PERMISSIVE. Where nothing is enforced
        whatever arrives goes to the application as it is, which is DISABLE.
        """
        match self:
            case Dataplane.SIDECAR:
                return asked
            case Dataplane.AMBIENT:
                return EffectiveMode.PERMISSIVE if asked is EffectiveMode.DISABLE else asked
            case _:
                return EffectiveMode.DISABLE


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


class Decision(msgspec.Struct, frozen=True):
    """Everything decided for one workload: its mode, the ports that differ or are named, and the chain of reasons.

    `ports` ascend by number and hold every port of the winning workload policy. `revision` is that of the istiod which
    decides. A port of None is every port that nobody names: they have the workload's mode.
    """

    dataplane: Dataplane
    mode: EffectiveMode
    ports: tuple[PortDecision, ...] = ()
    reasons: tuple[Reason, ...] = ()
    revision: str = DEFAULT_REVISION

    def mode_of(self, port: int | None) -> EffectiveMode:
        """What the policy asks of a port, declared or not."""
        return next((entry.mode for entry in self.ports if entry.port == port), self.mode)

    def in_force(self, port: int | None) -> EffectiveMode:
        """What connections to a port meet, declared or not: what its data plane does about what the policy asks."""
        return self.dataplane.in_force(self.mode_of(port))

    def deciding(self, port: int | None = None) -> Reason:
        """The reason that is in force for a port, or for the workload as a whole."""
        for reason in self.reasons:
            if reason.verdict is Verdict.DECIDES and reason.port is not None and reason.port == port:
                return reason
        return next(r for r in self.reasons if r.verdict is Verdict.DECIDES and r.port is None)
