"""Where Istio's own control plane enforces something else in ambient mode than its documentation says.

istiod turns PeerAuthentication into two things: one policy for the whole mesh, "a tunnel or nothing", and one for each
policy that has port entries; a workload names one of them. Which it names and what that holds are worked out apart,
and the two do not agree everywhere: ztunnel passes over the name of a policy that was never sent, and is then open.
Nothing is decided here: the reasons of a decision say who won at each level, and this is what istiod makes of them.
Source: Istio's pilot, the conversion of PeerAuthentication for ambient (1.22 to 1.30), confirmed on a real istiod and a
real ztunnel where docs/findings/PA0305.md says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from peerauth.model.peerauth import Mode
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode, Level, Reason, Verdict

_HEARD = (Verdict.DECIDES, Verdict.INHERITS, Verdict.OVERRIDDEN)
_EXEMPT = (Mode.PERMISSIVE, Mode.DISABLE)
_OPEN = (None, Mode.UNSET)


class Difference(msgspec.Struct, frozen=True):
    """What Istio does otherwise: ports that are STRICT and admit plaintext there, and such that admit plaintext and are
    refused there; None stands for all ports that `policy`, the workload's own, does not name.
    """

    policy: Reason
    opened: tuple[int | None, ...]
    refused: tuple[int | None, ...]
    fix: str

    @property
    def what(self) -> str:
        """What differs, as a sentence without its full stop."""
        return self._what(self.opened, self.refused)

    def sentences(self, port: int | None = None, *, named: bool = True) -> list[str]:
        """What differs and what to do, in sentences; given `port`, of that port alone, which a policy names or not."""
        opened, refused = self.opened, self.refused
        if port is not None:
            wanted = port if named else None
            opened, refused = ((wanted,) if wanted in ports else () for ports in (opened, refused))
        return [f"{self._what(opened, refused)}. To have it read alike, {self.fix}."] if opened or refused else []

    def _what(self, opened: tuple[int | None, ...], refused: tuple[int | None, ...]) -> str:
        parts = [f"plaintext passes on {_listed(opened)}"] if opened else []
        parts += [f"plaintext is refused on {_listed(refused)}"] if refused else []
        return f"Istio's own control plane enforces {self.policy.policy} otherwise in ambient mode: {', '.join(parts)}"


class _Levels(NamedTuple):
    """What the winner of each level says, None without one, and its port entries."""

    mesh: Mode | None
    namespace: Mode | None
    own: Mode
    ports: Mapping[int, Mode]

    @property
    def mesh_reaches(self) -> bool:
        """Whether the mesh is STRICT and the namespace leaves that as it is."""
        return self.namespace in _OPEN and self.mesh is Mode.STRICT

    @property
    def is_below_strict(self) -> bool:
        """Whether the levels above the workload's come to STRICT."""
        return self.namespace is Mode.STRICT or self.mesh_reaches


def difference(decision: Decision) -> Difference | None:
    """Where Istio's control plane would enforce a decision otherwise; None where it does not, or it is not ambient."""
    policy = next((r for r in _heard(decision) if r.level is Level.WORKLOAD), None)
    if decision.dataplane is not Dataplane.AMBIENT or policy is None:
        return None
    levels = _levels(decision, own=policy.said)
    ports = (None, *(entry.port for entry in decision.ports))
    asked = {port: decision.in_force(port) is EffectiveMode.STRICT for port in ports}
    theirs = {port: _closed_by_istio(levels, port) for port in ports}
    opened = tuple(port for port in ports if asked[port] and not theirs[port])
    refused = tuple(port for port in ports if theirs[port] and not asked[port])
    if not opened and not refused:
        return None
    own = f"say `mtls.mode: {EffectiveMode.STRICT}` in {policy.policy} itself"
    namespace = f"say `mtls.mode: {EffectiveMode.STRICT}` for the namespace as well, in a policy without a selector"
    return Difference(policy, opened, refused, own if policy.said is Mode.UNSET else namespace)


def _heard(decision: Decision) -> list[Reason]:
    return [reason for reason in decision.reasons if reason.verdict in _HEARD]


def _levels(decision: Decision, *, own: Mode) -> _Levels:
    broad = {reason.level: reason.said for reason in _heard(decision)}
    ports = {reason.port: reason.said for reason in _heard(decision) if reason.port is not None}
    return _Levels(broad.get(Level.MESH), broad.get(Level.NAMESPACE), own, ports)


def _closed_by_istio(levels: _Levels, port: int | None) -> bool:
    """Whether ztunnel refuses plaintext on a port by what istiod sends it."""
    if _names_the_strict_policy(levels):
        return True
    if not _names_its_own(levels):
        return False
    exempt = _exempted(levels)
    return port in _closed_one_by_one(levels) or (bool(exempt) and port not in exempt)


def _names_the_strict_policy(levels: _Levels) -> bool:
    said = set(levels.ports.values())
    if levels.own is Mode.UNSET:
        return levels.is_below_strict and Mode.PERMISSIVE not in said
    return levels.own is Mode.STRICT and said.isdisjoint(_EXEMPT)


def _names_its_own(levels: _Levels) -> bool:
    said = set(levels.ports.values())
    if levels.own is Mode.STRICT:
        return not said.isdisjoint(_EXEMPT)
    if levels.own is Mode.UNSET and levels.is_below_strict:
        return Mode.PERMISSIVE in said
    return Mode.STRICT in said


def _exempted(levels: _Levels) -> set[int]:
    """The ports that the workload's own policy lets plaintext in on, while it refuses it on all others."""
    merged = levels.namespace is Mode.STRICT or (levels.namespace is None and levels.mesh is Mode.STRICT)
    if levels.own is Mode.STRICT or (levels.own is Mode.UNSET and merged):
        return {port for port, said in levels.ports.items() if said in _EXEMPT}
    return set()


def _closed_one_by_one(levels: _Levels) -> set[int]:
    """The ports that the workload's own policy refuses plaintext on, while it lets it in on all others."""
    above = levels.own is Mode.UNSET and levels.namespace is Mode.STRICT
    if levels.own is Mode.STRICT or above or levels.mesh_reaches:
        return set()
    return {port for port, said in levels.ports.items() if said is Mode.STRICT}


def _listed(ports: tuple[int | None, ...]) -> str:
    numbers = [str(port) for port in ports if port is not None]
    listed = f"port{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}" if numbers else ""
    rest = ("all other ports" if listed else "every port that it does not name") if None in ports else ""
    return " and ".join(part for part in (listed, rest) if part)
