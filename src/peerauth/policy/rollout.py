"""How a decision is replaced on a live workload without a moment in which client and server disagree.

Servers and clients learn of a change at different times. Where the clients' way of connecting changes (mutual TLS to
plaintext or back), the server takes both until every client's proxy has acknowledged its new way: a jump from DISABLE
to STRICT is carried out as DISABLE, PERMISSIVE, STRICT, and the way back likewise. Elsewhere a change is one step.
"""

from __future__ import annotations

import msgspec

from peerauth.policy.decision import Decision, EffectiveMode, PortDecision


def meeting_point(old: Decision, new: Decision) -> Decision | None:
    """What the server must do while its clients change over, or None if `new` can be put in force at once.

    Never more open than PERMISSIVE, and only on ports where old and new ask clients for different things; the rest
    are `new`'s from the start.
    """
    mode = _between(old.mode, new.mode)
    named = sorted({entry.port for entry in (*old.ports, *new.ports)})
    ports = tuple(PortDecision(port, _between(old.mode_of(port), new.mode_of(port))) for port in named)
    if mode is new.mode and all(entry.mode is new.mode_of(entry.port) for entry in ports):
        return None
    return msgspec.structs.replace(new, mode=mode, ports=ports)


def _between(old: EffectiveMode, new: EffectiveMode) -> EffectiveMode:
    changes_over = (old is EffectiveMode.DISABLE) != (new is EffectiveMode.DISABLE)
    return EffectiveMode.PERMISSIVE if changes_over else new
