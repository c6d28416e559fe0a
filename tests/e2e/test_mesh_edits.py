"""Policies change while connections are open: what the change does not forbid lives on, what it forbids ends soon."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset

from peerauth.control.plane import proxy_key
from peerauth.dataplane.type_urls import LISTENER
from peerauth.model.connections import Arrival
from peerauth.model.placement import Capture
from peerauth.policy.decision import EffectiveMode
from rigs.clients import GREETING, Connection
from rigs.mesh_on_this_machine import (
    CLIENT,
    EGRESS,
    FINANCE,
    NO_ROOT,
    WEB,
    Machine,
    example,
    hammering,
    machine,
    policy,
    until,
)

pytestmark = pytest.mark.envoy

both_captures = pytest.mark.parametrize(
    "capture",
    [
        Capture.EXPLICIT,
        pytest.param(
            Capture.TRANSPARENT,
            marks=[pytest.mark.root, pytest.mark.skipif(bool(NO_ROOT), reason=NO_ROOT or "supported")],
        ),
    ],
)
CLOSED_WITHIN_S = 5
CLIENT_HELLO = b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03" + bytes(32) + b"\x00\x00\x02\x13\x01\x01\x00\x00\x00"
"""As short as one can be; the application repeats it like anything else."""
S, P, D = "STRICT", "PERMISSIVE", "DISABLE"


def finance(mode_8080: str, mode_9000: str) -> str:
    """The two ports of finance, each with a mode of its own."""
    return policy("foo", P, app="finance", ports={8080: mode_8080, 9000: mode_9000})


@both_captures
async def test_connections_on_a_port_that_no_edit_touches_survive_every_edit_of_another(
    tmp_path: Path, capture: Capture
) -> None:
    async with machine(tmp_path, capture=capture) as running:
        await running.load(example(finance(P, P)))
        await running.serve(FINANCE, 8080, 9000)
        plain = await running.dial(FINANCE, 8080)
        mutual = await running.dial(FINANCE, 8080, tls=running.mutual())
        assert await plain.echoes()
        assert await mutual.echoes()
        edits = [finance(P, mode) for mode in (S, D, S, P, D, P)]
        other_levels = [policy("foo", S) + "---\n" + finance(P, S), policy("istio-system", S) + "---\n" + finance(P, D)]
        for edit in (*edits, *other_levels):
            await running.load(example(edit))
            assert await plain.echoes()
            assert await mutual.echoes()
        await running.load(example(finance(P, P)))
        forbidden = await running.dial(FINANCE, 9000)
        assert await forbidden.echoes()
        await running.load(example(finance(P, S)))
        assert await forbidden.ended()
        # What Envoy began to drain before is over by now.
        assert await plain.echoes()
        assert await mutual.echoes()


@both_captures
async def test_from_permissive_to_strict_plaintext_ends_and_mutual_tls_lives_on(
    tmp_path: Path, capture: Capture
) -> None:
    async with machine(tmp_path, capture=capture) as running:
        await running.load(example(finance(P, P)))
        ledger = await running.serve(FINANCE, 8080)
        plain = await running.dial(FINANCE, 8080)
        mutual = await running.dial(FINANCE, 8080, tls=running.mutual())
        assert await plain.echoes()
        assert await mutual.echoes()

        async with hammering((running.at(FINANCE), 8080), sockets=running.network.outside()) as hammers:
            await hammers[0].more(1, "answered")
            await running.load(example(finance(S, P)))
            forbidden = ledger.forbidden
            async with asyncio.timeout(CLOSED_WITHIN_S):
                assert await plain.ended()
            await hammers[0].more(20, "refused")
            # One connection of each hammer may have been on its way when the proxy acknowledged.
            assert ledger.forbidden <= forbidden + len(hammers)
        assert not await running.reaches(FINANCE, 8080)
        assert await mutual.echoes()
        assert await running.reaches(FINANCE, 8080, tls=running.mutual())

        await running.load(example(finance(P, P)))
        assert await running.reaches(FINANCE, 8080)
        assert await mutual.echoes()


async def test_what_the_catch_all_forbids_ends_too_and_declared_ports_do_not_notice(tmp_path: Path) -> None:
    if NO_ROOT:
        pytest.skip(NO_ROOT)
    async with machine(tmp_path, capture=Capture.TRANSPARENT) as running:
        await running.load(example(policy("foo", P, app="finance", ports={8080: P})))
        await running.serve(FINANCE, 8080, 7777)
        plain = await running.dial(FINANCE, 7777)
        mutual = await running.dial(FINANCE, 7777, tls=running.mutual())
        declared = await running.dial(FINANCE, 8080)
        for each in (plain, mutual, declared):
            assert await each.echoes()
        await running.load(example(policy("foo", S, app="finance", ports={8080: P})))
        async with asyncio.timeout(CLOSED_WITHIN_S):
            assert await plain.ended()
        assert not await running.reaches(FINANCE, 7777)
        assert await mutual.echoes()
        assert await declared.echoes()


@both_captures
async def test_what_disable_let_in_ends_when_it_becomes_strict_and_the_other_way_round(
    tmp_path: Path, capture: Capture
) -> None:
    """The stage between the two included; also the application's own TLS that PERMISSIVE passes through."""
    async with machine(tmp_path, capture=capture) as running:
        await running.load(example(finance(D, P)))
        await running.serve(FINANCE, 8080, 9000)
        untouched, passed = await running.dial(FINANCE, 8080), await running.dial(FINANCE, 9000)
        passed.writer.write(CLIENT_HELLO)
        assert await passed.reader.readexactly(len(CLIENT_HELLO)) == CLIENT_HELLO
        assert await untouched.echoes()
        async with asyncio.timeout(CLOSED_WITHIN_S):
            await running.take(example(finance(S, S)))
            assert await untouched.ended()
            assert await passed.ended()

        await running.mesh.ready()
        mutual = await running.dial(FINANCE, 8080, tls=running.mutual())
        assert await mutual.echoes()
        async with asyncio.timeout(CLOSED_WITHIN_S):
            await running.take(example(finance(D, S)))
            assert await mutual.ended()


@both_captures
async def test_a_tunnel_lives_through_every_edit_of_every_port(tmp_path: Path, capture: Capture) -> None:
    """HBONE proves the client's identity whatever the mode: no policy forbids it."""
    async with machine(tmp_path, capture=capture) as running:
        await running.load(example(finance(P, P)))
        await running.serve(FINANCE, 8080)
        tls = running.mutual(alpn=("h2",))
        connection = await running.dial(FINANCE, 15008, tls=tls)
        tunnel = Tunnel(connection)
        assert await tunnel.opens(f"{running.at(FINANCE)}:8080") == 200
        for mode in (S, P, D, S):
            await running.load(example(finance(mode, P)))
            assert await tunnel.echoes(), mode
        await running.load(example(policy("foo", S)))
        assert await tunnel.echoes(), "a new reason"
        await running.serve(WEB, 8080)
        forbidden = await running.dial(WEB, 8080, tls=running.mutual())
        assert await forbidden.echoes()
        await running.load(example(policy("foo", D)))
        assert await forbidden.ended(), "by then what Envoy drains is drained"
        assert await tunnel.echoes()


class Tunnel:
    """One HBONE tunnel that stays open."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._h2 = H2Connection(H2Configuration(client_side=True, validate_outbound_headers=False))
        self._h2.initiate_connection()
        self._data = b""
        self._status: int | None = None

    async def opens(self, authority: str) -> int | None:
        """The answer to a CONNECT."""
        self._h2.send_headers(1, [(":method", "CONNECT"), (":authority", authority)])
        while self._status is None and await self._exchange():
            pass
        return self._status

    async def echoes(self) -> bool:
        """Whether what is sent through it comes back."""
        self._data = b""
        self._h2.send_data(1, GREETING)
        while self._data != GREETING:
            if not await self._exchange():
                return False
        return True

    async def _exchange(self) -> bool:
        """Sends what there is and takes the next bytes; False at the end of the tunnel."""
        self._connection.writer.write(self._h2.data_to_send())
        async with asyncio.timeout(10):
            received = await self._connection.reader.read(1 << 16)
        for event in self._h2.receive_data(received):
            match event:
                case ResponseReceived():
                    self._status = int(dict(event.headers or [])[b":status"])
                case DataReceived():
                    self._data += event.data or b""
                case StreamReset() | ConnectionTerminated() | StreamEnded():
                    return False
        return bool(received)


async def dial_as_client(running: Machine) -> bool:
    """One request by the application of foo/client to finance:8080, through its own proxy."""
    if running.network.capture is Capture.TRANSPARENT:
        return await running.reaches(FINANCE, 8080, by=CLIENT)
    connection = await running.dial_at(EGRESS, 8080)
    answered = await connection.echoes()
    await connection.close()
    return answered


@both_captures
async def test_a_client_behind_its_own_proxy_notices_nothing_of_a_jump_from_disable_to_strict_and_back(
    tmp_path: Path, capture: Capture
) -> None:
    """The jump is staged: the server takes both until every client's proxy has changed over."""
    failures, requests = 0, 0
    stop = asyncio.Event()

    async def keep_asking(running: Machine) -> None:
        nonlocal failures, requests
        while not stop.is_set():
            failures += not await dial_as_client(running)
            requests += 1

    async with machine(tmp_path, capture=capture) as running:
        await running.load(example(finance(D, P)))
        await running.serve(FINANCE, 8080)
        assert await dial_as_client(running)
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(keep_asking(running))
            for mode in (S, D) * 3:
                asked = requests
                await running.load(example(finance(mode, P)))
                assert running.mesh.control_plane.rollout.in_force[FINANCE].mode_of(8080) is EffectiveMode(mode)
                await until(lambda asked=asked: requests > asked + 4)  # type: ignore[misc]
            stop.set()
        assert failures == 0
        assert requests > 40
        with running.arrivals() as arrivals:
            await running.load(example(finance(S, P)))
            assert await dial_as_client(running)
            async with asyncio.timeout(5):
                while (seen := await arrivals.get()).arrival is not Arrival.MUTUAL_TLS:
                    pass
            assert seen.peer is not None
            assert seen.peer.uri == "spiffe://cluster.local/ns/foo/sa/client"
        assert not await running.reaches(FINANCE, 8080), "at the end of the stage the port is STRICT"


async def test_an_edit_in_the_middle_of_a_stage_is_what_it_ends_with(tmp_path: Path) -> None:
    async with machine(tmp_path) as running:
        await running.load(example(finance(D, P)))
        await running.serve(FINANCE, 8080)
        for last in (D, P, S):
            for mode in (D, S, D, S, last):
                await running.take(example(finance(mode, P)))  # without waiting
            await running.mesh.ready()
            assert running.mesh.control_plane.rollout.in_force[FINANCE].mode_of(8080) is EffectiveMode(last)
            assert await running.reaches(FINANCE, 8080) is (last != S)
            assert await running.reaches(FINANCE, 8080, tls=running.mutual()) is (last != D)


async def test_a_proxy_that_is_stuck_keeps_no_port_open_and_delays_no_other_port(tmp_path: Path) -> None:
    """Who does not acknowledge holds its stage up for some seconds, and nothing else at all."""
    async with machine(tmp_path) as running:
        await running.load(example(finance(D, P)))
        await running.serve(FINANCE, 8080, 9000)
        plane, stuck = running.mesh.control_plane, running.mesh.agents()[CLIENT].supervisor.pid
        assert stuck is not None
        os.kill(stuck, signal.SIGSTOP)
        try:
            await running.take(example(finance(S, P)))
            assert plane.rollout.in_force[FINANCE].mode_of(8080) is EffectiveMode.PERMISSIVE
            await running.take(example(finance(S, S)))
            await running.mesh.discovery.wait_acked(proxy_key(FINANCE), LISTENER)
            assert not await running.reaches(FINANCE, 9000)
            assert plane.rollout.in_force[FINANCE].mode_of(8080) is EffectiveMode.PERMISSIVE
            await until(lambda: plane.rollout.in_force[FINANCE].mode_of(8080) is EffectiveMode.STRICT)
            await running.mesh.discovery.wait_acked(proxy_key(FINANCE), LISTENER)
            assert not await running.reaches(FINANCE, 8080)
            assert not await running.reaches(FINANCE, 9000)
        finally:
            os.kill(stuck, signal.SIGCONT)
        await plane.settled()
        connection = await running.dial_at(EGRESS, 8080)
        assert await connection.echoes(), "back again, it does what the others do"


async def test_workloads_that_come_go_and_leave_the_mesh_leave_the_others_connections_alone(tmp_path: Path) -> None:
    documents = example(policy("foo", S))
    without_web = tuple(each for each in documents if getattr(each, "key", None) != WEB)
    async with machine(tmp_path) as running:
        await running.load(documents)
        ledger = await running.serve(FINANCE, 8080)
        mutual = await running.dial(FINANCE, 8080, tls=running.mutual())
        assert await mutual.echoes()
        web = running.at(WEB)
        await running.load(without_web)
        assert WEB not in running.mesh.agents()
        assert proxy_key(WEB) not in running.mesh.discovery.status()
        with pytest.raises(ConnectionRefusedError):
            await running.dial_at(web, 8080)
        assert await mutual.echoes()
        await running.load(documents)
        await running.serve(WEB, 8080)
        assert await running.reaches(WEB, 8080, tls=running.mutual())
        assert not await running.reaches(WEB, 8080)
        assert await mutual.echoes()
        assert ledger.forbidden == 0


async def test_a_listener_that_envoy_refuses_leaves_the_last_good_one_in_force_and_the_next_good_change_works(
    tmp_path: Path,
) -> None:
    async with machine(tmp_path) as running:
        await running.load(example(finance(P, S)))
        await running.serve(FINANCE, 8080, 9000)
        plain = await running.dial(FINANCE, 8080)
        assert await plain.echoes()
        cache, proxy = running.mesh._cache, proxy_key(FINANCE)
        good = cache.view(proxy).by_type[LISTENER]["inbound_9000"].body
        broken = good.replace(b"tcp_proxy.v3.TcpProxy", b"tcp_proxy.v3.TcpCrazy")
        assert broken != good
        cache.update(proxy, LISTENER, {"inbound_9000": broken})
        async with asyncio.timeout(10):
            refusals = await running.mesh.discovery.wait_acked(proxy, LISTENER)
        assert len(refusals) == 1

        status = running.mesh.discovery.status()[proxy]
        assert status.connected
        assert set(status.refused[LISTENER]) == {"inbound_9000"}
        assert status.last_nack is not None
        assert "TcpCrazy" in status.last_nack.refusal.message
        assert await plain.echoes()
        assert not await running.reaches(FINANCE, 9000), "the last good one is STRICT"
        assert await running.reaches(FINANCE, 9000, tls=running.mutual())

        await running.load(example(finance(P, P)))
        assert not running.mesh.discovery.status()[proxy].refused
        assert await running.reaches(FINANCE, 9000)
        assert await plain.echoes()
