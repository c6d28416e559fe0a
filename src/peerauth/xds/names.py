"""The names of one type on one stream, each with a state: what the client has of it, refuses, is sent, is owed.

A name is in one `Stage` at a time, and goes from one to another by an event:

    event             settled    DUE        OWED       SUSPECT    SENT            SENT_DUE / SENT_OWED
    may differ        DUE        DUE        OWED       DUE        SENT_DUE        stays
    asked for         OWED       OWED       OWED       OWED       SENT_OWED       SENT_OWED
    nothing to say    -          settled    settled    -          -               -
    sent              -          SENT       SENT       SENT       -               -
    acknowledged      -          -          -          -          settled         DUE / OWED
    refused, alone    -          -          -          -          settled         DUE / OWED
    refused, with others: what was only an answer is owed again, what the client is still to have is a suspect
                      -          -          -          -          OWED, SUSPECT or DUE
    not wanted        settled    settled    settled    settled    settled         settled

Beside the stage stand two facts, which only the client's word changes: the version that it has, and the version that it
has refused alone, if any. A settled name has what it is to have, or refuses it. What is settled costs one entry, so a
client of a hundred thousand names costs little more than their versions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import Enum

from peerauth.xds.answer import ABSENT


class Stage(Enum):
    """What goes on with a name that is not settled."""

    DUE = "may differ from what the client has"
    OWED = "asked for: to be answered even if nothing is new"
    SUSPECT = "was refused with others, and is to be tried with fewer of them"
    SENT = "on its way"
    SENT_DUE = "on its way, and may differ by now"
    SENT_OWED = "on its way, and asked for again meanwhile"


_AGAIN = {Stage.DUE: Stage.SENT_DUE, Stage.OWED: Stage.SENT_OWED}


class Names:
    """All of them, by event. `has`, `refuses` and `sent` (name to version) are for reading."""

    __slots__ = ("_agenda", "has", "refuses", "sent")

    def __init__(self) -> None:
        self.has: dict[str, str] = {}
        self.refuses: dict[str, str] = {}
        self.sent: dict[str, str] = {}
        self._agenda: dict[str, Stage] = {}  # what is to be done next: DUE, OWED or SUSPECT

    def stage(self, name: str) -> Stage | None:
        """None: settled."""
        next_stage = self._agenda.get(name)
        if name not in self.sent:
            return next_stage
        return Stage.SENT if next_stage is None else _AGAIN[next_stage]

    def pending(self) -> Mapping[str, Stage]:
        """The names that something is to be said of, or may be: as what, when nothing of them is on its way."""
        return self._agenda

    def concerns(self, name: str) -> bool:
        """Whether the client has the name, refuses it or is sent it."""
        return name in self.has or name in self.refuses or name in self.sent

    def claim(self, versions: Mapping[str, str]) -> None:
        """The client says, before anything is sent, that it has these."""
        self.has = dict(versions)

    def may_differ(self, names: Iterable[str]) -> None:
        for name in names:
            if self._agenda.get(name) is not Stage.OWED:
                self._agenda[name] = Stage.DUE

    def ask(self, names: Iterable[str]) -> None:
        for name in names:
            self._agenda[name] = Stage.OWED

    def settle(self, versions: Mapping[str, str]) -> dict[str, str]:
        """Nothing has to be said of these, which are to be of these versions; returns those whose refusal ends so."""
        relieved: dict[str, str] = {}
        for name, version in versions.items():
            del self._agenda[name]
            if name in self.refuses and version == self.has.get(name, ABSENT):
                del self.refuses[name]
                relieved[name] = version
        return relieved

    def send(self, versions: dict[str, str]) -> None:
        self.sent = versions
        for name in versions:
            self._agenda.pop(name, None)

    def acknowledge(self) -> dict[str, str]:
        """The client has taken what was sent; returns it."""
        sent, self.sent = self.sent, {}
        for name, version in sent.items():
            self.refuses.pop(name, None)
            if version == ABSENT:
                self.has.pop(name, None)
            else:
                self.has[name] = version
        return sent

    def refuse(self) -> dict[str, str]:
        """The client will not take what was sent, and that is to blame; returns it."""
        sent, self.sent = self.sent, {}
        self.refuses.update(sent)
        return sent

    def suspect(self, suspects: Collection[str]) -> dict[str, str]:
        """Something of what was sent is refused, perhaps one of these; returns what was sent.

        What was only an answer is owed again: the client has that very version, or asked in vain.
        """
        sent, self.sent = self.sent, {}
        self.may_differ(sent.keys() - suspects)
        self._try(suspects)
        self.ask(name for name, version in sent.items() if version == self.has.get(name, ABSENT))
        return sent

    def retry(self, names: Mapping[str, str]) -> None:
        """Of what was refused alone these are tried once more (name to the version that it is to have)."""
        for name in names:
            if self.refuses.pop(name) == names[name]:
                self._try((name,))

    def clear_suspicion(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are suspects still, in order: it is their turn."""
        suspects = sorted(name for name in names if self._agenda.get(name) is Stage.SUSPECT)
        self.may_differ(suspects)
        return suspects

    def forgive(self) -> None:
        """What was refused is to be sent all the same: nothing less than all can be."""
        self.may_differ(self.refuses)
        self.refuses.clear()

    def drop(self, names: Iterable[str]) -> dict[str, str]:
        """The client does not want these: what is on its way does not count as held. Returns that they are gone."""
        gone: dict[str, str] = {}
        for name in names:
            for each in (self.has, self.refuses, self.sent):
                each.pop(name, None)
            self._agenda.pop(name, None)
            gone[name] = ABSENT
        return gone

    def keep(self, wanted: Collection[str]) -> dict[str, str]:
        """The client wants only these any more."""
        others = (self.has | self.refuses | self.sent).keys() - wanted
        for name in self._agenda.keys() - wanted:
            del self._agenda[name]
        return self.drop(others)

    def _try(self, names: Iterable[str]) -> None:
        for name in names:
            if self._agenda.get(name) is not Stage.OWED:
                self._agenda[name] = Stage.SUSPECT
