"""Which edits of files are taken, and when: what a file said stays in force until the file is whole.

A state machine: looks at the files and the time go in; what changes in force, what is to be said and when to look again
come out. It has no clock and reads nothing. A look costs what is not as it was at the last one.

A file that is written is for a moment empty, or half of what it will be, and would be read as if its author had taken
policies back. Therefore a file that a process has open for writing, that has become empty, ends inside a line of what
it said, or has a fault, says what it said before, until it is whole. What *removes or loosens* waits until nothing has
changed for `SETTLE_SECONDS` and every file is whole: a document that moves from one file to another must not be in
neither. What only tightens is taken at once. A file that was renamed to its name is whole at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from peerauth.model.changes import Reset
from peerauth.model.diagnostic import Diagnostic, Severity
from peerauth.model.mesh import MeshConfig
from peerauth.model.meta import Origin
from peerauth.model.source import News
from peerauth.model.world import World
from peerauth.policy.rehearsal import Loosening, Rehearsal, loosening_of
from peerauth.sources.descriptions import Description, Descriptions
from peerauth.sources.followedfile import PATIENCE_SECONDS, SETTLE_SECONDS, FollowedFile
from peerauth.sources.sighting import Look

WRITER_SECONDS = 0.1
"""How often a file is looked at that someone writes: nothing tells of the end of it."""
ROUNDS = 4
"""How often edits are tried without those that loosened the time before..."""
MOST_ALONE = 8
"""...and how many then each for itself; more of them wait until what loosens can be taken."""

Accept = Callable[[MeshConfig, World], Sequence[Diagnostic]]
"""Whether a mesh of this configuration can be changed to this world, by whoever runs it: the reasons why not."""


class Following:
    """Files as they are followed: `begin` with a look, then `see` more. `again` is when to look again at the latest."""

    def __init__(self, *, accept: Accept = lambda mesh, world: ()) -> None:
        self.again: float | None = None
        self._accept = accept
        self._look = Look()
        self._files: dict[str, FollowedFile] = {}
        self._stirring: set[str] = set()  # the files that changed a moment ago, are written, or wait to be taken
        self._descriptions = Descriptions()
        self._rehearsal = Rehearsal()
        self._changes: dict[str, Reset] = {}  # what this look brought in force
        self._unreadable: dict[str, tuple[Diagnostic, float]] = {}
        self._told: dict[str, tuple[Diagnostic, ...]] = {}
        self._is_tried = False  # what is there now, without all of it having been taken

    def begin(self, look: Look, *, now: float) -> News:
        """All that is there now is in force, `held` what is wrong with it."""
        self._look = look
        for name, sighting in look.files.items():
            file = self._files[name] = FollowedFile(-math.inf)
            file.seen = sighting
        self._unreadable = {path: (fault, now) for path, fault in look.unreadable.items()}
        self._put_in_force(tuple(look.files))
        self._stirring.update(look.files)
        self._rest(now)
        documents = (document for sighting in look.files.values() for document in sighting.documents)
        held = tuple(diagnostic for document in documents for diagnostic in document.diagnostics)
        return News(tuple(self._changes.values()), held)

    def see(self, look: Look, *, now: float) -> News:
        """Takes in one look; returns what is to be done about it."""
        self._changes = {}
        self._take_in(look, now)
        stirring = self._in_order()
        changed = [name for name in stirring if self._files[name].differs]
        ready = tuple(name for name in changed if not self._faults(name))
        settled = (
            len(ready) == len(changed)
            and not self._unreadable
            and all(self._files[name].is_settled(now) for name in stirring)
        )
        noted = tuple(note for name in ready if (note := self._files[name].note(name))) if settled else ()
        self._take(ready, settled=settled)
        left = [name for name in changed if self._files[name].differs]
        held, mended = self._tell(left, now)
        self.again = self._next(left, now)
        self._rest(now)
        return News(tuple(self._changes.values()), held, mended, () if left else noted)

    def _take_in(self, look: Look, now: float) -> None:
        is_new = look.unreadable != {path: fault for path, (fault, _) in self._unreadable.items()}
        self._unreadable = {
            path: (fault, self._unreadable[path][1] if path in self._unreadable else now)
            for path, fault in look.unreadable.items()
        }
        before, self._look = self._look.files, look
        self._stirring.update(name for name, sighting in look.files.items() if before.get(name) is not sighting)
        self._stirring.update(before.keys() - look.files.keys())
        for name in self._stirring:
            file = self._files.setdefault(name, FollowedFile(now))
            is_new |= file.see(look.files.get(name), now=now)
        if is_new:
            self._is_tried = False
            for name in self._stirring:
                self._files[name].refused = ()

    def _rest(self, now: float) -> None:
        """Leaves alone, until they are others, the files that are in force as they are and stand still."""
        for name in tuple(self._stirring):
            file = self._files[name]
            if not file.differs and file.is_settled(now):
                self._stirring.discard(name)
            if file.seen is None and file.in_force is None:
                self._stirring.discard(name)
                del self._files[name]

    def _in_order(self) -> list[str]:
        """The files that are not at rest, in the order in which they are read."""
        return sorted(self._stirring, key=lambda name: self._files[name].place(name))

    def _faults(self, name: str) -> tuple[Diagnostic, ...]:
        """Why what is there cannot be used yet, whatever it would change."""
        file = self._files[name]
        if file.seen is None or file.in_force is None:  # what comes or goes where nobody can look is not believed
            unknown = tuple(fault for path, (fault, _) in self._unreadable.items() if _is_below(name, path))
            return unknown or file.faults(name)
        return file.faults(name)

    def _take(self, names: tuple[str, ...], *, settled: bool) -> None:
        """Puts in force what can be of the edits of these files, together if possible."""
        if not names or (self._is_tried and not settled):
            return
        refused = frozenset(self._refused(names))
        if settled and not refused:
            self._put_in_force(names)
            return
        rest = tuple(name for name in names if name not in refused)
        self._is_tried = True
        for _ in range(ROUNDS):
            refusal, loosening = self._try(rest) if rest else ((), None)
            if not rest or refusal:
                break
            if loosening is None:
                self._put_in_force(rest)
                break
            rest = tuple(name for name in rest if name not in loosening.files)
        alone = [name for name in names if name not in refused and self._files[name].differs]
        for name in alone if len(alone) <= MOST_ALONE else ():
            if self._try((name,)) == ((), None):
                self._put_in_force((name,))

    def _refused(self, names: tuple[str, ...]) -> Iterator[str]:
        """The files to whose edits the mesh cannot be changed: those by themselves, or all if only together."""
        refusal, _ = self._try(names)
        if not refusal:
            return
        half = len(names) // 2
        guilty = [*self._refused(names[:half]), *self._refused(names[half:])] if half else []
        for name in guilty or names:
            if not guilty:
                self._files[name].refused = refusal
            yield name

    def _try(self, names: Sequence[str]) -> tuple[tuple[Diagnostic, ...], Loosening | None]:
        """Why the mesh cannot be changed to what these files say now, and what that would loosen."""
        mesh = self._rehearsal.world.mesh
        with self._rehearsal.trial(self._descriptions.resets(self._edited(names))) as step:
            return tuple(self._accept(mesh, self._rehearsal.world)), loosening_of(step)

    def _put_in_force(self, names: Sequence[str]) -> None:
        edited = self._edited(names)
        resets = self._descriptions.resets(edited)
        self._descriptions.take(edited)
        for name in names:
            self._files[name].in_force = self._files[name].seen
        if resets:
            self._rehearsal.take(resets)
            self._changes.update({reset.source: reset for reset in resets})
            self._is_tried = False

    def _edited(self, names: Iterable[str]) -> dict[str, Description | None]:
        """What these files say now."""
        return {name: seen.description(name) if (seen := self._files[name].seen) else None for name in names}

    def _tell(self, left: Sequence[str], now: float) -> tuple[tuple[Diagnostic, ...], tuple[str, ...]]:
        """What is not followed for long enough to say so and was not said; and the paths that are followed again."""
        amiss = {**self._amiss(left, now), **self._waiting(left, now)}
        kept = {path: faults for path, faults in self._told.items() if path in left or path in self._unreadable}
        mended = tuple(path for path in self._told if path not in kept)
        news = tuple(fault for path, faults in amiss.items() if kept.get(path) != faults for fault in faults)
        self._told = {**kept, **amiss}
        return news, mended

    def _amiss(self, left: Iterable[str], now: float) -> dict[str, tuple[Diagnostic, ...]]:
        """The paths that cannot be used, and why."""
        found: dict[str, tuple[Diagnostic, ...]] = {
            path: (fault,) for path, (fault, since) in self._unreadable.items() if now - since >= SETTLE_SECONDS
        }
        for name in left:
            file = self._files[name]
            if file.is_to_be_told(now) and (faults := file.faults(name)):
                found[name] = faults
        return found

    def _waiting(self, left: Iterable[str], now: float) -> dict[str, tuple[Diagnostic, ...]]:
        """That edits which could be used wait for other files; told of the first."""
        able = [name for name in left if self._files[name].is_to_be_told(now) and not self._faults(name)]
        if not able:
            return {}
        is_late = any(now - self._files[name].differs_since >= PATIENCE_SECONDS for name in able)
        others = [*self._unreadable, *(name for name in left if self._faults(name))]
        others += [name for name in self._in_order() if is_late and not self._files[name].is_settled(now)]
        if not others:
            return {}
        more = f" (and {len(able) - 1} more)" if len(able) > 1 else ""
        message = f"what it says now{more} lets in more than before: it waits until {others[0]} can be followed"
        return {able[0]: (Diagnostic("file-waits", Severity.WARNING, message, Origin(able[0])),)}

    def _next(self, left: Iterable[str], now: float) -> float | None:
        """When a file is judged in another way although nothing changes."""
        files = [self._files[name] for name in left]
        times = [since + SETTLE_SECONDS for _, since in self._unreadable.values()]
        times += [time for file in files for time in file.deadlines()]
        if files:
            stirring = [self._files[name] for name in self._stirring]
            times += [file.quiet_since + SETTLE_SECONDS for file in stirring]
            times += [now + WRITER_SECONDS for file in stirring if file.is_in_writing]
        return min((time for time in times if time > now), default=None)


def _is_below(name: str, path: str) -> bool:
    return name == path or name.startswith(path.rstrip("/") + "/")
