"""What each of several files says, and whose word stands where more than one describes an object: the last read one's.

Each file is a source of its own (`model.changes`), and no two of them ever speak about one object: of what a file says
that a later one says as well, nothing is handed on until the later one takes it back. So what stands hangs on the files
alone and not on the order of their edits, and an edit costs what the edited files say. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from peerauth.model.changes import MeshObject, ObjectRef, Reset

Place = tuple[int, tuple[str, ...]]
"""Where in the order of reading a file is: by the path that led to it, and in a folder by the parts of its name."""


def place_of(name: str, *, argument: int) -> Place:
    """Where the file `name` is, to which the path of that number led."""
    return argument, tuple(name.split("/"))


class Description(msgspec.Struct, frozen=True):
    """What one file says. Of two objects with one name the last stands."""

    place: Place
    objects: Mapping[ObjectRef, MeshObject]


Edited = Mapping[str, Description | None]
"""Files that are others than before, by name; None is a file that is gone."""


class _After(msgspec.Struct, frozen=True):
    """What an edit would make another: which files describe an object, and whose word stands (None: nobody's)."""

    describing: Mapping[ObjectRef, frozenset[str]]
    standing: Mapping[ObjectRef, str | None]


class Descriptions:
    """All files as they are in force."""

    def __init__(self) -> None:
        self._files: dict[str, Description] = {}
        self._standing: dict[ObjectRef, str] = {}
        self._several: dict[ObjectRef, frozenset[str]] = {}  # the objects that more than one file describes

    def resets(self, edited: Edited) -> tuple[Reset, ...]:
        """What would follow from an edit, to be taken as one: all that is heard of a file, if it is something else."""
        after = self._after(edited)
        names = set(edited)
        for ref, name in after.standing.items():
            names.update(each for each in (self._standing.get(ref), name) if each is not None)
        found = []
        for name in sorted(names, key=lambda name: self._place(name, edited)):
            new = self._with(name, edited)
            said = [obj for ref, obj in self._said(name).items() if self._standing[ref] == name]
            says = [obj for ref, obj in new.items() if after.standing.get(ref, self._standing.get(ref)) == name]
            if said != says:
                found.append(Reset(f"file:{name}", tuple(says)))
        return tuple(found)

    def take(self, edited: Edited) -> None:
        """The edit is in force from now on."""
        after = self._after(edited)
        for name, new in edited.items():
            self._files.pop(name, None)
            if new is not None:
                self._files[name] = new
        for ref, names in after.describing.items():
            self._several.pop(ref, None)
            if len(names) > 1:
                self._several[ref] = names
        for ref, stands in after.standing.items():
            self._standing.pop(ref, None)
            if stands is not None:
                self._standing[ref] = stands

    def _after(self, edited: Edited) -> _After:
        describing: dict[ObjectRef, frozenset[str]] = {}
        for name in edited:
            for ref in self._said(name):
                describing[ref] = describing.get(ref, self._describing(ref)) - {name}
            for ref in self._with(name, edited):
                describing[ref] = describing.get(ref, self._describing(ref)) | {name}
        standing = {
            ref: max(names, key=lambda name: self._place(name, edited), default=None)
            for ref, names in describing.items()
        }
        return _After(describing, {ref: name for ref, name in standing.items() if name != self._standing.get(ref)})

    def _describing(self, ref: ObjectRef) -> frozenset[str]:
        """The files in force that describe an object."""
        return self._several.get(ref) or frozenset([self._standing[ref]] if ref in self._standing else ())

    def _said(self, name: str) -> Mapping[ObjectRef, MeshObject]:
        found = self._files.get(name)
        return found.objects if found is not None else {}

    def _with(self, name: str, edited: Edited) -> Mapping[ObjectRef, MeshObject]:
        """What a file would say."""
        found = edited[name] if name in edited else self._files.get(name)
        return found.objects if found is not None else {}

    def _place(self, name: str, edited: Edited) -> Place:
        found = edited.get(name) or self._files.get(name)
        return found.place if found is not None else (0, ())
