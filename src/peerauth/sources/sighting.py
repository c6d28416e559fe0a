"""What is there at one look at the paths: values, for `looking` to make and `following` to judge. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from peerauth.model.changes import ref_of
from peerauth.model.diagnostic import Diagnostic, Severity
from peerauth.model.schema import Checked
from peerauth.sources.descriptions import Description, place_of


class Signature(msgspec.Struct, frozen=True):
    """What changes whenever a file does: which it is (`device`, `inode`), its size, and its times in nanoseconds."""

    device: int = 0
    inode: int = 0
    size: int = 0
    modified: int = 0
    changed: int = 0

    @property
    def identity(self) -> tuple[int, int]:
        """Which file it is, whatever is in it."""
        return self.device, self.inode

    @property
    def was_moved(self) -> bool:
        """Whether something happened to it after it was written last, such as its renaming."""
        return self.changed > self.modified


class Sighting(msgspec.Struct, frozen=True):
    """One file at one look: its bytes and what they say. A file that cannot be read has none, and that fault.

    `in_writing` says that some process had it open for writing, or wrote it while it was read. `argument` is the number
    of the path that led to it: files are read in the order of the paths, and within a folder by name.
    """

    signature: Signature
    data: bytes = b""
    documents: tuple[Checked, ...] = ()
    in_writing: bool = False
    is_readable: bool = True
    argument: int = 0

    @property
    def faults(self) -> tuple[Diagnostic, ...]:
        """Why it cannot be used."""
        found = (diagnostic for document in self.documents for diagnostic in document.diagnostics)
        return tuple(diagnostic for diagnostic in found if diagnostic.severity is Severity.ERROR)

    def description(self, name: str) -> Description:
        """What it says, as the file of that name."""
        objects = (obj for document in self.documents for obj in document.objects)
        return Description(place_of(name, argument=self.argument), {ref_of(obj): obj for obj in objects})

    def says_as(self, other: Sighting) -> bool:
        """Whether it says what another sighting of it says, at the same place among all files."""
        return self.data == other.data and self.argument == other.argument


class Look(msgspec.Struct, frozen=True):
    """All files at one look.

    `unreadable` are the paths of which nothing is known now, and why: what is below them may be there or not.
    """

    files: Mapping[str, Sighting] = {}
    unreadable: Mapping[str, Diagnostic] = {}
