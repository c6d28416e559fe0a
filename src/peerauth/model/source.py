"""Who says what is in the mesh, and goes on saying it: paths, later a cluster. One protocol for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from peerauth.model.changes import Reset
from peerauth.model.diagnostic import Diagnostic


class News(msgspec.Struct, frozen=True):
    """What a source says at a time: changes to be taken together, as one step, and what is wrong with the rest.

    `held` are faults for which something is not taken, each said once; `mended` names what is taken again after that;
    `noted` is what might not have been meant by a change that is taken.
    """

    changes: tuple[Reset, ...] = ()
    held: tuple[Diagnostic, ...] = ()
    mended: tuple[str, ...] = ()
    noted: tuple[Diagnostic, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes or self.held or self.mended or self.noted)


class Source(Protocol):
    """Somebody who speaks about the mesh."""

    def changes(self) -> AsyncIterator[News]:
        """Everything that there is to say, and then what is new, for as long as it is listened to.

        Between two values nothing is lost. Raises SourceError, before the first, where there is nothing to begin with.
        """
        ...
