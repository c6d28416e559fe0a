"""Values of one type's dialogue: what there is to say, what of it may go out now, and the answer that is on its way."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from peerauth.xds.wire import Resource

ABSENT = ""  # the version of a name that does not exist


class InFlight(msgspec.Struct, frozen=True):
    """An answer that the client has yet to take or refuse. `trial`: part of a refused answer, alone."""

    nonce: str
    resources: Mapping[str, Resource]
    trial: bool


class Clearance(msgspec.Struct, frozen=True):
    """What the order between types lets through: changes, names the client waits for, removals."""

    changes: bool
    asked: bool
    removals: bool


class Plan(msgspec.Struct, frozen=True):
    """What can be said now: names to send and to take away. Nothing has to be said of those in `quiet` (to versions).

    `partial`: there is more to send, which something holds back.
    """

    adds: Mapping[str, Resource]
    drops: tuple[str, ...]
    quiet: Mapping[str, str] = {}
    partial: bool = False
