"""Network namespaces and capture on this machine's kernel: what is redirected, what is not, and what stays behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from peerauth.agent import commands, leftovers, redirect
from peerauth.agent.commands import run_tool
from peerauth.agent.netns import MeshNetwork, WorkloadNamespace, socket_in, sockets_of, unsupported
from peerauth.agent.nft import CALL_MARK, HBONE_PORT, INBOUND_PORT, OUTBOUND_PORT, PROXY_MARK
from peerauth.errors import PlatformError

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(unsupported()), reason=unsupported() or "supported")]

SO_ORIGINAL_DST = 80
SO_MARK = 36
FAMILIES = {0: socket.AF_INET, 1: socket.AF_INET6}
both = pytest.mark.parametrize("family", FAMILIES, ids=["ipv4", "ipv6"])


@pytest.fixture
async def network() -> AsyncIterator[MeshNetwork]:
    async with MeshNetwork() as made:
        yield made


def listen(where: WorkloadNamespace, port: int, family: int) -> socket.socket:
    listener = socket_in(where.path, FAMILIES[family])
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::" if family else "0.0.0.0", port))  # noqa: S104  of a namespace
    listener.listen()
    listener.settimeout(5)
    return listener


def dial(where: WorkloadNamespace, to: WorkloadNamespace, port: int, family: int, *, mark: int = 0) -> socket.socket:
    dialled = socket_in(where.path, FAMILIES[family])
    dialled.settimeout(5)
    if mark:
        dialled.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
    try:
        dialled.connect((to.addresses[family], port))
    except OSError:
        dialled.close()
        raise
    return dialled


def original_destination(accepted: socket.socket, family: int) -> tuple[str, int]:
    if family == 0:
        raw = accepted.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
        return socket.inet_ntop(socket.AF_INET, raw[4:8]), struct.unpack("!H", raw[2:4])[0]
    raw = accepted.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
    return socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack("!H", raw[2:4])[0]


@both
async def test_inbound_goes_to_the_proxy_which_learns_where_it_was_going(network: MeshNetwork, family: int) -> None:
    finance = await network.add("foo/finance")
    outside = await network.add("bar/outside", capture=False)
    with listen(finance, 8080, family) as application, listen(finance, INBOUND_PORT, family) as proxy:
        for port in (8080, 9999, OUTBOUND_PORT, INBOUND_PORT):  # declared, undeclared, and the proxy's own
            with dial(outside, finance, port, family), proxy.accept()[0] as accepted:
                if port != INBOUND_PORT:
                    assert original_destination(accepted, family) == (finance.addresses[family], port)
        application.setblocking(False)
        with pytest.raises(BlockingIOError):
            application.accept()


@both
async def test_hbone_is_not_redirected(network: MeshNetwork, family: int) -> None:
    finance = await network.add("foo/finance")
    outside = await network.add("bar/outside", capture=False)
    with listen(finance, HBONE_PORT, family) as hbone, dial(outside, finance, HBONE_PORT, family):
        hbone.accept()[0].close()


@both
async def test_what_the_application_dials_goes_to_the_proxy_and_what_the_proxy_dials_does_not(
    network: MeshNetwork, family: int
) -> None:
    web = await network.add("foo/web")
    outside = await network.add("bar/outside", capture=False)
    with listen(web, OUTBOUND_PORT, family) as proxy, listen(outside, 80, family) as server:
        with dial(web, outside, 80, family), proxy.accept()[0] as accepted:
            assert original_destination(accepted, family) == (outside.addresses[family], 80)
        for mark in (PROXY_MARK, CALL_MARK):
            with dial(web, outside, 80, family, mark=mark):
                server.accept()[0].close()


@both
async def test_an_application_reaches_itself_and_so_does_its_proxys_inbound_side(
    network: MeshNetwork, family: int
) -> None:
    web = await network.add("foo/web")
    with listen(web, 8080, family) as application:
        for mark in (0, PROXY_MARK):
            with dial(web, web, 8080, family, mark=mark):
                application.accept()[0].close()


@both
async def test_a_sidecars_call_to_its_own_workload_comes_in_through_its_inbound_side(
    network: MeshNetwork, family: int
) -> None:
    web = await network.add("foo/web")
    with listen(web, INBOUND_PORT, family) as proxy, listen(web, HBONE_PORT, family) as hbone:
        with dial(web, web, 8080, family, mark=CALL_MARK), proxy.accept()[0] as accepted:
            assert original_destination(accepted, family) == (web.addresses[family], 8080)
        with dial(web, web, HBONE_PORT, family, mark=CALL_MARK):
            hbone.accept()[0].close()


async def test_udp_reaches_the_application(network: MeshNetwork) -> None:
    finance = await network.add("foo/finance")
    outside = await network.add("bar/outside", capture=False)
    answers = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 5353)); s.settimeout(10)
print("bound", flush=True); print(s.recv(100).decode())
"""
    server = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", finance.name, sys.executable, "-c", answers), stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    await server.stdout.readline()
    send = f"import socket; socket.socket(2, 2).sendto(b'hello', ('{finance.addresses[0]}', 5353))"
    client = await asyncio.create_subprocess_exec("ip", "netns", "exec", outside.name, sys.executable, "-c", send)
    await client.wait()
    assert (await server.communicate())[0] == b"hello\n"


async def test_without_the_redirection_a_port_is_closed_not_open(network: MeshNetwork) -> None:
    finance = await network.add("foo/finance")
    outside = await network.add("bar/outside", capture=False)
    with listen(finance, 8080, 0):
        await run_tool("nft", "flush", "chain", "inet", "peerauth", "inbound", netns=finance.path)
        with socket_in(outside.path, socket.AF_INET) as dialled:
            dialled.settimeout(0.3)
            with pytest.raises(TimeoutError):
                dialled.connect((finance.addresses[0], 8080))


async def test_with_nothing_on_the_proxys_port_a_captured_port_refuses(network: MeshNetwork) -> None:
    finance = await network.add("foo/finance")
    outside = await network.add("bar/outside", capture=False)
    with listen(finance, 8080, 0), pytest.raises(ConnectionRefusedError):
        dial(outside, finance, 8080, 0)


async def test_rules_can_be_applied_twice_and_removed_twice(network: MeshNetwork) -> None:
    finance = await network.add("foo/finance", capture=False)
    await redirect.capture(finance.path)
    once = await run_tool("nft", "list", "ruleset", netns=finance.path)
    await redirect.capture(finance.path)
    assert await run_tool("nft", "list", "ruleset", netns=finance.path) == once != ""
    await redirect.release(finance.path)
    await redirect.release(finance.path)
    assert await run_tool("nft", "list", "ruleset", netns=finance.path) == ""


async def test_documented_addresses_are_given_and_two_workloads_cannot_share_one(network: MeshNetwork) -> None:
    finance = await network.add("foo/finance", addresses=["192.0.2.7", "2001:db8::7"])
    assert finance.addresses == ("192.0.2.7", "2001:db8::7")
    outside = await network.add("bar/outside", capture=False)
    for family in FAMILIES:
        with listen(finance, INBOUND_PORT, family) as proxy, dial(outside, finance, 80, family):
            proxy.accept()[0].close()
    with pytest.raises(PlatformError, match=r"192\.0\.2\.7"):
        await network.add("foo/other", addresses=["192.0.2.7"])
    await network.remove(finance)
    again = await network.add("foo/other", addresses=["192.0.2.7"])
    assert again.name != finance.name


async def test_leaving_removes_every_namespace_and_the_lock() -> None:
    async with MeshNetwork() as network:
        await network.add("foo/finance")
        assert len(leftovers.namespaces_of(network.instance)) == 2
    assert network.instance not in leftovers.instances()


OWNER = """
import asyncio
from peerauth.agent.netns import MeshNetwork

async def main():
    async with MeshNetwork() as network:
        await network.add("foo/finance")
        print(network.instance, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def start_owner() -> tuple[subprocess.Popen[bytes], str]:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    with owner.stdout:
        return owner, owner.stdout.readline().decode().strip()


async def test_what_a_killed_instance_leaves_is_removed_by_the_next_one_and_a_running_ones_is_not() -> None:
    running, running_instance = start_owner()
    killed, killed_instance = start_owner()
    try:
        assert len(leftovers.namespaces_of(killed_instance)) == 2
        killed.kill()
        killed.wait()
        async with MeshNetwork():  # or another test's, in parallel
            assert leftovers.namespaces_of(killed_instance) == []
            assert len(leftovers.namespaces_of(running_instance)) == 2
            assert killed_instance not in leftovers.instances()
    finally:
        running.terminate()
        running.wait()
        killed.kill()
        async with MeshNetwork():  # terminated without unwinding: removed here
            assert running_instance not in leftovers.instances()


async def test_an_instance_has_one_owner() -> None:
    async with MeshNetwork() as network:
        with pytest.raises(PlatformError, match="another process runs as instance"):
            async with MeshNetwork(instance=network.instance):
                pass
        assert len(leftovers.namespaces_of(network.instance)) == 1


async def test_a_failure_half_way_leaves_no_namespace(network: MeshNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: str) -> None:
        raise PlatformError("no nftables in this kernel")

    monkeypatch.setattr(redirect, "capture", fail)
    with pytest.raises(PlatformError, match="no nftables"):
        await network.add("foo/finance")
    assert len(leftovers.namespaces_of(network.instance)) == 1


def test_a_missing_namespace_or_tool_or_root_is_said_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlatformError, match="no network namespace at"):
        sockets_of("/run/netns/peerauth-none")(socket.AF_INET)
    monkeypatch.setattr(shutil, "which", lambda tool, **_: None if tool == "nft" else f"/sbin/{tool}")
    assert unsupported() == "missing: nft"
    monkeypatch.setattr(commands, "_effective_capabilities", lambda: 1 << 12)
    assert "CAP_SYS_ADMIN" in unsupported()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert unsupported() == "network namespaces need root"


@pytest.mark.parametrize("name", ["../x", "foo/", "Foo/x", "a b", ""])
async def test_a_name_that_could_be_a_path_is_refused(network: MeshNetwork, name: str) -> None:
    with pytest.raises(ValueError, match="not a workload"):
        await network.add(name)
