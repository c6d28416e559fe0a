"""Proof of the clients' side: applications dial in plaintext, their proxies make of it what each server asks for.

One connection at a time is made through a client's own proxy, and the server's access log says as what it arrived.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

import msgspec

from peerauth.control.plane import ControlPlane
from peerauth.local.mesh import LocalMesh
from peerauth.model.connections import Arrival, ConnectionSeen
from peerauth.model.inventory import WorkloadKey
from peerauth.model.placement import Capture
from peerauth.policy.decision import Dataplane, EffectiveMode
from peerauth.policy.outbound import transport_to
from peerauth.policy.reception import ClientKind, reception
from peerauth.probe import Attempt, Credentials, Outcome, ProbeTarget, attempt, outcome_of
from peerauth.telemetry.accesslog import AccessLog
from peerauth.view import ServedWorkload

LOG_SECONDS = 3.0
"""Envoy flushes its access log ten times a second; this is for a machine that is busy."""

ARRIVALS = {
    Arrival.PLAINTEXT: "plaintext",
    Arrival.PASSTHROUGH_TLS: "TLS for the application",
    Arrival.MUTUAL_TLS: "mutual TLS",
    Arrival.UNTOUCHED: "the application's own bytes, untouched",
    Arrival.REFUSED: "refused",
    Arrival.ABANDONED: "abandoned",
    Arrival.UNREACHABLE: "unreachable",
}


class Flow(msgspec.Struct, frozen=True):
    """One way from a client's application to a server's port: dial `address:port` as the client does.

    `wanted` is as what it must arrive.
    """

    client: WorkloadKey
    server: WorkloadKey
    address: str
    port: int
    server_port: int
    mode: EffectiveMode
    wanted: Arrival


class FlowReport(msgspec.Struct, frozen=True):
    """What was seen of one flow; `arrived` is None if the server's proxy logged nothing."""

    flow: Flow
    arrived: Arrival | None
    ok: bool
    sentence: str


def flows_of(mesh: LocalMesh) -> tuple[Flow, ...]:
    """The flows to prove: every egress listener, or with transparent capture every declared port, from one client."""
    return tuple(_dialled(mesh) if mesh.network.capture is Capture.TRANSPARENT else _listened(mesh))


async def prove_flows(mesh: LocalMesh, *, log: AccessLog, presented: Credentials) -> tuple[FlowReport, ...]:
    """Makes one connection per flow, one after another, so that each access-log line is known to be its own."""
    return tuple([await _prove(flow, mesh=mesh, log=log, presented=presented) for flow in flows_of(mesh)])


def _dialled(mesh: LocalMesh) -> Iterator[Flow]:
    served = mesh.view.served()
    for server in served:
        for client in _clients(served, server.key):
            for port in server.declared:
                dialled = (server.addresses[0], port)
                yield _flow(mesh.control_plane, client, server.key, dialled=dialled, port=port)


def _clients(served: Sequence[ServedWorkload], server: WorkloadKey) -> Iterator[WorkloadKey]:
    """One client of each data plane, the first by name."""
    for wanted in (Dataplane.SIDECAR, Dataplane.AMBIENT):
        client = next((each.key for each in served if each.key != server and each.dataplane is wanted), None)
        if client is not None:
            yield client


def _flow(
    plane: ControlPlane, client: WorkloadKey, server: WorkloadKey, *, dialled: tuple[str, int], port: int
) -> Flow:
    decisions = plane.mesh.decisions
    decision = decisions.decision(server)
    transport = transport_to(decisions.decision(client).dataplane, decision, port, mesh=plane.mesh.world.mesh)
    wanted = reception(transport.client, decision, port).arrival
    return Flow(client, server, *dialled, port, decision.mode_of(port), wanted)


def _listened(mesh: LocalMesh) -> Iterator[Flow]:
    plane = mesh.control_plane
    owners = {address: served.key for served in mesh.view.served() for address in served.addresses}
    for client in plane.sidecars():
        for listener in plane.egress(client):
            # With several endpoints the proxy chooses; which one it will be cannot be said beforehand.
            if len(listener.endpoints) == 1:
                endpoint = listener.endpoints[0]
                server = owners.get(endpoint.address)
                if server is not None:
                    dialled = (listener.bind, listener.port)
                    yield _flow(plane, client, server, dialled=dialled, port=endpoint.port)


async def _prove(flow: Flow, *, mesh: LocalMesh, log: AccessLog, presented: Credentials) -> FlowReport:
    arrival: asyncio.Future[ConnectionSeen] = asyncio.get_running_loop().create_future()
    began = time.time()

    def listen(seen: ConnectionSeen) -> None:
        # Lines of connections that came before may still be on their way.
        own = seen.started >= began and (seen.workload, seen.port) == (str(flow.server), flow.server_port)
        if own and not arrival.done():
            arrival.set_result(seen)

    with log.heard_by(listen):
        target = ProbeTarget(flow.address, flow.port)
        made = await attempt(target, ClientKind.PLAINTEXT, presented, sockets=mesh.network.sockets(flow.client))
        try:
            async with asyncio.timeout(LOG_SECONDS):
                seen: ConnectionSeen | None = await arrival
        except TimeoutError:
            seen = None
    return _report(flow, made=made, seen=seen)


def _report(flow: Flow, *, made: Attempt, seen: ConnectionSeen | None) -> FlowReport:
    arrived = None if seen is None else seen.arrival
    met = outcome_of(ClientKind.PLAINTEXT, flow.wanted)
    ok = made.outcome is met and arrived is flow.wanted
    what = "unseen: the server's proxy logged nothing" if seen is None else ARRIVALS[seen.arrival]
    by = f" of {seen.peer}" if seen is not None and seen.peer is not None else ""
    sentence = what + by if made.outcome is Outcome.ACCEPTED else f"{made.outcome.value}: {made.evidence}"
    if ok and met is Outcome.REFUSED:
        sentence = "refused: clients send plaintext, as enableAutoMtls is false"
    return FlowReport(flow, arrived, ok, sentence if ok else f"{sentence}; wanted: {ARRIVALS[flow.wanted]}")
