"""Each projection looks at what a step touches, whatever else the mesh holds."""

from __future__ import annotations

import msgspec
import pytest

from peerauth.dataplane.ambient.address import ClusterNames
from peerauth.dataplane.ambient.nodes import Nodes
from peerauth.dataplane.ambient.ztunnel import ZtunnelResources
from peerauth.dataplane.envoy.sidecars import Sidecars
from peerauth.dataplane.projection import Projection, Update
from peerauth.dataplane.type_urls import LISTENER
from peerauth.model.changes import MeshObject, Reset, Upsert
from peerauth.model.inventory import Port, Service, ServicePort, Sidecar, Workload, WorkloadKey
from peerauth.model.placement import Captor, Capture, Placement
from peerauth.policy.decision import EffectiveMode
from peerauth.policy.mesh import Mesh, Step
from peerauth.policy.rollout import Orders, Rollout
from samples.meshes import meta, namespace, pairs, policy, workload

SIZES = (10, 100, 1_000)
PER_NAMESPACE = 10
PORTS = (Port(8080),)


class Bed:
    """Workloads by tens: five with sidecars and five ambient ones, on a node for each ten."""

    def __init__(self, size: int) -> None:
        self.mesh = Mesh()
        self.rollout = Rollout(self.mesh, is_live=lambda _: True)
        self.sidecars = Sidecars(self.mesh, self.rollout)
        self.nodes = Nodes(self.mesh)
        self.ztunnel = ZtunnelResources(self.mesh, cluster=ClusterNames())
        objects: list[MeshObject] = []
        for ten in range(size // PER_NAMESPACE):
            objects += [namespace(f"side-{ten}", {"istio-injection": "enabled"})]
            objects += [namespace(f"node-{ten}", {"istio.io/dataplane-mode": "ambient"})]
            for number in range(PER_NAMESPACE // 2):
                objects += placed(f"side-{ten}", number, Captor.SIDECAR) + placed(f"node-{ten}", number, Captor.NODE)
        self.take(self.mesh.apply(Reset("test", tuple(objects))))

    def say(self, *said: MeshObject) -> None:
        self.take(self.mesh.apply(*(Upsert("test", obj) for obj in said)))

    def take(self, step: Step) -> None:
        orders = self.rollout.decided(step)
        projections: tuple[Projection[WorkloadKey] | Projection[str], ...] = (self.sidecars, self.nodes, self.ztunnel)
        for projection in projections:
            for _ in projection.update(step, orders):
                pass

    @property
    def visited(self) -> tuple[int, int, int]:
        return self.sidecars.visited, self.nodes.visited, self.ztunnel.visited


def placed(where: str, number: int, captor: Captor) -> list[MeshObject]:
    made = workload(f"{where}/w{number}", {"app": f"w{number}"}, ports=PORTS)
    second = 1 if captor is Captor.NODE else 2
    return [made, placement(made, captor, f"10.{second}.{where.partition('-')[2]}.{number}")]


def placement(made: Workload, captor: Captor, address: str) -> Placement:
    node = made.meta.namespace.partition("-")[2]
    return Placement(made.key, node, (address,), Capture.EXPLICIT, captor, "127.0.0.1")


def told(bed: Bed, step: Step) -> dict[str, Update]:
    return {node: each for node, each in bed.nodes.update(step, Orders()) if each is not None and each.resources}


def service(where: str, target: int) -> Service:
    ports = (ServicePort(80, target),)
    return Service(meta(f"{where}/s"), selector=pairs({"app": "w1"}), ports=ports)


SIDE, NODE = workload("side-0/w1", {"app": "w1"}, ports=PORTS), workload("node-0/w1", {"app": "w1"}, ports=PORTS)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("said", "visited"),
    [
        ((policy("side-0/p", "STRICT", selector={"app": "w1"}),), (1, 0, 1)),
        ((policy("side-0/p", "STRICT"),), (5, 0, 5)),
        ((policy("node-0/p", "STRICT", selector={"app": "w1"}),), (0, 1, 1)),
        ((policy("node-0/p", "STRICT"),), (0, 5, 5)),
        ((service("side-0", 9000),), (1, 0, 2)),
        ((service("node-0", 9000),), (0, 1, 3)),
        ((Sidecar(meta("side-0/x"), selector=pairs({"app": "w1"})),), (1, 0, 0)),
        ((Sidecar(meta("side-0/x")),), (5, 0, 0)),
        ((workload("side-0/w1", {"app": "w1"}, ports=(Port(9000),)),), (1, 0, 1)),
        ((workload("node-0/w1", {"app": "w1"}, ports=(Port(9000),)),), (0, 1, 2)),
        ((placement(SIDE, Captor.SIDECAR, "10.9.9.9"),), (1, 0, 1)),
        ((placement(NODE, Captor.NODE, "10.9.9.9"),), (0, 1, 2)),
        (tuple(placed("side-0", 9, Captor.SIDECAR)), (1, 0, 1)),
        (tuple(placed("node-0", 9, Captor.NODE)), (0, 1, 2)),
        ((policy("elsewhere/p", "STRICT"),), (0, 0, 0)),
    ],
)
def test_an_update_looks_at_what_the_step_touches(
    said: tuple[MeshObject, ...], visited: tuple[int, int, int], size: int
) -> None:
    bed = Bed(size)
    bed.say(*said)
    assert bed.visited == visited


def test_two_nodes_each_serve_their_own_workloads() -> None:
    bed = Bed(20)
    step = bed.mesh.apply(
        Upsert("test", policy("node-0/p", "STRICT", selector={"app": "w1"})),
        Upsert("test", policy("node-1/p", "STRICT", selector={"app": "w2"})),
    )
    news = told(bed, step)
    names = {node: {name for bodies in each.resources.values() for name in bodies} for node, each in news.items()}
    assert names == {"0": {"inbound|node-0/w1|8080"}, "1": {"inbound|node-1/w2|8080"}}
    assert {key.namespace for key in bed.nodes.workloads("0")} == {"node-0"}
    assert {identity.namespace for identity in bed.nodes.identities("1")} == {"node-1"}


def test_a_workload_that_moves_to_another_node_is_taken_from_the_one_and_told_to_the_other() -> None:
    bed = Bed(20)
    moved = msgspec.structs.replace(bed.mesh.world.placements[NODE.key], node="1")
    news = told(bed, bed.mesh.apply(Upsert("test", moved)))
    here, there = (news[node].resources[LISTENER] for node in ("0", "1"))
    assert here.keys() == there.keys()
    assert all(body is None for name, body in here.items())
    assert None not in there.values()
    assert news["0"].closes == ("node-0/w1: no longer served by this proxy",)


def test_one_mesh_has_workloads_of_either_capture() -> None:
    """What its own sidecar binds is the only difference: policy and clients are one."""
    bed = Bed(10)
    other = WorkloadKey("side-0", "w2")
    transparent = msgspec.structs.replace(bed.mesh.world.placements[other], capture=Capture.TRANSPARENT)
    bed.say(transparent, policy("side-0/p", "STRICT"))
    rendered = bed.sidecars.rendered
    assert rendered[SIDE.key].capture is Capture.EXPLICIT
    assert rendered[other].capture is Capture.TRANSPARENT
    assert {rendered[key].decision.mode for key in (SIDE.key, other)} == {EffectiveMode.STRICT}
    assert [str(port.endpoint) for port in rendered[SIDE.key].declared] == ["127.0.0.1:8080"]
    assert [port.endpoint for port in rendered[other].declared] == [None]
