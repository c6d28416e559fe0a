"""One file that is followed: what of it is in force, what is there now, and whether that is believed to be all.

Without a clock and without I/O: sightings and the time go in.
"""

from __future__ import annotations

from collections.abc import Iterator

from peerauth.model.diagnostic import Diagnostic, Severity
from peerauth.model.meta import Origin
from peerauth.sources.descriptions import Place, place_of
from peerauth.sources.sighting import Sighting

SETTLE_SECONDS = 1.0
"""How long a file must not have changed before what it takes back is believed."""
PATIENCE_SECONDS = 5.0
"""After this it is said that a file is not followed, even if it never stands still."""


class FollowedFile:
    """One file: what of it is in force, and what was there at the last look.

    `stands_since` is when it changed last, `quiet_since` the same or when someone was last seen writing,
    `differs_since` when it became another than what is in force. `came_whole`: another file was put in its place by
    one step. `refused` is why the mesh cannot be changed to it.
    """

    __slots__ = ("came_whole", "differs_since", "in_force", "quiet_since", "refused", "seen", "stands_since")

    def __init__(self, now: float) -> None:
        self.in_force: Sighting | None = None
        self.seen: Sighting | None = None
        self.came_whole = False
        self.refused: tuple[Diagnostic, ...] = ()
        self.stands_since = self.quiet_since = self.differs_since = now

    def see(self, sighting: Sighting | None, *, now: float) -> bool:
        """Takes in what is there now; returns whether that is anything new."""
        before, did_differ = self.seen, self.differs
        self.seen = sighting
        is_new = _signature(before) != _signature(sighting)
        if is_new:
            known = {each.signature.identity for each in (before, self.in_force) if each}
            self.came_whole = bool(
                sighting and sighting.signature.identity not in known and sighting.signature.was_moved
            )
            self.stands_since = self.quiet_since = now
        if self.is_in_writing:
            self.quiet_since = now
        if not self.differs:
            self.in_force = sighting
        elif not did_differ:
            self.differs_since = now
        return is_new

    @property
    def differs(self) -> bool:
        """Whether what is there is not what is in force."""
        old, new = self.in_force, self.seen
        if old is None or new is None:
            return old is not new
        return not new.is_readable or not new.says_as(old)

    @property
    def is_in_writing(self) -> bool:
        """Whether some process has it open for writing, and will perhaps say what others take back."""
        return self.seen is not None and self.seen.in_writing

    def place(self, name: str) -> Place:
        """Where it is read among all files."""
        sighting = self.seen or self.in_force
        return place_of(name, argument=sighting.argument if sighting else 0)

    def is_settled(self, now: float) -> bool:
        """Whether what is there is believed to be all, also if it was taken already because it loosened nothing."""
        return not self.is_in_writing and (self.came_whole or now - self.quiet_since >= SETTLE_SECONDS)

    def is_to_be_told(self, now: float) -> bool:
        """Whether it has been another for so long that its author should know that it is not followed."""
        stands = self.came_whole or now - self.stands_since >= SETTLE_SECONDS
        return stands or now - self.differs_since >= PATIENCE_SECONDS

    def deadlines(self) -> tuple[float, ...]:
        """When it may be judged in another way without having changed."""
        return (
            self.quiet_since + SETTLE_SECONDS,
            self.stands_since + SETTLE_SECONDS,
            self.differs_since + PATIENCE_SECONDS,
        )

    def faults(self, name: str) -> tuple[Diagnostic, ...]:
        """Why what is there cannot be used yet, whatever it would change."""
        if self.seen is None:
            return ()
        unfinished = _unfinished(name, old=self.in_force, new=self.seen, came_whole=self.came_whole)
        return tuple(unfinished) or self.seen.faults or self.refused

    def note(self, name: str) -> Diagnostic | None:
        """What looks unfinished of an edit that has stood for long enough to be taken."""
        old, new = self.in_force, self.seen
        if old is None or new is None or self.came_whole or not _is_beginning(new.data, old.data):
            return None
        message = "the end of what it said is gone, and is taken back"
        return Diagnostic("file-shorter", Severity.WARNING, message, Origin(name))


def _signature(sighting: Sighting | None) -> object:
    return (sighting.signature, sighting.data, sighting.argument) if sighting else None


def _unfinished(name: str, *, old: Sighting | None, new: Sighting, came_whole: bool) -> Iterator[Diagnostic]:
    """Why a file is not whole, as far as that can be seen."""
    stays = "what it said before stays in force"
    if new.in_writing:
        yield Diagnostic(
            "file-in-writing",
            Severity.ERROR,
            f"a process has it open for writing: {stays}",
            Origin(name),
            hint=f"fuser -v {name} says which",
        )
    elif new.is_readable and not new.data.strip() and old and old.data.strip():
        hint = "remove the file to take it back"
        yield Diagnostic("file-empty", Severity.ERROR, f"it has become empty: {stays}", Origin(name), hint=hint)
    elif old and not came_whole and _is_beginning(new.data, old.data) and _ends_inside_a_line(new.data, old.data):
        message = f"it ends inside a line of what it said: {stays}"
        hint = "write the rest, or end the line if that is all"
        yield Diagnostic("file-unfinished", Severity.ERROR, message, Origin(name), hint=hint)


def _is_beginning(new: bytes, old: bytes) -> bool:
    """Whether the new bytes are the old ones without an end that says something."""
    return bool(new) and old.startswith(new) and bool(old[len(new) :].strip())


def _ends_inside_a_line(new: bytes, old: bytes) -> bool:
    return new[-1:] not in b"\r\n" and old[len(new) : len(new) + 1] not in b"\r\n"
