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

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from peerauth.model.changes import MeshObject
from peerauth.model.diagnostic import Diagnostic, Severity
from peerauth.model.meta import Origin
from peerauth.policy.rehearsal import Rehearsal
from peerauth.sources.sighting import Look, Sighting

SETTLE_SECONDS = 1.0
"""How long a file must not have changed before what it takes back is believed."""
WRITER_SECONDS = 0.1
"""How often a file is looked at that someone writes: nothing tells of the end of it."""
PATIENCE_SECONDS = 5.0
"""After this it is said that a file is not followed, even if it never stands still."""
MOST_TRIES = 32
"""Rehearsals of one look. Others go on where it ended: nobody else waits for them."""

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


class _File:
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
        before, self.seen = self.seen, sighting
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
            self.differs_since = now
        return is_new

    @property
    def differs(self) -> bool:
        """Whether what is there is not what is in force."""
        old, new = self.in_force, self.seen
        if old is None or new is None:
            return old is not new
        return not new.is_readable or old.data != new.data

    @property
    def is_in_writing(self) -> bool:
        """Whether some process has it open for writing, and will perhaps say what others take back."""
        return self.seen is not None and self.seen.in_writing

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


class Following:
    """Files as they are followed. `objects` is all that is in force, `names` the files that say it, in order."""

    def __init__(self, look: Look, *, now: float, accept: Accept = lambda objects: ()) -> None:
        self._accept = accept
        self._files: dict[str, _File] = {}
        for name, sighting in look.files.items():
            file = self._files[name] = _File(now - SETTLE_SECONDS)
            file.seen = file.in_force = sighting
        self.objects = self._said()
        self._rehearsal = Rehearsal(self.objects)
        self._unreadable = {path: (fault, now) for path, fault in look.unreadable.items()}
        self._told: dict[str, tuple[Diagnostic, ...]] = {}
        self._tried: set[tuple[str, ...]] = set()

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
        noted = tuple(self._notes(ready)) if settled else ()
        is_done = self._take(ready, settled=settled)
        left = [name for name in changed if self._files[name].differs]
        held, mended = self._tell(left, now)
        return News(
            objects=None if self.objects is before else self.objects,
            held=held,
            mended=mended,
            noted=() if left else noted,
            again=self._again(left, now) if is_done else now,
        )

    def _take_in(self, look: Look, now: float) -> None:
        is_new = look.unreadable != {path: fault for path, (fault, _) in self._unreadable.items()}
        self._unreadable = {
            path: (fault, self._unreadable[path][1] if path in self._unreadable else now)
            for path, fault in look.unreadable.items()
        }
        files = {name: self._files.get(name) or _File(now) for name in _in_order(self._files, look.files)}
        for name, file in files.items():
            is_new |= file.see(look.files.get(name), now=now)
        self._files = {name: file for name, file in files.items() if file.seen or file.in_force}
        if is_new:
            self._tried.clear()
            for file in self._files.values():
                file.refused = ()

    def _faults(self, name: str) -> tuple[Diagnostic, ...]:
        """Why what is there cannot be used yet, whatever it would change."""
        file = self._files[name]
        if file.seen is None:
            return tuple(fault for path, (fault, _) in self._unreadable.items() if _is_below(name, path))
        return tuple(_unfinished(name, old=file.in_force, new=file.seen)) or file.seen.faults or file.refused

    def _take(self, names: tuple[str, ...], *, settled: bool) -> bool:
        """Puts in force what can be of the edits of these files, together if possible. False if some were not tried."""
        if settled:
            self._tried.clear()
        groups, tries = [names] if names else [], 0
        while groups:
            group = groups.pop()
            if group not in self._tried:
                if tries == MOST_TRIES:
                    return False
                tries += 1
                objects = self._said(group)
                refusal = tuple(self._accept(objects))
                if not refusal and (settled or not self._rehearsal.would_loosen(objects)):
                    self._put_in_force(group, objects)
                    continue
                self._tried.add(group)
                if refusal:
                    settled = False  # some file is not followed: what loosens waits for it
                    if len(group) == 1:
                        self._files[group[0]].refused = refusal
            if len(group) > 1:
                half = len(group) // 2
                groups += [group[half:], group[:half]]
        return True

    def _put_in_force(self, group: tuple[str, ...], objects: Objects) -> None:
        for file in map(self._files.__getitem__, group):
            file.in_force = file.seen
        if objects != self.objects:
            self._rehearsal.take(objects)
            self.objects = objects
            self._tried.clear()

    def _said(self, edited: Sequence[str] = ()) -> Objects:
        """What all files say: some of them what is there now, the others what is in force."""
        new = set(edited)
        found: list[MeshObject] = []
        for name, file in self._files.items():
            sighting = file.seen if name in new else file.in_force
            for document in sighting.documents if sighting else ():
                found += document.objects
        return tuple(found)

    def _notes(self, names: Iterable[str]) -> Iterator[Diagnostic]:
        """What looks unfinished of edits that have stood for long enough to be taken."""
        for name in names:
            file = self._files[name]
            old, new = file.in_force, file.seen
            if old and new and not file.came_whole and _is_beginning(new.data, old.data):
                message = "the end of what it said is gone, and is taken back"
                yield Diagnostic("file-shorter", Severity.WARNING, message, Origin(name))

    def _tell(self, left: Iterable[str], now: float) -> tuple[tuple[Diagnostic, ...], tuple[str, ...]]:
        """What is not followed for long enough to say so and was not said; and the paths that are followed again."""
        telling = dict(self._told)
        for path, (fault, since) in self._unreadable.items():
            if now - since >= SETTLE_SECONDS:
                telling[path] = (fault,)
        for name in left:
            if self._files[name].is_to_be_told(now) and (faults := self._reasons(name, now)):
                telling[name] = faults
        amiss = {*left, *self._unreadable}
        mended = tuple(path for path in telling if path not in amiss)
        before, self._told = self._told, {path: faults for path, faults in telling.items() if path in amiss}
        return tuple(
            fault for path, faults in self._told.items() if before.get(path) != faults for fault in faults
        ), mended

    def _reasons(self, name: str, now: float) -> tuple[Diagnostic, ...]:
        """Why the edit of a file is not taken, in its author's terms."""
        file = self._files[name]
        faults = self._faults(name)
        if faults:
            return () if file.seen is None else faults  # that its folder cannot be read is told of the folder
        awaited = {other for other in self._files if self._is_waited_for(other, now)}
        others = sorted({*self._unreadable, *awaited} - {name})
        if not others:
            return ()
        message = f"what it says now lets in more than before: it waits until {others[0]} can be followed"
        return (Diagnostic("file-waits", Severity.WARNING, message, Origin(name)),)

    def _is_waited_for(self, name: str, now: float) -> bool:
        file = self._files[name]
        return not file.is_settled(now) or (file.differs and bool(self._faults(name)))

    def _again(self, left: Iterable[str], now: float) -> float | None:
        """When a file is judged in another way although nothing changes."""
        files = [self._files[name] for name in left]
        times = [since + SETTLE_SECONDS for _, since in self._unreadable.values()]
        times += [time for file in files for time in file.deadlines()]
        if files:
            times += [file.quiet_since + SETTLE_SECONDS for file in self._files.values()]
            times += [now + WRITER_SECONDS for file in self._files.values() if file.is_in_writing]
        return min((time for time in times if time > now), default=None)


def _signature(sighting: Sighting | None) -> object:
    return (sighting.signature, sighting.data) if sighting else None


def _unfinished(name: str, *, old: Sighting | None, new: Sighting) -> Iterator[Diagnostic]:
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
    elif old and _is_beginning(new.data, old.data) and _ends_inside_a_line(new.data, old.data):
        message = f"it ends inside a line of what it said: {stays}"
        hint = "write the rest, or end the line if that is all"
        yield Diagnostic("file-unfinished", Severity.ERROR, message, Origin(name), hint=hint)


def _is_beginning(new: bytes, old: bytes) -> bool:
    """Whether the new bytes are the old ones without an end that says something."""
    return bool(new) and old.startswith(new) and bool(old[len(new) :].strip())


def _ends_inside_a_line(new: bytes, old: bytes) -> bool:
    return new[-1:] not in b"\r\n" and old[len(new) : len(new) + 1] not in b"\r\n"


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
