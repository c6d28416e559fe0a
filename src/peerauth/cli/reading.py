"""Documents from the paths of a command line, taken into a world and decided about.

Documents are read one at a time; what is kept is what they say, not their text. On a terminal, a reading that takes
long says how far it is, on standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from peerauth.analysis.lint.duplicates import defined_twice
from peerauth.errors import SourceError
from peerauth.model.changes import Reset
from peerauth.model.diagnostic import Diagnostic, Severity
from peerauth.model.inventory import Workload
from peerauth.model.schema import Checked
from peerauth.policy.decision import Decision
from peerauth.policy.mesh import Mesh
from peerauth.sources.files import collect, documents

_SOURCE = "files"
_EVERY = 2_000
"""Documents between two words of progress: a few times a second."""


class Reading(msgspec.Struct, frozen=True):
    """What was read: the mesh it makes, and every fault of the documents themselves.

    `passed_over` counts the documents of kinds that say nothing about connections.
    """

    mesh: Mesh
    diagnostics: tuple[Diagnostic, ...]
    documents: int
    passed_over: Mapping[str, int] = {}

    @property
    def has_errors(self) -> bool:
        """Whether some document says nothing because of a fault."""
        return any(finding.severity is Severity.ERROR for finding in self.diagnostics)

    @property
    def revisions(self) -> frozenset[str]:
        """Every revision that has a configuration or decides for a workload of the mesh."""
        return self.mesh.decisions.revisions() | self.mesh.world.meshes.configs.keys()

    def decide(self, workload: Workload) -> Decision:
        """What was decided about a workload of this world."""
        return self.mesh.decisions.decision(workload.key)


def read(paths: Sequence[str]) -> Reading:
    """Everything that the paths say. Raises SourceError when a path cannot be read or holds no document at all."""
    loaded = collect(_with_progress(documents(paths, pipes=True)))
    if not loaded.documents:
        raise SourceError(
            f"no documents in {', '.join(paths)}",
            hint="name files with YAML or JSON documents, folders that hold *.yaml, *.yml or *.json, or -",
        )
    mesh = Mesh()
    edits = mesh.apply(Reset(_SOURCE, loaded.objects)).edits
    # As many new objects as descriptions: none was described twice, and none has to be looked for.
    twice = tuple(defined_twice(loaded.objects)) if len(edits) < len(loaded.objects) else ()
    return Reading(
        mesh=mesh,
        diagnostics=loaded.diagnostics + twice,
        documents=loaded.documents,
        passed_over=loaded.passed_over,
    )


def _with_progress(checked: Iterable[Checked]) -> Iterator[Checked]:
    if not sys.stderr.isatty():
        yield from checked
        return
    told = False
    for number, document in enumerate(checked, 1):
        if number % _EVERY == 0:
            told = True
            sys.stderr.write(f"\rreading: {number:,} documents")
            sys.stderr.flush()
        yield document
    if told:
        sys.stderr.write("\r\x1b[K")
