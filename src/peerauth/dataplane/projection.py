"""What proxies are to have, kept up to date step by step: what every projection of a mesh takes, and what it returns.

A projection is a value that follows a mesh: `update` takes what one step did, and what the rollout orders because of
it, and gives what changed of what it publishes, at a cost that follows the step. It knows no cache, socket or task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, TypeVar

import msgspec

from peerauth.dataplane.resources import Resources
from peerauth.dataplane.type_urls import TypeUrl
from peerauth.model.inventory import Service, Sidecar, Workload, WorkloadKey
from peerauth.model.placement import Placement
from peerauth.model.world import MeshObject, World
from peerauth.policy.mesh import Step
from peerauth.policy.rollout import Orders

Changed = Mapping[TypeUrl, Mapping[str, bytes | None]]
"""Resources that are others now, by type and name; a body of None is a resource that is gone."""


class Update(msgspec.Struct, frozen=True):
    """What is another now for one proxy, or for a group of them. `closes` says in sentences what is let in no more."""

    resources: Changed = {}
    closes: tuple[str, ...] = ()


Reader_co = TypeVar("Reader_co", covariant=True)


class Projection(Protocol[Reader_co]):
    """Something that is published of a mesh. `visited` counts what the last update looked at: its cost."""

    @property
    def visited(self) -> int: ...

    def update(self, step: Step, orders: Orders) -> Iterator[tuple[Reader_co, Update | None]]:
        """Takes what the mesh and the rollout have taken already, at once; either may be empty.

        What is new by who reads it, None for a proxy that there is no more, is made as it is drawn, as things are then:
        something for all that was looked at, which may be no news, so that who draws can give others their turn.
        """
        ...


def difference(old: Resources, new: Resources) -> Changed:
    """What makes `new` of `old`, in the order in which types must be sent."""
    return {
        kind: changed for kind in {**new, **old} if (changed := dict(_differing(old.get(kind, {}), new.get(kind, {}))))
    }


def spoken_of(said: MeshObject, *, world: World) -> Iterator[WorkloadKey]:
    """The workloads of which an object says where they are or which ports they have."""
    match said:
        case Workload():
            yield said.key
        case Placement():
            yield said.workload
        case Service() | Sidecar() if said.selector:
            yield from (workload.key for workload in world.workloads_selected_by(said))
        case Sidecar() if said.meta.namespace != world.mesh.root_namespace:
            yield from world.workloads.in_namespace(said.meta.namespace)
        case Sidecar():
            yield from world.workloads
        case _:
            pass  # what else says anything of a workload says it through a decision


def _differing(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> Iterator[tuple[str, bytes | None]]:
    for name, body in new.items():
        if old.get(name) != body:
            yield name, body
    for name in old.keys() - new.keys():
        yield name, None
