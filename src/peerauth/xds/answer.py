"""Values of one type's dialogue: what differs, what of it may go out now, and the answer that is on its way."""

from __future__ import annotations

import msgspec

from peerauth.xds.wire import Resource

ABSENT = ""  # the version of a name that does not exist


class Answer(msgspec.Struct):
    """A response on its way. `versions` is what it changes for the client; `trial`: part of a refused answer, alone."""

    nonce: str
    versions: dict[str, str]
    resources: dict[str, Resource]
    trial: bool


class Plan(msgspec.Struct, frozen=True):
    """The names that differ between the client and the view, before anything holds them back; sorted."""

    adds: list[str]
    drops: list[str]


class Clearance(msgspec.Struct, frozen=True):
    """What the order between types lets through: changes, names the client waits for, removals."""

    changes: bool
    asked: bool
    removals: bool
