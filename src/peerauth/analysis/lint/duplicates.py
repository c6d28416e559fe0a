"""One object described twice in the input: the last description stands, as it would after `kubectl apply`.

Only for kinds that decide about connections; two equal service accounts harm no one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from peerauth.analysis.lint.codes import DEFINED_TWICE
from peerauth.model.changes import MeshObject, ObjectRef, ref_of
from peerauth.model.diagnostic import Diagnostic, Evidence
from peerauth.model.inventory import Namespace, Workload
from peerauth.model.mesh import MeshConfig
from peerauth.model.meta import Origin
from peerauth.model.peerauth import PeerAuthentication


def defined_twice(objects: Iterable[MeshObject]) -> Iterator[Diagnostic]:
    """A finding for each description that a later one replaces."""
    last: dict[ObjectRef, Origin] = {}
    for obj in objects:
        origin = _deciding_origin(obj)
        if origin is None:
            continue
        ref = ref_of(obj)
        if ref in last:
            yield DEFINED_TWICE.found(
                f"{ref} is described twice: what is said here stands, the other is not heard",
                subject=str(ref),
                origin=origin,
                hint="keep one of the two; alternatives that are never used together belong in a .peerauthignore",
                evidence=(Evidence("the description that is not heard", last[ref]),),
            )
        last[ref] = origin


def _deciding_origin(obj: MeshObject) -> Origin | None:
    match obj:
        case PeerAuthentication() | Workload() | Namespace():
            return obj.meta.origin
        case MeshConfig():
            return obj.origin
        case _:
            return None
