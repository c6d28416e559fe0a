"""The PeerAuthentication resource, as its author wrote it.

Nothing is interpreted: UNSET stays UNSET, and which level a resource speaks for is `policy/`'s to say, because that
depends on the root namespace. Source: Istio's PeerAuthentication reference, `security.istio.io/v1`.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from peerauth.model.meta import NO_LABELS, NOWHERE, Labels, Meta, Origin


class Mode(StrEnum):
    """`mtls.mode` as the resource has it; an absent `mtls` is UNSET."""

    UNSET = "UNSET"
    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


class PortMode(msgspec.Struct, frozen=True, gc=False):
    """One entry of `portLevelMtls`: a port of the workload, and the mode said for it."""

    port: int
    mode: Mode
    origin: Origin = NOWHERE


class PeerAuthentication(msgspec.Struct, frozen=True, gc=False):
    """One policy. An absent, empty and `matchLabels`-less selector are all `NO_LABELS`; `ports` ascend by number."""

    meta: Meta
    selector: Labels = NO_LABELS
    mode: Mode = Mode.UNSET
    mode_origin: Origin = NOWHERE
    selector_origin: Origin = NOWHERE
    ports: tuple[PortMode, ...] = ()
