"""A disk that fills up, and a folder that someone removes, under a `peerauth up`: what is in force stays in force."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from rigs.clients import loopback
from rigs.mesh_on_this_machine import policy
from rigs.up_process import answered, envoys_below, eventually, example_documents, folder_of, peerauth_up, plaintext_is

pytestmark = pytest.mark.envoy

WORKLOAD = """\
apiVersion: v1
kind: Pod
metadata: {name: late, namespace: foo}
spec: {containers: [{name: c, ports: [{containerPort: 7000}]}]}
"""


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """The example's workloads, and a policy that opens one port of finance."""
    return example_documents(tmp_path / "documents", egress=loopback(250))


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of one MiB and two hundred files, at a path that is short enough for sockets."""
    at = Path(tempfile.mkdtemp(prefix="pa-", dir="/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=200,mode=0700", "tmpfs", str(at)], check=True)
    yield at
    subprocess.run(["umount", "--lazy", str(at)], check=True)
    at.rmdir()


def fill(disk: Path) -> Path:
    """Leaves room for not one byte and not one file more."""
    fillers = disk / "fillers"
    fillers.mkdir()
    with suppress(OSError), (fillers / "bytes").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 1024)
    with suppress(OSError):
        for number in count():
            (fillers / str(number)).touch()
    return fillers


async def test_a_run_s_folder_that_is_removed_is_said_and_made_again(tmp_path: Path, documents: Path) -> None:
    async with peerauth_up(tmp_path / "state", str(documents), "--apps") as up:
        address = await up.address()
        folder = folder_of(up.process.pid)
        assert folder is not None
        shutil.rmtree(folder)
        (documents / "policy.yaml").write_text(policy("foo", "STRICT", app="finance"))
        await plaintext_is(False, address, 8080)
        await up.says("another program has removed it", on=up.err)
        await up.says("it is there again, with its sockets")
        await eventually(lambda: folder_of(up.process.pid) is not None)
        # A proxy that begins anew finds all that it needs there.
        for envoy in envoys_below(up.process.pid):
            os.kill(envoy, signal.SIGKILL)
        await up.says("the Envoy of foo/finance runs again")
        (documents / "policy.yaml").write_text(policy("foo", "STRICT", app="finance", ports={8080: "PERMISSIVE"}))
        await plaintext_is(True, address, 8080)
        assert not await answered(address, 9000)
        assert len([line for line in up.err if "has removed it" in line]) == 1


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
async def test_a_full_disk_is_said_and_what_it_held_up_is_done_when_there_is_room(
    small_disk: Path, documents: Path
) -> None:
    """Under the run's folder, its logs, and the state folder."""
    sockets = small_disk / "peerauth"
    async with peerauth_up(small_disk / "state", str(documents), "--apps", sockets=sockets) as up:
        address = await up.address()
        fillers = fill(small_disk)
        (documents / "policy.yaml").write_text(policy("foo", "STRICT", app="finance"))
        await plaintext_is(False, address, 8080)
        (documents / "late.yaml").write_text(WORKLOAD)
        await up.says("No space left on device", on=up.err)
        await up.says("foo/late  (new) -> ")
        assert not await answered(address, 8080)
        shutil.rmtree(fillers)
        await up.says("what this machine could not do of the documents is done")
        await eventually(lambda: any(each.key.name == "late" for each in up.running().workloads))
        assert not await answered(address, 8080)
        assert "Traceback" not in "".join(up.err)
        up.process.send_signal(signal.SIGINT)
        assert await up.ends() == 0


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
@pytest.mark.parametrize("what", ["state", "sockets"])
async def test_a_disk_that_is_full_at_the_start_is_an_error_and_no_traceback(
    small_disk: Path, tmp_path: Path, documents: Path, what: str
) -> None:
    fill(small_disk)
    state, sockets = tmp_path / "state", tmp_path / "run" / "peerauth"
    sockets.parent.mkdir()
    if what == "state":
        state = small_disk / "state"
    else:
        sockets = small_disk / "peerauth"
    async with peerauth_up(state, str(documents), "--apps", sockets=sockets) as up:
        assert await up.ends() == 2
    assert "No space left on device" in "".join(up.err)
    assert "Traceback" not in "".join(up.err)
