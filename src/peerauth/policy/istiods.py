"""The istiods that workloads ask for, as the mesh configurations have them now: each found once for all who ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from peerauth.model.changes import Edit
from peerauth.model.mesh import Injector, MeshConfig, Meshes
from peerauth.policy.revisions import Asked, Istiod, istiod_for


class Istiods:
    """All of them. `roots` is every namespace that is the root of some revision."""

    def __init__(self) -> None:
        self._meshes = Meshes()
        self._found: dict[Asked, Istiod] = {}
        self.roots = _roots(self._meshes)

    def of(self, asked: Asked) -> Istiod:
        """The istiod of the revision that is asked for."""
        found = self._found.get(asked)
        if found is None:
            found = self._found[asked] = istiod_for(asked, self._meshes)
        return found

    def take(self, edit: Edit, asking: Iterable[Asked]) -> Iterator[Asked]:
        """Takes an edited mesh configuration or tag in; who of `asking` has an istiod now that reads other policies."""
        before = self._meshes
        if isinstance(edit.before, MeshConfig | Injector):
            self._meshes = self._meshes.without(edit.before)
        if isinstance(edit.after, MeshConfig | Injector):
            self._meshes = self._meshes.having(edit.after)
        self.roots = _roots(self._meshes)
        self._found = {}
        return (asked for asked in asking if _reading(istiod_for(asked, before)) != _reading(self.of(asked)))


def _roots(meshes: Meshes) -> frozenset[str]:
    known = (*meshes.configs.values(), meshes.of(meshes.default))
    return frozenset([mesh.root_namespace for mesh in known])


def _reading(istiod: Istiod) -> tuple[object, ...]:
    """What of an istiod decides about which policies it reads."""
    return istiod.revision, istiod.root_namespace, istiod.mesh.discovery_selectors
