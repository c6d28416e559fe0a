"""What proxies have said: which streams are open, what each acknowledged, what it refused and why.

Observation only: nothing here decides what is sent. `now` is given by the caller, in seconds since the epoch.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import msgspec

from peerauth.dataplane.type_urls import TypeUrl
from peerauth.xds.wire import Command, RecordAck, RecordForgotten, RecordHeld, RecordNack, Refusal


class Nack(msgspec.Struct, frozen=True):
    """A refused answer. `isolated`: the resources in `versions` are to blame, not just among the suspects."""

    type_url: TypeUrl
    versions: Mapping[str, str]
    refusal: Refusal
    isolated: bool
    at: float


class Answer(msgspec.Struct, frozen=True):
    """What a proxy says of one resource, by version: what it acknowledged last, and what it will not take.

    `held` is empty for one that it has not, and None while none of its open streams has said anything of the type.
    """

    held: str | None
    refused: str = ""


class ProxyStatus(msgspec.Struct, frozen=True):
    """One proxy now. `acked` is type to name to version over its open streams; `refused` is what it will not take.

    `forgotten`: so many names it asked for on demand beyond what is kept for a stream, and has nothing of.
    """

    connected: bool
    acked: Mapping[TypeUrl, Mapping[str, str]]
    refused: Mapping[TypeUrl, Mapping[str, Nack]]
    last_nack: Nack | None
    forgotten: int = 0


@dataclass(slots=True)
class ProxyRecord:
    """The record that a `ProxyStatus` is taken from. Streams are numbered by the server, never reused."""

    streams: dict[int, dict[TypeUrl, dict[str, str]]] = field(default_factory=dict)
    refused: dict[TypeUrl, dict[str, Nack]] = field(default_factory=dict)
    last_nack: Nack | None = None
    forgotten: dict[int, int] = field(default_factory=dict)  # by stream

    def opened(self, stream: int) -> None:
        self.streams[stream] = {}

    def closed(self, stream: int) -> None:
        self.streams.pop(stream, None)
        self.forgotten.pop(stream, None)

    def record(self, stream: int, command: Command, *, now: float) -> None:
        """Takes note of the commands that are observations; the others pass by."""
        match command:
            case RecordHeld(type_url=type_url, versions=versions):
                self.streams[stream][type_url] = dict(versions)
            case RecordAck(type_url=type_url, versions=versions):
                self._acknowledged(self.streams[stream].setdefault(type_url, {}), type_url, versions)
            case RecordNack(type_url=type_url, versions=versions, refusal=refusal, isolated=isolated):
                self.last_nack = Nack(type_url, versions, refusal, isolated, now)
                if isolated and versions:
                    self.refused.setdefault(type_url, {}).update(dict.fromkeys(versions, self.last_nack))
            case RecordForgotten(names=names):
                self.forgotten[stream] = self.forgotten.get(stream, 0) + names
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
        acked = self._acked(type_url)
        if acked is None:
            return None
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

    def answer(self, type_url: TypeUrl, name: str) -> Answer:
        """What the proxy says of one resource."""
        acked = self._acked(type_url)
        nack = self.refused.get(type_url, {}).get(name)
        return Answer(None if acked is None else acked.get(name, ""), "" if nack is None else nack.versions[name])

    def _acked(self, type_url: TypeUrl) -> Mapping[str, str] | None:
        """What is acknowledged over its open streams, name to version; None if none has spoken of the type."""
        spoken = [types[type_url] for types in self.streams.values() if type_url in types]
        if len(spoken) == 1:
            return spoken[0]
        return ChainMap(*spoken) if spoken else None

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
            forgotten=sum(self.forgotten.values()),
        )
