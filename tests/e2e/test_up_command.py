"""`peerauth up` as its user runs it: a process, documents on a disk, Ctrl-C, and the power that goes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from peerauth.agent import leftovers
from rigs.clients import loopback
from rigs.mesh_on_this_machine import DOCUMENTED_BIND, EXAMPLE, NO_ROOT, policy
from rigs.up_process import (
    Up,
    answered,
    envoys_below,
    eventually,
    example_documents,
    folder_of,
    peerauth_up,
    plaintext_is,
)

pytestmark = pytest.mark.envoy

EGRESS = loopback(252)

both_captures = pytest.mark.parametrize(
    "capture",
    [
        "explicit",
        pytest.param(
            "transparent", marks=[pytest.mark.root, pytest.mark.skipif(bool(NO_ROOT), reason=NO_ROOT or "supported")]
        ),
    ],
)


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """The example's workloads, and a policy.yaml that opens one of two ports."""
    return example_documents(tmp_path / "documents", egress=EGRESS)


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits for its parent to read its end does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@both_captures
async def test_once_proves_the_example(tmp_path: Path, capture: str) -> None:
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text((EXAMPLE / "mesh.yaml").read_text().replace(DOCUMENTED_BIND, EGRESS))
    arguments = (str(mesh), str(EXAMPLE / "policy.yaml"), "--apps", "--once", "--capture", capture)
    async with peerauth_up(tmp_path / "state", *arguments) as up:
        assert await up.ends() == 0, "".join([*up.out, *up.err])
        assert up.err == []
    said = "".join(up.out)
    assert "every one did what the policy says" in said
    rows = {tuple(row.split()[:3]) for row in up.out}
    assert ("foo/finance", "8080", "DISABLE") in rows
    assert ("foo/finance", "9000", "STRICT") in rows
    assert ("foo/web", "8080", "STRICT") in rows
    assert (("foo/finance", "18080*", "STRICT") in rows) is (capture == "transparent")


async def test_once_fails_when_the_application_is_not_there(tmp_path: Path, documents: Path) -> None:
    """A proof that could not fail would prove nothing."""
    async with peerauth_up(tmp_path / "state", str(documents), "--once") as up:
        assert await up.ends() == 1
    assert "every one did" not in "".join(up.out)


async def test_documents_with_errors_start_nothing(tmp_path: Path, documents: Path) -> None:
    (documents / "policy.yaml").write_text(policy("foo", "SRTICT"))
    async with peerauth_up(tmp_path / "state", str(documents), "--apps") as up:
        assert await up.ends() == 2
    assert f"{documents / 'policy.yaml'}:5:" in "".join(up.err)
    assert not (tmp_path / "state").exists()


@both_captures
async def test_an_edit_takes_effect_on_live_proxies_and_a_wrong_one_changes_nothing(
    tmp_path: Path, documents: Path, capture: str
) -> None:
    file = documents / "policy.yaml"
    async with peerauth_up(tmp_path / "state", str(documents), "--apps", "--capture", capture) as up:
        address = await up.address()
        outside = up.running().outside
        await plaintext_is(True, address, 8080, outside=outside)
        await plaintext_is(False, address, 9000, outside=outside)

        # In place, as a simple editor writes.
        file.write_text(policy("foo", "STRICT", app="finance", ports={8080: "STRICT", 9000: "PERMISSIVE"}))
        await plaintext_is(False, address, 8080, outside=outside)
        await plaintext_is(True, address, 9000, outside=outside)

        # By renaming another file over it, as a careful one does.
        swap = documents / ".policy.yaml.swap"
        swap.write_text(policy("foo", "DISABLE", app="finance", ports={9000: "STRICT"}))
        swap.rename(file)
        await plaintext_is(True, address, 8080, outside=outside)
        await plaintext_is(False, address, 9000, outside=outside)

        file.write_text(policy("foo", "STIRCT", app="finance"))
        assert f"{file}:" in await up.says("STIRCT", on=up.err)
        place = next(line for line in up.err if f"{file}:" in line)
        assert place.split(f"{file}:")[1].startswith("6:")
        await up.says("stays in force", on=up.err)
        told = len(up.err)
        file.write_text("kind: PeerAuthentication\nspec: [unfinished\n")
        await up.says(f"{file}:2:7", on=up.err)
        assert len(up.err) > told
        assert await answered(address, 8080, outside=outside)
        assert not await answered(address, 9000, outside=outside)

        # A new file and one that goes.
        file.unlink()
        await plaintext_is(True, address, 9000, outside=outside)
        (documents / "new.yaml").write_text(policy("foo", "STRICT"))
        await plaintext_is(False, address, 9000, outside=outside)
        await plaintext_is(False, address, 8080, outside=outside)


async def test_a_port_that_another_program_has_is_taken_as_soon_as_it_is_free(tmp_path: Path, documents: Path) -> None:
    file = documents / "mesh.yaml"
    (documents / "policy.yaml").write_text(policy("foo", "STRICT", app="finance", ports={9001: "PERMISSIVE"}))
    async with peerauth_up(tmp_path / "state", str(documents), "--apps") as up:
        address = await up.address()
        with socket.create_server((address, 9001)):
            declared = "            - containerPort: 9000\n"
            assert declared in file.read_text()
            file.write_text(file.read_text().replace(declared, declared + "            - containerPort: 9001\n"))
            refused = await up.says("refuses inbound_9001", on=up.err)
            assert "Address already in use" in refused
        await up.says("no longer: the proxy of foo/finance refuses inbound_9001")
        await plaintext_is(True, address, 9001)
        assert len([line for line in up.err if "inbound_9001" in line]) == 1


@both_captures
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_stopped_it_ends_well_and_leaves_nothing(
    tmp_path: Path, documents: Path, capture: str, how: signal.Signals
) -> None:
    async with peerauth_up(tmp_path / "state", str(documents), "--apps", "--capture", capture) as up:
        await up.address()
        assert folder_of(up.process.pid) is not None
        envoys = envoys_below(up.process.pid)
        assert len(envoys) >= 3
        instance = network_instance(up)
        assert (instance in leftovers.instances()) is (capture == "transparent")
        up.process.send_signal(how)
        assert await up.ends() == 0
    assert up.err == []
    assert folder_of(up.process.pid) is None
    assert not any(map(alive, envoys))
    assert instance not in leftovers.instances()


@both_captures
async def test_killed_it_takes_its_proxies_along_and_the_next_run_cleans_up(
    tmp_path: Path, documents: Path, capture: str
) -> None:
    arguments = (str(documents), "--apps", "--capture", capture)
    async with peerauth_up(tmp_path / "state", *arguments) as up:
        address = await up.address()
        killed = up.process.pid
        outside = up.running().outside
        envoys = envoys_below(up.process.pid)
        assert len(envoys) >= 3
        instance = network_instance(up)
        up.process.kill()
        await up.ends()
        await eventually(lambda: not any(map(alive, envoys)))
        assert not await answered(address, 9000, outside=outside), "closed, not open, with its proxy gone"
        assert folder_of(killed) is not None
    async with peerauth_up(tmp_path / "state", *arguments) as up:
        address = await up.address()
        assert folder_of(killed) is None
        await plaintext_is(True, address, 8080, outside=up.running().outside)
        await plaintext_is(False, address, 9000, outside=up.running().outside)
        if capture == "transparent":
            assert instance not in leftovers.instances()
            assert network_instance(up) in leftovers.instances()
        os.kill(up.process.pid, signal.SIGINT)
        assert await up.ends() == 0


async def test_an_envoy_that_dies_is_said_and_that_it_is_back(tmp_path: Path, documents: Path) -> None:
    async with peerauth_up(tmp_path / "state", str(documents), "--apps") as up:
        address = await up.address()
        envoy = min(envoys_below(up.process.pid))
        os.kill(envoy, signal.SIGKILL)
        said = await up.says("was killed by SIGKILL", on=up.err)
        assert "the Envoy of foo/" in said
        assert "runs again" in await up.says("mended")
        await plaintext_is(True, address, 8080)
        await plaintext_is(False, address, 9000)


async def test_two_runs_at_a_time_do_not_meet(tmp_path: Path, documents: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "mesh.yaml").write_text((documents / "mesh.yaml").read_text().replace(EGRESS, loopback(253)))
    (other / "policy.yaml").write_text(policy("foo", "STRICT"))
    async with (
        peerauth_up(tmp_path / "state", str(documents), "--apps") as first,
        peerauth_up(tmp_path / "state", str(other), "--apps") as second,
    ):
        here, there = await asyncio.gather(first.address(), second.address())
        assert here != there
        assert await answered(here, 8080)
        assert not await answered(there, 8080)


async def test_what_a_proxy_refuses_is_said(tmp_path: Path, documents: Path) -> None:
    """Here, because another run has the address that the documents give a client's egress listeners."""
    arguments = (str(documents), "--apps")
    async with (
        peerauth_up(tmp_path / "state", *arguments) as first,
        peerauth_up(tmp_path / "state", *arguments) as second,
    ):
        await asyncio.gather(first.address(), second.address())
        await eventually(lambda: bool(first.err or second.err))
        loser = second if second.err else first
        assert f"cannot bind '{EGRESS}:8080': Address already in use" in await loser.says(
            "foo/client refuses", on=loser.err
        )
        assert (first.err == []) is (loser is second)
        assert await answered(await loser.address(), 8080), "the rest works"


async def test_an_edit_that_this_machine_cannot_follow_is_said_and_the_run_goes_on(
    tmp_path: Path, documents: Path
) -> None:
    async with peerauth_up(tmp_path / "state", str(documents), "--apps") as up:
        address = await up.address()
        (documents / "sidecar.yaml").write_text(
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: finance, namespace: foo}\nspec:\n"
            "  workloadSelector: {labels: {app: finance}}\n  ingress:\n"
            "  - {port: {number: 8080, protocol: TCP, name: tcp}, defaultEndpoint: '192.0.2.1:80'}\n"
        )
        assert "192.0.2.1:80" in await up.says("cannot listen", on=up.err)
        assert not await answered(address, 8080)
        (documents / "sidecar.yaml").unlink()
        await plaintext_is(True, address, 8080)
        await plaintext_is(False, address, 9000)


def network_instance(up: Up) -> str:
    """What the names of a run's network namespaces have in common; empty where it has none."""
    name = Path(up.running().outside).name
    return name.split("-")[1] if name else ""
