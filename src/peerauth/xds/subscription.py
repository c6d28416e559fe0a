"""What a client asked for of one type: names, everything, or both. Holds no resources and sends nothing.

State of the world replaces the whole subscription with each request; delta adjusts it. Both know two kinds of
"everything": the name `*`, and for some types a first request that names nothing (the legacy form).

Facts: xDS protocol, "How the client specifies what resources to return" and "Wildcard".
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import msgspec

WILDCARD = "*"

Related = Callable[[str], Collection[str]]
"""The names that go with a name: what has it for an alias, or belongs to it."""


class SubscriptionChange(msgspec.Struct, frozen=True):
    """What one request changed. `asked` names are answered even when nothing about them is new.

    `doubtful`: those of the dropped that a wildcard still covers. They are answered, as the client cannot know whether
    it does.
    """

    asked: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    doubtful: frozenset[str] = frozenset()
    wildcard_began: bool = False
    wildcard_ended: bool = False


@dataclass(slots=True)
class Subscription:
    """The names of one type on one stream. `legacy_wildcard`: an empty first request means everything.

    `related` says what goes with a name; where it is None names come alone. `home` is a name that nothing is sent under
    and whose company the client has without asking: a ztunnel waits for the workloads of its own node, and never asks
    for them.
    """

    legacy_wildcard: bool
    related: Related | None = None
    home: str = ""
    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    _begun: bool = False
    _named: bool = False  # a request has named something, so an empty one is no longer the legacy wildcard

    _leaders: set[str] = field(default_factory=set)  # names asked for that brought others along

    def covers(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def replace(self, names: Collection[str]) -> SubscriptionChange:
        """State of the world: `names` is all that the client wants from now on."""
        wanted = set(names)
        if wanted:
            self._named = True
        wildcard = WILDCARD in wanted or (not self._named and self.legacy_wildcard)
        wanted.discard(WILDCARD)
        return self._become(wildcard=wildcard, names=wanted)

    def adjust(self, *, subscribe: Collection[str], unsubscribe: Collection[str]) -> SubscriptionChange:
        """Delta: a name in both lists ends unsubscribed (ztunnel says "no wildcard" so)."""
        legacy = not self._begun and not subscribe and self.legacy_wildcard
        had, gone = self.wildcard, set(unsubscribe)
        self.wildcard = (had or legacy or WILDCARD in subscribe) and WILDCARD not in gone
        asked = set(subscribe) - gone - {WILDCARD}
        gone.discard(WILDCARD)
        self._begun = True
        self.names |= asked
        self.names -= gone
        # Subscribing again to a name is how a client asks for it again.
        return SubscriptionChange(
            asked=frozenset(asked) | self._bring_along(asked),
            dropped=frozenset(gone),
            doubtful=frozenset(gone if self.wildcard else ()),
            wildcard_began=self.wildcard and not had,
            wildcard_ended=had and not self.wildcard,
        )

    def forget(self, names: Collection[str]) -> None:
        """These names are as if they had never been asked for."""
        self.names.difference_update(names)

    def follow(self) -> None:
        """Subscribes to what is new behind names asked for earlier: a service's new workload needs no asking."""
        if self.related is not None and not self.wildcard:
            self._leaders &= self.names
            self.names |= self._neighbours(self.related)
            for name in self._leaders:
                self.names.update(self.related(name))

    def _bring_along(self, asked: Collection[str]) -> frozenset[str]:
        """Subscribes to what goes with the names asked for; returns what did. Everything needs no company.

        ztunnel asks for an address and waits until that very name is answered: what has the address is sent under
        its own name, and the name asked for, which nothing has, comes back as removed in the same answer.
        """
        if self.related is None or self.wildcard:
            return frozenset()
        leaders = {name: names for name in asked if (names := self.related(name))}
        along = frozenset(other for names in leaders.values() for other in names)
        along |= self._neighbours(self.related) - self.names
        self._leaders.update(leaders)
        self.names |= along
        return along

    def _neighbours(self, related: Related) -> frozenset[str]:
        return frozenset(related(self.home)) if self.home else frozenset()

    def _become(self, *, wildcard: bool, names: set[str]) -> SubscriptionChange:
        change = SubscriptionChange(
            asked=frozenset(names - self.names),
            dropped=frozenset(() if wildcard else self.names - names),
            wildcard_began=wildcard and not self.wildcard,
            wildcard_ended=self.wildcard and not wildcard,
        )
        self._begun = True
        self.wildcard = wildcard
        self.names = names
        return change
