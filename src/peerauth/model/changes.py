"""What sources say about the world, and which of it stands when several speak of the same object.

A source is a folder of files, a cluster's watch, a test: whoever says "this object is so" and may take it back. The
`Ledger` keeps every source's statement about each object. The statement that brought the latest news stands; taking it
back uncovers the one before it. Repeating what one said already is no news, so a source that lists everything again
does not push another's statement aside. Out come `Edit`s: what really changed, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from peerauth.model.inventory import (
    ApiServerTarget,
    DestinationRule,
    EndpointSlice,
    Namespace,
    Node,
    PassedOver,
    Service,
    ServiceAccount,
    ServiceCIDR,
    Sidecar,
    Workload,
)
from peerauth.model.mesh import DEFAULT_REVISION, Injector, MeshConfig
from peerauth.model.peerauth import PeerAuthentication
from peerauth.model.placement import Placement

MeshObject = (
    PeerAuthentication
    | Namespace
    | Workload
    | Placement
    | Service
    | ServiceAccount
    | EndpointSlice
    | Node
    | ServiceCIDR
    | Sidecar
    | DestinationRule
    | ApiServerTarget
    | PassedOver
    | MeshConfig
    | Injector
)


class ObjectRef(msgspec.Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """The name of an object in its mesh, unique together with its kind (Pod, Deployment, Service...)."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


MESH_REF = ObjectRef("MeshConfig", "", DEFAULT_REVISION)


def ref_of(obj: MeshObject) -> ObjectRef:
    """The name of an object.

    There is one MeshConfig for each revision. The targets of a webhook configuration are `configuration/webhook`: it
    names several.
    """
    match obj:
        case Workload():
            return ObjectRef(obj.kind, obj.meta.namespace, obj.meta.name)
        case ApiServerTarget():
            name = f"{obj.meta.name}/{obj.webhook}" if obj.webhook else obj.meta.name
            return ObjectRef(obj.kind, obj.meta.namespace, name)
        case PassedOver():
            return ObjectRef(f"{obj.kind}.{obj.group}", obj.meta.namespace, obj.meta.name)
        case MeshConfig() | Injector() | Placement():
            return _ref_of_no_document(obj)
        case _:
            return ObjectRef(type(obj).__name__, obj.meta.namespace, obj.meta.name)


def _ref_of_no_document(obj: MeshConfig | Injector | Placement) -> ObjectRef:
    match obj:
        case MeshConfig():
            return ObjectRef("MeshConfig", "", obj.revision)
        case Injector():
            return ObjectRef("RevisionTag", "", obj.tag) if obj.tag else ObjectRef("Injector", "", obj.revision)
        case Placement(workload):
            return ObjectRef("Placement", workload.namespace, f"{workload.kind}/{workload.name}")


class Upsert(msgspec.Struct, frozen=True):
    """`source` says that an object is there and is so."""

    source: str
    obj: MeshObject


class Delete(msgspec.Struct, frozen=True):
    """`source` takes back what it said about an object; nothing happens if it had said nothing."""

    source: str
    ref: ObjectRef


class Reset(msgspec.Struct, frozen=True):
    """Everything that `source` has to say: what it had said before and is not in `objects` is taken back.

    Of two objects with one name the last stands.
    """

    source: str
    objects: tuple[MeshObject, ...] = ()


Change = Upsert | Delete | Reset


class Edit(msgspec.Struct, frozen=True, gc=False):
    """One object that is now another: `before` None if it is new, `after` None if it is gone; never equal."""

    ref: ObjectRef
    before: MeshObject | None
    after: MeshObject | None


class _Statement(msgspec.Struct, frozen=True, gc=False):
    """What one source says about an object; `older` is the statement that would stand without it."""

    source: str
    obj: MeshObject
    older: _Statement | None = None


class Ledger:
    """Every statement of every source. Applying a change costs what it names, not what the world holds."""

    def __init__(self) -> None:
        self._standing: dict[ObjectRef, _Statement] = {}
        self._said_by: dict[str, set[ObjectRef]] = {}

    def apply(self, *changes: Change) -> tuple[Edit, ...]:
        """Takes changes in, as one; returns the objects that they really changed, each once, in the order of naming.

        What comes and goes within them is not told.
        """
        if len(changes) == 1:
            return tuple(self._take(changes[0]))  # which names each object once
        edits: dict[ObjectRef, Edit] = {}
        for change in changes:
            for edit in self._take(change):
                first = edits.get(edit.ref)
                edits[edit.ref] = edit if first is None else Edit(edit.ref, first.before, edit.after)
        return tuple(edit for edit in edits.values() if edit.before != edit.after)

    def _take(self, change: Change) -> Iterable[Edit]:
        match change:
            case Upsert(source, obj):
                return self._say(source, ref_of(obj), obj)
            case Delete(source, ref):
                return self._take_back(source, ref)
            case Reset(source, objects):
                return self._reset(source, objects)

    def _reset(self, source: str, objects: tuple[MeshObject, ...]) -> Iterator[Edit]:
        said = {ref_of(obj): obj for obj in objects}
        gone = self._said_by.get(source, set()).difference(said)
        for ref in sorted(gone):
            yield from self._take_back(source, ref)
        for ref, obj in said.items():
            if ref in self._standing:
                yield from self._say(source, ref, obj)
            else:
                yield self._say_first(source, ref, obj)

    def _say(self, source: str, ref: ObjectRef, obj: MeshObject) -> Iterable[Edit]:
        standing = self._standing.get(ref)
        if standing is None:
            return (self._say_first(source, ref, obj),)
        if any(statement.source == source and statement.obj == obj for statement in _stack(standing)):
            return ()
        self._said_by.setdefault(source, set()).add(ref)
        self._standing[ref] = _Statement(source, obj, _without(source, standing))
        return _edit(ref, standing, self._standing[ref])

    def _say_first(self, source: str, ref: ObjectRef, obj: MeshObject) -> Edit:
        """The first statement about an object."""
        self._said_by.setdefault(source, set()).add(ref)
        self._standing[ref] = _Statement(source, obj)
        return Edit(ref, None, obj)

    def _take_back(self, source: str, ref: ObjectRef) -> Iterable[Edit]:
        refs = self._said_by.get(source, set())
        if ref not in refs:
            return ()
        refs.discard(ref)
        if not refs:
            del self._said_by[source]
        standing = self._standing.pop(ref)
        left = _without(source, standing)
        if left is not None:
            self._standing[ref] = left
        return _edit(ref, standing, left)


def _stack(statement: _Statement | None) -> Iterator[_Statement]:
    while statement is not None:
        yield statement
        statement = statement.older


def _without(source: str, statement: _Statement | None) -> _Statement | None:
    if statement is None:
        return None
    if statement.source == source:
        return statement.older
    return _Statement(statement.source, statement.obj, _without(source, statement.older))


def _edit(ref: ObjectRef, before: _Statement | None, after: _Statement | None) -> tuple[Edit, ...]:
    old = before.obj if before else None
    new = after.obj if after else None
    return () if old == new else (Edit(ref, old, new),)
