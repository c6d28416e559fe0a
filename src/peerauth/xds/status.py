"""What proxies have said: which streams are open, what each acknowledged, what it refused and why.

Observation only: nothing here decides what is sent. `now` is given by the caller, in seconds since the epoch.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import msgspec

from peerauth.dataplane.resources import TypeUrl
from peerauth.xds.wire import Command, RecordAck, RecordHeld, RecordNack, Refusal


class Nack(msgspec.Struct, frozen=True):
    """A refused answer. `isolated`: the resources in `versions` are to blame, not just among the suspects."""

    type_url: TypeUrl
    versions: Mapping[str, str]
    refusal: Refusal
    isolated: bool
    at: float


class ProxyStatus(msgspec.Struct, frozen=True):
    """One proxy now. `acked` is type to name to version over its open streams; `refused` is what it will not take."""

    connected: bool
    acked: Mapping[TypeUrl, Mapping[str, str]]
    refused: Mapping[TypeUrl, Mapping[str, Nack]]
    last_nack: Nack | None


@dataclass(slots=True)
class ProxyRecord:
    """The record that a `ProxyStatus` is taken from. Streams are numbered by the server, never reused."""

    streams: dict[int, dict[TypeUrl, dict[str, str]]] = field(default_factory=dict)
    refused: dict[TypeUrl, dict[str, Nack]] = field(default_factory=dict)
    last_nack: Nack | None = None

    def opened(self, stream: int) -> None:
        self.streams[stream] = {}

    def closed(self, stream: int) -> None:
        self.streams.pop(stream, None)

    def record(self, stream: int, command: Command, *, now: float) -> None:
        """Takes note of the commands that are observations; the others pass by."""
        match command:
            case RecordHeld(type_url=type_url, versions=versions):
                self.streams[stream][type_url] = dict(versions)
            case RecordAck(type_url=type_url, versions=versions):
                self._acknowledged(self.streams[stream].setdefault(type_url, {}), type_url, versions)
            case RecordNack(type_url=type_url, versions=versions, refusal=refusal, isolated=isolated):
                self.last_nack = Nack(type_url, versions, refusal, isolated, now)
                if isolated:
                    self.refused.setdefault(type_url, {}).update(dict.fromkeys(versions, self.last_nack))
            case _:
                pass

    def _acknowledged(self, acked: dict[str, str], type_url: TypeUrl, versions: Mapping[str, str]) -> None:
        refused = self.refused.get(type_url, {})
        for name, version in versions.items():
            refused.pop(name, None)
            if version:
                acked[name] = version
            else:
                acked.pop(name, None)
        if not refused:
            self.refused.pop(type_url, None)

    def outcome(
        self, type_url: TypeUrl, wanted: Mapping[str, str], *, names: Collection[str] | None
    ) -> tuple[Nack, ...] | None:
        """The refusals among `wanted` (name to version) once every name is acknowledged or refused; None before.

        `names` limits the question to some names; those without a version in `wanted` have to be gone.
        """
        spoken = [types[type_url] for types in self.streams.values() if type_url in types]
        if not spoken:
            return None
        acked = dict(ChainMap(*spoken))
        nacks: list[Nack] = []
        for name in wanted.keys() | acked.keys() if names is None else names:
            version = wanted.get(name, "")
            nack = self.refused.get(type_url, {}).get(name)
            if acked.get(name, "") == version:
                continue
            if nack is None or nack.versions[name] != version:
                return None
            nacks.append(nack)
        return tuple(nacks)

    def status(self) -> ProxyStatus:
        acked: dict[TypeUrl, dict[str, str]] = {}
        for types in self.streams.values():
            for type_url, versions in types.items():
                acked.setdefault(type_url, {}).update(versions)
        return ProxyStatus(
            connected=bool(self.streams),
            acked=acked,
            refused={type_url: dict(nacks) for type_url, nacks in self.refused.items()},
            last_nack=self.last_nack,
        )
