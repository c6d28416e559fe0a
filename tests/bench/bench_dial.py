"""The first connection to a destination, and later ones: PYTHONPATH=tests python tests/bench/bench_dial.py [--quick]

`peerauth up` in transparent capture, as its user runs it, with real Envoys; clients in the network namespaces of its
workloads, an application (echo.py) in those of its servers. A destination is an address and a port: each server has
many ports, and each is dialled for the first time once. What is timed is a new connection and one byte there and back.
All ways, and all versions of the product, take turns for every port; ratios are of medians.

    --before CHECKOUT          another version of the product, with a .venv, which takes turns too

Needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import echo
from bench.proxies import START_TIMEOUT_S
from bench.versions import Version, versions
from peerauth.agent.commands import run_tool
from peerauth.agent.launch import wrapped
from peerauth.agent.netns import socket_in, unsupported
from rigs.up_process import peerauth_up

FIRST_PORT = 20_000
KNOWN = 4
"""Connections to a destination after the first."""
GOAL = 1.15


class Way(NamedTuple):
    """Who dials whom: names of workloads, as in `documents`."""

    name: str
    client: str
    server: str


WAYS = (
    Way("mutual TLS, between sidecars", "sidecar.client", "sidecar.server"),
    Way("HBONE, a sidecar to the node", "sidecar.client", "ambient.server"),
    Way("HBONE, the node at both ends", "ambient.client", "ambient.server"),
    Way("plaintext, a sidecar to no proxy", "sidecar.client", "bare.server"),
)


class Door(NamedTuple):
    """Where a client of a running mesh dials a server."""

    netns: str
    address: str


class Taken(NamedTuple):
    """Seconds until the byte was back, by way and version: of every first connection, and of every later one."""

    first: list[float]
    known: list[float]


def documents(mark: str, ports: Sequence[int]) -> str:
    """The workloads; the names of their namespaces end in `mark`, so that they are found among those of others."""
    labels = {"sidecar": "istio-injection: enabled", "ambient": "istio.io/dataplane-mode: ambient", "bare": "a: b"}
    parts = [
        f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}-{mark}, labels: {{{label}}}}}}}"
        for name, label in labels.items()
    ]
    declared = ", ".join(f"{{containerPort: {port}}}" for port in ports)
    for workload in sorted({side for way in WAYS for side in (way.client, way.server)}):
        where, _, name = workload.partition(".")
        listens = declared if name == "server" else ""
        parts.append(
            f"{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {where}-{mark}}}, "
            f"spec: {{serviceAccountName: {name}, containers: [{{name: a, image: a, ports: [{listens}]}}]}}}}"
        )
    return "\n---\n".join(parts) + "\n"


async def doors(version: Version, stack: contextlib.AsyncExitStack, *, ports: range, number: int) -> list[Door]:
    """A running mesh of one version: where to dial for each way, once everything listens."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    mark = f"{os.getpid()}-{number}"
    (folder / "mesh.yaml").write_text(documents(mark, ports))
    arguments = (str(folder / "mesh.yaml"), "--capture", "transparent")
    up = await stack.enter_async_context(
        peerauth_up(folder / "state", *arguments, python=version.python, environment=version.environment())
    )
    await up.says("ready; stop with Ctrl-C")
    places = {workload: _namespace(workload, mark) for way in WAYS for workload in (way.client, way.server)}
    for workload, place in places.items():
        if workload.endswith(".server"):
            await _application(place, stack, ports=ports)
    return [Door(str(places[way.client]), await _address(places[way.server])) for way in WAYS]


def _namespace(workload: str, mark: str) -> Path:
    where, _, name = workload.partition(".")
    return next(Path("/run/netns").glob(f"peerauth-*-{where}-{mark}.{name}-pod"))


async def _address(netns: Path) -> str:
    said = await run_tool("ip", "-n", netns.name, "-4", "-o", "addr", "show", "dev", "eth0")
    found = re.search(r"inet ([\d.]+)/", said)
    assert found is not None, said
    return found[1]


async def _application(netns: Path, stack: contextlib.AsyncExitStack, *, ports: range) -> None:
    command = [sys.executable, echo.__file__, str(ports[0]), str(ports[-1])]
    process = await asyncio.create_subprocess_exec(
        *wrapped(command, parent=os.getpid(), netns=str(netns)), stdout=asyncio.subprocess.PIPE
    )
    stack.callback(process.kill)
    assert process.stdout is not None
    assert await process.stdout.readline()


def dial(door: Door, port: int) -> float:
    """Seconds for a new connection and a byte there and back. Blocks, so that no event loop is in what it takes."""
    with socket_in(door.netns, socket.AF_INET) as client:
        client.settimeout(START_TIMEOUT_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.perf_counter()
        client.connect((door.address, port))
        client.sendall(b"x")
        if client.recv(1) != b"x":
            raise SystemExit(f"no answer from {door.address}:{port}")
        return time.perf_counter() - start


def measure(by_version: Sequence[Sequence[Door]], ports: range) -> list[list[Taken]]:
    """By version and way. The first port of each is not counted: it makes what all its destinations share."""
    taken = [[Taken([], []) for _ in WAYS] for _ in by_version]
    for port in ports:
        for way in range(len(WAYS)):
            for doors_of, of_version in zip(by_version, taken, strict=True):
                of_version[way].first.append(dial(doors_of[way], port))
            for _ in range(KNOWN):
                for doors_of, of_version in zip(by_version, taken, strict=True):
                    of_version[way].known.append(dial(doors_of[way], port))
    for of_version in taken:
        for each in of_version:
            del each.first[:1], each.known[:KNOWN]
    return taken


def report(taken: Sequence[Sequence[Taken]]) -> None:
    print(f"{'a connection and a byte back, ms':36}{'first':>8}{'known':>8}{'ratio':>7}", end="")
    print(f"{'before: known':>15}{'ratio':>7}   goal {GOAL}" if len(taken) > 1 else "")
    for at, way in enumerate(WAYS):
        first, known = (median(each) * 1e3 for each in taken[0][at])
        print(f"{way.name:36}{first:8.2f}{known:8.2f}{first / known:7.2f}", end="")
        if len(taken) > 1:
            before = median(taken[1][at].known) * 1e3
            print(f"{before:15.2f}{known / before:7.2f}", end="")
        print()


async def run(of: Sequence[Version], *, destinations: int) -> None:
    ports = range(FIRST_PORT, FIRST_PORT + destinations + 1)
    async with contextlib.AsyncExitStack() as stack:
        by_version = [await doors(each, stack, ports=ports, number=at) for at, each in enumerate(of)]
        report(await asyncio.to_thread(measure, by_version, ports))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="as short as can be: whether it runs, not what it costs")
    parser.add_argument("--before", default="", metavar="CHECKOUT", help="another version of the product")
    options = parser.parse_args()
    if reason := unsupported():
        print(f"no ratio was measured: {reason}")
        return
    asyncio.run(run(versions(options.before), destinations=2 if options.quick else 60))


if __name__ == "__main__":
    main()
