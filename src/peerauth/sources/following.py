"""Which edits of files are taken, and when: what a file said stays in force until the file is whole.

A state machine: looks at the files and the time go in; what is in force, what is to be said and when to look again come
out. It has no clock and reads nothing.

A file that is written is for a moment empty, or half of what it will be, and would be read as if its author had taken
policies back. Therefore a file that a process has open for writing, that has become empty, ends inside a line of what
it said, or has a fault, says what it said before, until it is whole. What *removes or loosens* waits until nothing has
changed for `SETTLE_SECONDS` and every file is whole: a document that moves from one file to another must not be in
neither. What only tightens is taken at once. A file that was renamed to its name is whole at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from peerauth.model.changes import MeshObject
from peerauth.model.diagnostic import Diagnostic, Severity
from peerauth.model.meta import Origin
from peerauth.policy.rehearsal import Rehearsal
from peerauth.sources.followedfile import PATIENCE_SECONDS, SETTLE_SECONDS, FollowedFile
from peerauth.sources.sighting import Look

WRITER_SECONDS = 0.1
"""How often a file is looked at that someone writes: nothing tells of the end of it."""
ROUNDS = 4
"""How often edits are tried without those that loosened the time before..."""
MOST_ALONE = 8
"""...and how many then each for itself; more of them wait until what loosens can be taken."""

Objects = tuple[MeshObject, ...]
Accept = Callable[[Objects], Sequence[Diagnostic]]
"""Whether a mesh can be changed to these objects, by whoever runs it: the reasons why not."""


class News(msgspec.Struct, frozen=True):
    """What came of one look. `objects` are all that are in force now, None if they are those of before.

    `held` are faults of files whose edits are not taken, each said once; `mended` are the paths that are followed
    again; `noted` is what might not have been meant by an edit that was taken. `again` is when to look again at the
    latest.
    """

    objects: Objects | None = None
    held: tuple[Diagnostic, ...] = ()
    mended: tuple[str, ...] = ()
    noted: tuple[Diagnostic, ...] = ()
    again: float | None = None


class Following:
    """Files as they are followed. `objects` is all that is in force, in the order of the files that say it."""

    def __init__(self, look: Look, *, now: float, accept: Accept = lambda objects: ()) -> None:
        self._accept = accept
        self._files: dict[str, FollowedFile] = {}
        for name, sighting in look.files.items():
            file = self._files[name] = FollowedFile(-math.inf)
            file.seen = file.in_force = sighting
        self.objects = self._said()
        self._rehearsal = Rehearsal(self.objects)
        self._unreadable = {path: (fault, now) for path, fault in look.unreadable.items()}
        self._told: dict[str, tuple[Diagnostic, ...]] = {}
        self._is_tried = False  # what is there now, without all of it having been taken

    def see(self, look: Look, *, now: float) -> News:
        """Takes in one look; returns what is to be done about it."""
        self._take_in(look, now)
        before = self.objects
        changed = [name for name, file in self._files.items() if file.differs]
        ready = tuple(name for name in changed if not self._faults(name))
        settled = (
            len(ready) == len(changed)
            and not self._unreadable
            and all(file.is_settled(now) for file in self._files.values())
        )
        noted = tuple(note for name in ready if (note := self._files[name].note(name))) if settled else ()
        self._take(ready, settled=settled)
        left = [name for name in changed if self._files[name].differs]
        held, mended = self._tell(left, now)
        return News(
            objects=None if self.objects is before else self.objects,
            held=held,
            mended=mended,
            noted=() if left else noted,
            again=self._again(left, now),
        )

    def _take_in(self, look: Look, now: float) -> None:
        is_new = look.unreadable != {path: fault for path, (fault, _) in self._unreadable.items()}
        self._unreadable = {
            path: (fault, self._unreadable[path][1] if path in self._unreadable else now)
            for path, fault in look.unreadable.items()
        }
        files = {name: self._files.get(name) or FollowedFile(now) for name in _in_order(self._files, look.files)}
        for name, file in files.items():
            is_new |= file.see(look.files.get(name), now=now)
        self._files = {name: file for name, file in files.items() if file.seen or file.in_force}
        if is_new:
            self._is_tried = False
            for file in self._files.values():
                file.refused = ()

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
            if not rest or self._accept(self._said(rest)):
                break
            loosening = self._rehearsal.loosening(self._said(rest))
            if loosening is None:
                self._put_in_force(rest)
                break
            rest = tuple(name for name in rest if name not in loosening.files)
        alone = [name for name in names if name not in refused and self._files[name].differs]
        for name in alone if len(alone) <= MOST_ALONE else ():
            said = self._said((name,))
            if not self._accept(said) and self._rehearsal.loosening(said) is None:
                self._put_in_force((name,))

    def _refused(self, names: tuple[str, ...]) -> Iterator[str]:
        """The files to whose edits the mesh cannot be changed: those by themselves, or all if only together."""
        refusal = tuple(self._accept(self._said(names)))
        if not refusal:
            return
        half = len(names) // 2
        guilty = [*self._refused(names[:half]), *self._refused(names[half:])] if half else []
        for name in guilty or names:
            if not guilty:
                self._files[name].refused = refusal
            yield name

    def _put_in_force(self, names: tuple[str, ...]) -> None:
        objects = self._said(names)
        for name in names:
            self._files[name].in_force = self._files[name].seen
        if objects != self.objects:
            self._rehearsal.take(objects)
            self.objects = objects
            self._is_tried = False

    def _said(self, edited: Sequence[str] = ()) -> Objects:
        """What all files say: some of them what is there now, the others what is in force."""
        new = set(edited)
        found: list[MeshObject] = []
        for name, file in self._files.items():
            sighting = file.seen if name in new else file.in_force
            for document in sighting.documents if sighting else ():
                found += document.objects
        return tuple(found)

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
        others += [name for name, file in self._files.items() if is_late and not file.is_settled(now)]
        if not others:
            return {}
        more = f" (and {len(able) - 1} more)" if len(able) > 1 else ""
        message = f"what it says now{more} lets in more than before: it waits until {others[0]} can be followed"
        return {able[0]: (Diagnostic("file-waits", Severity.WARNING, message, Origin(able[0])),)}

    def _again(self, left: Iterable[str], now: float) -> float | None:
        """When a file is judged in another way although nothing changes."""
        files = [self._files[name] for name in left]
        times = [since + SETTLE_SECONDS for _, since in self._unreadable.values()]
        times += [time for file in files for time in file.deadlines()]
        if files:
            times += [file.quiet_since + SETTLE_SECONDS for file in self._files.values()]
            times += [now + WRITER_SECONDS for file in self._files.values() if file.is_in_writing]
        return min((time for time in times if time > now), default=None)


def _is_below(name: str, path: str) -> bool:
    return name == path or name.startswith(path.rstrip("/") + "/")


def _in_order(known: Iterable[str], present: Iterable[str]) -> Iterator[str]:
    """The present names in their order, and each known one that is not among them behind the one it followed."""
    here = dict.fromkeys(present)
    behind: dict[str, list[str]] = {}
    last = ""
    for name in known:
        if name in here:
            last = name
        else:
            behind.setdefault(last, []).append(name)
    yield from behind.get("", ())
    for name in here:
        yield name
        yield from behind.get(name, ())
