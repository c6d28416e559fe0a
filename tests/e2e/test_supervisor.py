"""The supervisor with a real Envoy: restarts, ports that are never open meanwhile, and an end with its parent."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from peerauth.agent.admin import ask
from peerauth.agent.netns import MeshNetwork, socket_in, unsupported
from peerauth.agent.outage import Outage
from peerauth.agent.supervisor import Backoff, EnvoyLaunch, EnvoySupervisor, find_envoy
from peerauth.aio import spawn
from peerauth.dataplane.envoy.bootstrap import Sockets
from peerauth.dataplane.envoy.bootstrap import bootstrap as bootstrap_of
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.envoy.sidecar_values import EgressPort
from peerauth.dataplane.type_urls import CLUSTER, LISTENER
from peerauth.errors import ProxyError
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.outbound import Transport
from rigs.clients import loopback
from rigs.envoyrig import Authority, Discovery, discovery_server
from samples.sidecars import FINANCE, decided, sidecar

pytestmark = pytest.mark.envoy


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bootstrap(admin: Path, port: int) -> str:
    """An Envoy that answers 'here' on a port and logs each request to its standard output."""
    stdout = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
    tcp = "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config"
    listener = {
        "name": "here",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "access_log": [
            {
                "name": "stdout",
                "typed_config": {
                    "@type": stdout,
                    "log_format": {"text_format_source": {"inline_string": "from=%DOWNSTREAM_REMOTE_ADDRESS%\n"}},
                },
            }
        ],
        "filter_chains": [
            {"filters": [{"name": "d", "typed_config": {"@type": tcp, "response": {"inline_string": "here"}}}]}
        ],
    }
    return json.dumps(
        {
            "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
            "static_resources": {"listeners": [listener]},
        }
    )


def launch_of(folder: Path, port: int, *, config: str | None = None) -> EnvoyLaunch:
    admin = folder / "admin.sock"
    (folder / "bootstrap.json").write_text(bootstrap(admin, port) if config is None else config)
    return EnvoyLaunch(
        name="finance",
        binary=find_envoy(),
        bootstrap=folder / "bootstrap.json",
        admin=admin,
        log=folder / "envoy.log",
    )


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@asynccontextmanager
async def running(supervisor: EnvoySupervisor) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = spawn(group, supervisor.run(), name="supervisor")
        try:
            yield
        finally:
            task.cancel()


async def first_bytes(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await reader.read(100)
    finally:
        writer.close()


def gate() -> tuple[Callable[[float], asyncio.Future[None]], asyncio.Queue[float], list[asyncio.Future[None]]]:
    """A sleep for the supervisor that ends when the test says so."""
    asked: asyncio.Queue[float] = asyncio.Queue()
    gates: list[asyncio.Future[None]] = []

    def sleep(seconds: float) -> asyncio.Future[None]:
        gates.append(asyncio.get_running_loop().create_future())
        asked.put_nowait(seconds)
        return gates[-1]

    return sleep, asked, gates


async def test_a_killed_envoy_is_restarted_after_its_backoff_and_its_port_is_closed_meanwhile(tmp_path: Path) -> None:
    port = free_port()
    sleep, asked, gates = gate()
    supervisor = EnvoySupervisor(
        launch_of(tmp_path, port), on_line=lambda _: None, backoff=Backoff(first=1), jitter=lambda: 0.0, sleep=sleep
    )
    async with running(supervisor):
        await supervisor.ready()
        assert await first_bytes(port) == b"here"
        for expected in (1.0, 2.0):  # it does not live long enough in between to be called healthy
            first = supervisor.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            assert await asked.get() == expected
            assert supervisor.pid is None
            assert supervisor.last_exit == -signal.SIGKILL
            with pytest.raises(ConnectionRefusedError):
                await first_bytes(port)
            gates[-1].set_result(None)
            await supervisor.ready()
            assert await first_bytes(port) == b"here"
            assert supervisor.pid != first
        assert supervisor.restarts == 2


async def test_an_end_is_told_once_with_the_last_words_and_the_return_too(tmp_path: Path) -> None:
    told: asyncio.Queue[Outage] = asyncio.Queue()
    launch = launch_of(tmp_path, free_port())
    supervisor = EnvoySupervisor(
        launch, on_line=lambda _: None, on_outage=told.put_nowait, backoff=Backoff(first=0.01, ceiling=0.05)
    )
    async with running(supervisor):
        await supervisor.ready()
        first = supervisor.pid
        assert first is not None
        whole = launch.bootstrap.read_text()
        launch.bootstrap.write_text('{"nonsense": 1}')  # it will be tried several times
        os.kill(first, signal.SIGKILL)
        outage = await told.get()
        assert "the Envoy of finance was killed by SIGKILL" in outage.sentence
        while supervisor.restarts < 3:  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.01)
        launch.bootstrap.write_text(whole)
        assert (await told.get()).sentence == "the Envoy of finance runs again"
        assert told.empty()
        second = supervisor.pid
        assert second is not None
        os.kill(second, signal.SIGTERM)
        assert "ended with exit status 0" in (await told.get()).sentence
        await told.get()
    assert told.empty(), "its end by us is nobody's news"


async def test_what_a_process_said_before_it_failed_is_told(tmp_path: Path) -> None:
    told: asyncio.Queue[Outage] = asyncio.Queue()
    launch = launch_of(tmp_path, free_port(), config='{"nonsense": 1}')
    async with running(EnvoySupervisor(launch, on_line=lambda _: None, on_outage=told.put_nowait)):
        sentence = (await told.get()).sentence
    assert "ended with exit status 1" in sentence
    assert "nonsense" in sentence


async def test_a_process_that_cannot_be_started_is_told_and_tried_again(tmp_path: Path) -> None:
    """Here, because its folder cannot be made where a file is."""
    told: asyncio.Queue[Outage] = asyncio.Queue()
    launch = launch_of(tmp_path, free_port())
    blocked = tmp_path / "gone"
    blocked.write_text("")
    launch = msgspec.structs.replace(
        launch, bootstrap=blocked / "bootstrap.json", configuration=launch.bootstrap.read_text(), log=blocked / "log"
    )
    supervisor = EnvoySupervisor(
        launch, on_line=lambda _: None, on_outage=told.put_nowait, backoff=Backoff(first=0.01, ceiling=0.05)
    )
    async with running(supervisor):
        assert "could not be started" in (await told.get()).sentence
        blocked.unlink()
        assert (await told.get()).over


async def test_the_access_log_arrives_line_by_line_and_the_end_of_the_task_is_the_end_of_the_process(
    tmp_path: Path,
) -> None:
    port = free_port()
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    supervisor = EnvoySupervisor(launch_of(tmp_path, port), on_line=lines.put_nowait)
    async with running(supervisor):
        await supervisor.ready()
        pid = supervisor.pid
        assert pid is not None
        assert await first_bytes(port) == b"here"
        assert (await lines.get()).startswith(b"from=127.0.0.1:")
        assert (await ask(supervisor.launch.admin, "/server_info")).body.startswith(b"{")
        assert environment_of(pid) == b""
    assert not is_running(pid)
    with pytest.raises(ConnectionRefusedError):
        await first_bytes(port)


async def test_a_configuration_that_envoy_refuses_is_an_error_that_quotes_it(tmp_path: Path) -> None:
    supervisor = EnvoySupervisor(
        launch_of(tmp_path, free_port(), config='{"nonsense": 1}'), on_line=lambda _: None, backoff=Backoff(first=0.01)
    )
    async with running(supervisor):
        with pytest.raises(ProxyError, match="nonsense") as caught:
            await supervisor.ready()
    assert "envoy.log" in caught.value.hint
    assert (tmp_path / "envoy.log").stat().st_mode & 0o777 == 0o600


async def test_a_process_that_ignores_being_asked_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerauth.agent.supervisor.TERMINATION_SECONDS", 0.1)
    stubborn = tmp_path / "envoy"
    stubborn.write_text(
        f"#!{sys.executable}\n"
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\nsignal.pause()\n"
    )
    stubborn.chmod(0o700)
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    launch = msgspec.structs.replace(launch_of(tmp_path, free_port()), binary=stubborn)
    supervisor = EnvoySupervisor(launch, on_line=lines.put_nowait)
    async with running(supervisor):
        assert await lines.get() == b"up"
        pid = supervisor.pid
        assert pid is not None
    assert not is_running(pid)
    assert supervisor.last_exit == -signal.SIGKILL


@pytest.mark.root
@pytest.mark.skipif(bool(unsupported()), reason=unsupported() or "supported")
async def test_an_envoy_in_a_workloads_namespace_listens_there_and_not_here(tmp_path: Path) -> None:
    port = free_port()
    async with MeshNetwork() as network:
        namespace = await network.add("foo/finance")
        launch = msgspec.structs.replace(launch_of(tmp_path, port), network_namespace=namespace.path)
        async with running(supervisor := EnvoySupervisor(launch, on_line=lambda _: None)):
            await supervisor.ready()
            with pytest.raises(ConnectionRefusedError):
                await first_bytes(port)
            with socket_in(namespace.path, socket.AF_INET) as inside:
                inside.setblocking(False)
                await asyncio.get_running_loop().sock_connect(inside, ("127.0.0.1", port))
                assert await asyncio.get_running_loop().sock_recv(inside, 100) == b"here"


PARENT = """
import asyncio, sys
from pathlib import Path
from peerauth.agent.netns import MeshNetwork, socket_in, unsupported
from peerauth.agent.supervisor import EnvoyLaunch, EnvoySupervisor, find_envoy
from peerauth.aio import spawn

async def main(folder):
    supervisor = EnvoySupervisor(
        EnvoyLaunch(name="x", binary=find_envoy(), bootstrap=folder / "bootstrap.json", admin=folder / "admin.sock",
                    log=folder / "envoy.log"), on_line=lambda _: None)
    async with asyncio.TaskGroup() as group:
        spawn(group, supervisor.run(), name="supervisor")
        await supervisor.ready()
        print(supervisor.pid, flush=True)

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_envoy_does_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    launch_of(tmp_path, free_port())
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert parent.stdout is not None
    envoy = int(parent.stdout.readline())
    watch = os.pidfd_open(envoy)
    try:
        parent.kill()
        parent.wait()
        assert select.select([watch], [], [], 10)[0], "Envoy outlived its parent"
    finally:
        os.close(watch)
        parent.stdout.close()


async def test_an_envoy_that_drops_a_listener_which_it_acknowledged_begins_anew_and_refuses_it(tmp_path: Path) -> None:
    """It binds early and listens late; another program that listens in between is refused to no one."""
    port, address = free_port(), loopback(31)
    sockets = Sockets(admin=str(tmp_path / "admin"), xds=str(tmp_path / "xds"), sds=str(tmp_path / "sds"))
    discovery, authority = Discovery(), Authority()
    egress = (EgressPort("host", address, port, (DestinationEndpoint("127.0.0.1", 9, Transport.PLAINTEXT),)),)
    resources = render_sidecar(sidecar(decided("PERMISSIVE"), addresses=(loopback(32),), egress=egress))
    # Clusters that wait for certificates keep it from asking for listeners at all.
    clusters = {
        name: body for name, body in resources[CLUSTER].items() if name not in {"outbound|mtls", "outbound|hbone"}
    }
    listeners = {name: body for name, body in resources[LISTENER].items() if not name.startswith("to-")}
    resources = {CLUSTER: clusters, LISTENER: listeners}
    server = discovery_server(discovery, (sockets.xds, sockets.sds))
    await server.start()
    await discovery.apply(resources)
    launched = msgspec.structs.replace(
        launch_of(tmp_path, port, config=bootstrap_of("test", cluster="test", sockets=sockets)),
        admin=Path(sockets.admin),
    )
    supervisor = EnvoySupervisor(launched, on_line=lambda _: None)
    try:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind((address, port))
            async with running(supervisor):
                await discovery.asked_for({"default", "ROOTCA"})  # its listeners are bound, and wait for these
                first = supervisor.pid
                other.listen()
                await discovery.offer(authority.secrets(FINANCE.uri))
                async with asyncio.timeout(20):
                    while not discovery.refused:  # noqa: ASYNC110  nothing tells
                        await asyncio.sleep(0.01)
                assert "Address already in use" in str(discovery.refused[0])
                assert supervisor.pid != first
    finally:
        await server.stop(None)
