"""Which of two decisions lets more in, port by port, as the data plane enforces them: STRICT, PERMISSIVE, DISABLE.

What nobody enforces (outside the mesh, on a gateway) lets in as much as DISABLE. PERMISSIVE counts as stricter than
that: of TLS that says it is the mesh's it asks for a certificate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from peerauth.model.inventory import WorkloadKey
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode
from peerauth.policy.index import DecisionChange

ANOTHER_MESH = "another mesh configuration"
"""What may close something whatever is decided, in a sentence."""

_RANK = {EffectiveMode.DISABLE: 0, EffectiveMode.PERMISSIVE: 1, EffectiveMode.STRICT: 2}

_CLOSED = Decision(Dataplane.SIDECAR, EffectiveMode.STRICT)


class ModeChange(msgspec.Struct, frozen=True):
    """A port that is enforced in another way than before; None stands for all ports that neither decision names."""

    port: int | None
    before: EffectiveMode
    now: EffectiveMode

    def __str__(self) -> str:
        what = "all other ports" if self.port is None else f"port {self.port}"
        return f"{what} {self.before} -> {self.now}"


def tightened(old: Decision, new: Decision) -> tuple[ModeChange, ...]:
    """The ports on which `new` lets in less than `old` did, ascending, what stands for all others first."""
    return tuple(change for change in _changes(old, new) if _RANK[change.now] > _RANK[change.before])


def closed(key: WorkloadKey, old: Decision, new: Decision | None) -> tuple[str, ...]:
    """What the proxy of a workload may no longer let in, in sentences; None: it is no longer the proxy's."""
    if new is None:
        return (f"{key}: no longer served by this proxy",)
    return tuple(f"{key} {change}" for change in tightened(old, new))


def closed_by(changes: Iterable[DecisionChange], *, on: Dataplane) -> Iterator[str]:
    """What the proxies of a data plane may no longer let in after a step, in sentences."""
    for change in changes:
        if change.old is None or change.old.dataplane is not on:
            continue
        served = change.new is not None and change.new.dataplane is on
        yield from closed(change.key, change.old, change.new if served else None)


def loosens(old: Decision | None, new: Decision | None) -> bool:
    """Whether a workload lets more in by `new` than by `old` on some port, or may until all is said about it.

    A workload that goes, or leaves its data plane, counts; so does one that appears with anything but STRICT: the
    policy that closes it may not have been read yet.
    """
    if new is None:
        return True
    if old is None:
        return bool(tightened(new, _CLOSED))
    left = old.dataplane.enforces and new.dataplane is not old.dataplane
    return left or bool(tightened(new, old))


def _changes(old: Decision, new: Decision) -> list[ModeChange]:
    named = sorted({entry.port for entry in (*old.ports, *new.ports)})
    return [ModeChange(port, old.in_force(port), new.in_force(port)) for port in (None, *named)]
