"""A proxy that stands still while a port is closed lets nothing in afterwards: what waits at its ports meets its end.

Its listeners' queues are the kernel's: who connects while it is stopped is there when it goes on, and would be let in
with the configuration that it had.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from peerauth.agent.supervisor import EnvoySupervisor
from peerauth.control.outstanding import Behind, CaughtUp
from peerauth.control.plane import proxy_key
from peerauth.dataplane.envoy import sidecars
from peerauth.dataplane.envoy.sidecar import Rendered, render_sidecar
from peerauth.dataplane.envoy.sidecar_values import SidecarWorkload
from peerauth.dataplane.type_urls import LISTENER, TypeUrl
from peerauth.model.diagnostic import Diagnostic
from peerauth.model.placement import Capture
from peerauth.policy.decision import EffectiveMode
from peerauth.runtime.answers import Answers
from peerauth.xds.wire import ProxyKey
from rigs.captures import transparent_only
from rigs.mesh_on_this_machine import (
    EXAMPLE,
    FINANCE,
    FORBIDDEN,
    WEB,
    Ledger,
    Machine,
    example,
    machine,
    objects,
    policy,
    until,
)
from rigs.stopped import stopped
from rigs.up_process import peerauth_up

pytestmark = pytest.mark.envoy

S, P = "STRICT", "PERMISSIVE"
WAITING = 50
AMBIENT = EXAMPLE.parent / "ambient" / "mesh.yaml"


class Told:
    """Who listens to what is said of proxies' answers."""

    def __init__(self) -> None:
        self.troubles: list[Diagnostic] = []
        self.sentences: list[str] = []

    def trouble(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.troubles += diagnostics

    def mended(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def acknowledged(self, proxies: int) -> None:
        pass


async def wait_in_line(running: Machine) -> list[socket.socket]:
    """Plaintext that has been sent to finance before its proxy has taken the connection."""
    loop, made = asyncio.get_running_loop(), []
    for _ in range(WAITING):
        made.append(running.network.outside()(socket.AF_INET))
        made[-1].setblocking(False)
        await loop.sock_connect(made[-1], (running.at(FINANCE), 8080))
        await loop.sock_sendall(made[-1], FORBIDDEN)
    return made


async def ends(waiting: list[socket.socket]) -> None:
    """Everyone who waited is turned away, or answered: then there is nothing left that could still get in."""
    for each in waiting:
        with each, contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                await asyncio.get_running_loop().sock_recv(each, 100)


def news(running: Machine) -> list[Behind | CaughtUp]:
    said: list[Behind | CaughtUp] = []
    running.mesh.control_plane.outstanding.follow(said.append)
    return said


async def close_the_port(
    running: Machine, supervisor: EnvoySupervisor, *, mesh: Path, ledger: Ledger, proxy: ProxyKey
) -> None:
    """Stops the proxy of finance, closes its port, and lets the proxy go on when its time is over."""
    said, restarts = news(running), supervisor.restarts
    assert await running.reaches(FINANCE, 8080)
    with stopped(supervisor.pid):
        waiting = await wait_in_line(running)
        await running.take(objects(mesh, policy("foo", P), policy("foo", S, app="finance")))
        await until(lambda: supervisor.restarts > restarts)
    await ends(waiting)
    await until(lambda: CaughtUp(proxy) in said)
    await supervisor.ready()
    assert [each.ended for each in said if isinstance(each, Behind)] == [True]
    assert not await running.reaches(FINANCE, 8080)
    assert ledger.forbidden == 0


async def test_plaintext_that_waited_at_a_stopped_sidecar_does_not_get_in_after_strict(tmp_path: Path) -> None:
    async with machine(tmp_path) as running:
        await running.load(objects(EXAMPLE / "mesh.yaml", policy("foo", P)))
        ledger = await running.serve(FINANCE, 8080)
        await running.serve(WEB, 8080)
        elsewhere = await running.dial(WEB, 8080, tls=running.mutual())
        assert await elsewhere.echoes()
        supervisor = running.mesh.agents()[FINANCE].supervisor
        await close_the_port(running, supervisor, mesh=EXAMPLE / "mesh.yaml", ledger=ledger, proxy=proxy_key(FINANCE))
        assert await running.reaches(FINANCE, 8080, tls=running.mutual())
        assert await elsewhere.echoes(), "nobody else's connections end"


@transparent_only
async def test_plaintext_that_waited_at_a_stopped_node_s_proxy_does_not_get_in_after_strict(tmp_path: Path) -> None:
    async with machine(tmp_path, capture=Capture.TRANSPARENT) as running:
        await running.load(objects(AMBIENT, policy("foo", P)))
        ledger = await running.serve(FINANCE, 8080)
        supervisor = running.mesh.node().supervisor
        (proxy,) = (key for key, title in running.mesh.proxies().items() if title == "the node's proxy")
        await close_the_port(running, supervisor, mesh=AMBIENT, ledger=ledger, proxy=proxy)
        assert await running.reaches(FINANCE, 8080, by=WEB)


async def test_a_proxy_that_goes_on_in_time_is_left_alone(tmp_path: Path) -> None:
    async with machine(tmp_path) as running:
        await running.load(example(policy("foo", P)))
        await running.serve(FINANCE, 8080)
        supervisor, said = running.mesh.agents()[FINANCE].supervisor, news(running)
        mutual = await running.dial(FINANCE, 8080, tls=running.mutual())
        assert await mutual.echoes()
        with stopped(supervisor.pid):
            await running.take(example(policy("foo", S)))
        await running.mesh.control_plane.settled()
        assert not await running.reaches(FINANCE, 8080)
        assert await mutual.echoes()
        assert (supervisor.restarts, said) == (0, [])


async def test_a_proxy_that_refuses_what_closes_a_port_does_not_keep_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its last good configuration it would; started anew, it goes without the listener that it refuses."""

    def spoiled(workload: SidecarWorkload, *, had: Rendered | None) -> Mapping[TypeUrl, Mapping[str, bytes]]:
        rendered = {kind: dict(bodies) for kind, bodies in render_sidecar(workload, had=had).items()}
        if workload.key == FINANCE and workload.decision.mode_of(8080) is EffectiveMode.STRICT:
            good = rendered[LISTENER]["inbound_8080"]
            rendered[LISTENER]["inbound_8080"] = good.replace(b"tcp_proxy.v3.TcpProxy", b"tcp_proxy.v3.TcpCrazy")
        return rendered

    monkeypatch.setattr(sidecars, "render_sidecar", spoiled)
    async with machine(tmp_path) as running:
        await running.load(example(policy("foo", P)))
        ledger = await running.serve(FINANCE, 8080, 9000)
        supervisor, said = running.mesh.agents()[FINANCE].supervisor, news(running)
        answers = Answers(running.mesh, told := Told())
        await running.take(example(policy("foo", P), policy("foo", P, app="finance", ports={8080: S})))
        await until(lambda: supervisor.restarts == 1)
        await supervisor.ready()
        (behind,) = said
        assert isinstance(behind, Behind)
        assert (behind.resources, behind.refused, behind.ended) == (("inbound_8080",), True, True)
        answers.tell_refusals()
        (trouble,) = told.troubles
        assert "the proxy of foo/finance refuses inbound_8080" in trouble.message
        assert "TcpCrazy" in trouble.message
        assert "not kept open by it: foo/finance port 8080 PERMISSIVE -> STRICT" in trouble.hint
        received = ledger.received
        assert not await running.reaches(FINANCE, 8080)
        assert ledger.received == received
        assert await running.reaches(FINANCE, 9000)

        await running.load(example(policy("foo", P)))
        answers.tell_refusals()
        assert told.sentences == ["no longer: the proxy of foo/finance refuses inbound_8080"]
        assert await running.reaches(FINANCE, 8080), "what it takes again is in force"
        assert supervisor.restarts == 1


def envoy_of(workload: str, *, parent: int) -> int:
    """The process of a workload's Envoy below a `peerauth up`, by the node that its bootstrap says it is."""
    for each in Path("/proc").iterdir():
        if each.name.isdecimal() and f"\nPPid:\t{parent}\n" in (each / "status").read_text():
            words = (each / "cmdline").read_bytes().decode().split("\0")
            if "--config-path" in words and workload in Path(words[words.index("--config-path") + 1]).read_text():
                return int(each.name)
    raise AssertionError(f"no Envoy of {workload} below {parent}")


async def test_a_log_says_acknowledged_of_what_was_and_names_who_did_not_answer(tmp_path: Path) -> None:
    edited = tmp_path / "policy.yaml"
    edited.write_text(policy("foo", P))
    async with peerauth_up(tmp_path / "state", str(EXAMPLE / "mesh.yaml"), str(edited)) as up:
        await up.says("ready; stop with Ctrl-C")
        before = policy("foo", P) + "---\n" + policy("foo", S, app="web")
        edited.write_text(before)
        await up.says("1 proxy acknowledged")
        with stopped(envoy_of("finance.foo", parent=up.process.pid)):
            edited.write_text(before + "---\n" + policy("foo", S, app="finance"))
            await up.says("foo/finance  PERMISSIVE -> STRICT")
            named = await up.says("has not acknowledged", on=up.err)
        assert "the proxy of foo/finance has not acknowledged within 5 s" in named
        assert "what closes foo/finance all other ports PERMISSIVE -> STRICT" in named
        await up.says("the proxy of foo/finance has acknowledged what it was told")
        assert len([each for each in up.out if each.endswith(" acknowledged\n")]) == 1, "that of web alone"
