"""What a running `peerauth up` tells other processes of the same user: what it runs, and where.

A file in the run's private folder (0700), mode 0600, gone with the run. `peerauth probe` in a second terminal reads it.
There are no keys in it: who may read the authority's folder makes its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from peerauth.local.mesh import LocalMesh
from peerauth.model.inventory import WorkloadKey

FILE = "mesh.json"


class RunningWorkload(msgspec.Struct, frozen=True):
    """One workload that a proxy serves: its addresses and declared ports."""

    key: WorkloadKey
    addresses: tuple[str, ...]
    ports: tuple[int, ...]


class RunningMesh(msgspec.Struct, frozen=True):
    """One run. `paths` are absolute; `outside` is the network namespace to dial from, empty for this one.

    `authority` is the folder of the authority whose certificates its proxies trust.
    """

    pid: int
    capture: str
    paths: tuple[str, ...]
    trust_domain: str
    authority: str
    outside: str
    workloads: tuple[RunningWorkload, ...]


def describe(mesh: LocalMesh, *, paths: tuple[str, ...], authority: Path) -> RunningMesh:
    """What there is to tell of a mesh now."""
    return RunningMesh(
        pid=os.getpid(),
        capture=mesh.network.capture.value,
        paths=tuple(str(Path(path).resolve()) for path in paths),
        trust_domain=mesh.authority.trust_domain,
        authority=str(authority.resolve()),
        outside=mesh.network.outside_namespace,
        workloads=tuple(RunningWorkload(each.key, each.addresses, each.declared) for each in mesh.view.served()),
    )


def publish(running: RunningMesh, *, folder: Path) -> None:
    """Writes the file in one step, unless it says that already: a reader sees the old or the new. Raises OSError."""
    said = msgspec.json.encode(running)
    with contextlib.suppress(OSError):
        if (folder / FILE).read_bytes() == said:
            return
    unfinished = folder / f".{FILE}"
    unfinished.touch(mode=0o600)
    unfinished.write_bytes(said)
    unfinished.replace(folder / FILE)


def find(sockets: Path) -> Iterator[RunningMesh]:
    """The runs in progress of this user, lowest number first. One that ends meanwhile is passed over."""
    for lock in sorted(sockets.glob("*.lock"), key=lambda path: int(path.stem)):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            if _is_held(lock):
                yield msgspec.json.decode((sockets / lock.stem / FILE).read_bytes(), type=RunningMesh)


def _is_held(lock: Path) -> bool:
    handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
