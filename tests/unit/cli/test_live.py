"""What a terminal and a log show of a run, made from what is known of the mesh and from nothing else."""

from __future__ import annotations

from peerauth.cli.live import Machine, change_lines, start_lines, state_lines
from peerauth.cli.render import Line
from peerauth.model.changes import Reset, Upsert
from peerauth.model.connections import Arrival, ConnectionSeen, Event
from peerauth.model.inventory import Port, WorkloadKey
from peerauth.model.placement import Captor, Capture, Placement
from peerauth.policy.mesh import Mesh
from peerauth.policy.rollout import Rollout
from peerauth.view import MeshView
from samples.meshes import namespace, policy, workload

WEB, NODE_SIDE = (WorkloadKey("foo", "web", "Pod"), WorkloadKey("bar", "db", "Pod"))
DOCUMENTS = (
    namespace("foo", {"istio-injection": "enabled"}),
    namespace("bar", {"istio.io/dataplane-mode": "ambient"}),
    workload("foo/web", {"app": "web"}, ports=(Port(8080), Port(9000))),
    workload("bar/db", {"app": "db"}, ports=(Port(5432),)),
    policy("foo/web", "STRICT", selector={"app": "web"}, ports={9000: "PERMISSIVE"}),
    policy("bar/default", "DISABLE"),
)


def text(lines: list[Line]) -> list[str]:
    return ["".join(part if isinstance(part, str) else part[0] for part in each) for each in lines]


class Run:
    """A mesh with two workloads, placed, and whoever shows it."""

    def __init__(self, capture: Capture) -> None:
        self.mesh = Mesh()
        self.rollout = Rollout(self.mesh, is_live=lambda key: True)
        self.view = MeshView(self.mesh.world)
        placed = [(WEB, "10.0.0.1", Captor.SIDECAR), (NODE_SIDE, "10.0.0.2", Captor.NODE)]
        places = tuple(Placement(key, "here", (address,), capture, captor) for key, address, captor in placed)
        self.apply(Reset("documents", DOCUMENTS), Reset("here", places))

    def apply(self, *changes: Reset | Upsert) -> list[str]:
        step = self.mesh.apply(*changes)
        self.view.update(step, self.rollout.decided(step))
        return text(change_lines(step.decisions))

    def rows(self) -> list[list[str]]:
        """The first columns, the numbers of connections, without the reasons."""
        return [row.split()[:10] for row in text(state_lines(self.view))]


def test_every_port_is_shown_with_what_is_in_force_and_what_arrived() -> None:
    run = Run(Capture.TRANSPARENT)
    for arrival, port in ((Arrival.MUTUAL_TLS, 8080), (Arrival.REFUSED, 8080), (Arrival.REFUSED, 8080)):
        run.view.connected(ConnectionSeen(str(WEB), "inbound", Event.START, arrival, port, "10.0.0.9:1"))
    assert [row[:4] for row in run.rows()] == [
        ["WORKLOAD", "ADDRESS", "PORT", "MODE"],
        ["bar/db", "10.0.0.2", "5432", "DISABLE"],
        ["bar/db", "10.0.0.2", "others", "DISABLE"],
        ["foo/web", "10.0.0.1", "8080", "STRICT"],
        ["foo/web", "10.0.0.1", "9000", "PERMISSIVE"],
        ["foo/web", "10.0.0.1", "others", "STRICT"],
    ]
    assert run.rows()[3][4:9] == ["0", "0", "1", "0", "2"]
    assert "DISABLE (as PERMISSIVE)" in text(state_lines(run.view))[1], "ambient has no DISABLE"
    assert "foo/web says PERMISSIVE for port 9000" in text(state_lines(run.view))[4]


def test_the_first_lines_say_what_runs_and_what_is_not_covered() -> None:
    explicit = text(list(start_lines(Run(Capture.EXPLICIT).view, Machine(Capture.EXPLICIT))))
    assert explicit[0] == "1 sidecar, one node proxy for 1 ambient workload, explicit capture"
    assert "only declared ports are covered" in explicit[1]
    machine = Machine(Capture.TRANSPARENT, node_proxy="ztunnel")
    assert text(list(start_lines(Run(Capture.TRANSPARENT).view, machine))) == [
        "1 sidecar, one ztunnel for 1 ambient workload, transparent capture"
    ]


def test_in_a_staged_change_the_stage_is_shown_and_not_yet_what_is_decided() -> None:
    run = Run(Capture.EXPLICIT)
    run.apply(Upsert("documents", policy("foo/web", "DISABLE", selector={"app": "web"})))
    assert [row[3] for row in run.rows()[2:]] == ["PERMISSIVE", "PERMISSIVE"]
