"""Each name of a type goes through its states as the table says, whatever happens to the others.

The model has one record for each name and knows nothing of the others; what is on its way is one answer for several.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from peerauth.xds.names import Names, Stage

NAMES = ("a", "b", "c")
SOME = st.sets(st.sampled_from(NAMES), min_size=1)
VERSIONS = st.sampled_from(["", "1", "2"])

DUE, OWED, SUSPECT = Stage.DUE, Stage.OWED, Stage.SUSPECT
SENT, SENT_DUE, SENT_OWED = Stage.SENT, Stage.SENT_DUE, Stage.SENT_OWED
ON_ITS_WAY = {SENT, SENT_DUE, SENT_OWED}
MAY_DIFFER = {None: DUE, DUE: DUE, OWED: OWED, SUSPECT: DUE, SENT: SENT_DUE, SENT_DUE: SENT_DUE, SENT_OWED: SENT_OWED}
ASKED = {stage: SENT_OWED if stage in ON_ITS_WAY else OWED for stage in MAY_DIFFER}
ANSWERED = {SENT: None, SENT_DUE: DUE, SENT_OWED: OWED}
REFUSED_WITH_OTHERS = {SENT: DUE, SENT_DUE: DUE, SENT_OWED: OWED}
SUSPECTED = {SENT: SUSPECT, SENT_DUE: SUSPECT, SENT_OWED: OWED}


@dataclass
class One:
    """A name by itself."""

    stage: Stage | None = None
    has: str = ""
    refuses: str | None = None
    sent: str = ""


class Bookkeeping(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.names = Names()
        self.model = {name: One() for name in NAMES}

    def on_its_way(self) -> dict[str, One]:
        return {name: one for name, one in self.model.items() if one.stage in ON_ITS_WAY}

    @rule(names=SOME)
    def may_differ(self, names: set[str]) -> None:
        self.names.may_differ(names)
        for name in names:
            self.model[name].stage = MAY_DIFFER[self.model[name].stage]

    @rule(names=SOME)
    def asked(self, names: set[str]) -> None:
        self.names.ask(names)
        for name in names:
            self.model[name].stage = ASKED[self.model[name].stage]

    @precondition(lambda self: not self.on_its_way())
    @rule(data=st.data(), versions=st.dictionaries(st.sampled_from(NAMES), VERSIONS, min_size=1))
    def sent(self, data: st.DataObject, versions: dict[str, str]) -> None:
        sendable = {name: version for name, version in versions.items() if self.model[name].stage is not None}
        self.names.send(dict(sendable))
        for name, version in sendable.items():
            self.model[name].stage, self.model[name].sent = SENT, version

    @precondition(lambda self: not self.on_its_way())
    @rule(names=SOME)
    def nothing_to_say(self, names: set[str]) -> None:
        pending = {name: self.model[name] for name in sorted(names) if self.model[name].stage is not None}
        relieved = self.names.settle({name: one.has for name, one in pending.items()})
        assert relieved == {name: one.has for name, one in pending.items() if one.refuses is not None}
        for one in pending.values():
            one.stage, one.refuses = None, None

    @precondition(lambda self: self.on_its_way())
    @rule()
    def acknowledged(self) -> None:
        landed = self.on_its_way()
        assert self.names.acknowledge() == {name: one.sent for name, one in landed.items()}
        for one in landed.values():
            assert one.stage is not None
            one.stage, one.has, one.refuses = ANSWERED[one.stage], one.sent, None

    @precondition(lambda self: self.on_its_way())
    @rule()
    def refused_alone(self) -> None:
        landed = self.on_its_way()
        assert self.names.refuse() == {name: one.sent for name, one in landed.items()}
        for one in landed.values():
            assert one.stage is not None
            one.stage, one.refuses = ANSWERED[one.stage], one.sent

    @precondition(lambda self: self.on_its_way())
    @rule(names=SOME)
    def refused_with_others(self, names: set[str]) -> None:
        landed = self.on_its_way()
        suspects = sorted(names & landed.keys())
        assert self.names.suspect(suspects) == {name: one.sent for name, one in landed.items()}
        for name, one in landed.items():
            assert one.stage is not None
            one.stage = (SUSPECTED if name in suspects else REFUSED_WITH_OTHERS)[one.stage]
            if one.sent == one.has:
                one.stage = OWED

    @precondition(lambda self: not self.on_its_way())
    @rule(names=SOME)
    def its_turn(self, names: set[str]) -> None:
        suspects = [name for name in sorted(names) if self.model[name].stage is SUSPECT]
        assert self.names.clear_suspicion(names) == suspects
        for name in suspects:
            self.model[name].stage = DUE

    @precondition(lambda self: not self.on_its_way())
    @rule(names=SOME, version=VERSIONS)
    def tried_once_more(self, names: set[str], version: str) -> None:
        refused = {name: self.model[name] for name in sorted(names) if self.model[name].refuses is not None}
        self.names.retry(dict.fromkeys(refused, version))
        for one in refused.values():
            if one.refuses == version and one.stage is not OWED:
                one.stage = SUSPECT
            one.refuses = None

    @rule(names=SOME)
    def not_wanted(self, names: set[str]) -> None:
        assert self.names.drop(names) == dict.fromkeys(names, "")
        self.model.update({name: One() for name in names})

    @rule(names=SOME)
    def only_these_are_wanted(self, names: set[str]) -> None:
        others = [name for name in NAMES if name not in names]
        gone = {
            name
            for name, one in self.model.items()
            if name in others and (one.has or one.refuses is not None or one.stage in ON_ITS_WAY)
        }
        assert self.names.keep(names).keys() == gone
        self.model.update({name: One() for name in others})

    @invariant()
    def every_name_is_where_it_is_to_be(self) -> None:
        for name, one in self.model.items():
            assert self.names.stage(name) is one.stage, name
            assert self.names.has.get(name, "") == one.has
            assert self.names.refuses.get(name) == one.refuses
            assert (name in self.names.sent) == (one.stage in ON_ITS_WAY)

    @invariant()
    def nothing_is_kept_of_what_is_settled_and_not_there(self) -> None:
        for name, one in self.model.items():
            if (one.stage, one.has, one.refuses) == (None, "", None):
                assert not self.names.concerns(name)
                assert name not in self.names.pending()


TestBookkeeping = Bookkeeping.TestCase
TestBookkeeping.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
