"""Everyone who may dial a workload, what each must meet under each mode, and applications that saw who came.

A client is one of the probe's kinds, or HBONE with something wrong about it, or someone who sends from the address of
another workload. What must happen is written down client by client, and never asked of the code under test.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from peerauth.agent.commands import run_tool
from peerauth.agent.echo import TLS_MARKER, listen_tcp
from peerauth.model.inventory import WorkloadKey
from peerauth.model.placement import Capture
from peerauth.policy.reception import ClientKind
from peerauth.probe import Attempt, ProbeTarget, SocketFactory, attempt
from rigs.mesh_on_this_machine import CLIENT, FINANCE, WEB, Ledger, Machine, application
from samples.levels import APP, IN, NO, SEEN, UNDECLARED, D, P, Ports, S

Arrival = tuple[WorkloadKey, int, bool, str]
"""Where a connection reached an application (workload, port, whether by IPv6), and how it began."""
VICTIM = CLIENT
"""The workload whose address others send from."""

Table = Mapping[str, Mapping[str, str]]
"""What must become of whom, by client and mode."""

SIDECAR: Table = {
    "plaintext": {S: NO, P: IN, D: IN},
    "tls": {S: NO, P: APP, D: APP},
    "istio-alpn-no-cert": {S: NO, P: NO, D: APP},
    "mtls": {S: IN, P: IN, D: APP},
    "mtls-no-alpn": {S: IN, P: APP, D: APP},
    "other-ca": {S: NO, P: NO, D: APP},
    "other-domain": {S: NO, P: NO, D: APP},
    "hbone": {S: IN, P: IN, D: IN},
    "hbone-no-cert": {S: NO, P: NO, D: NO},
    "hbone-other-ca": {S: NO, P: NO, D: NO},
    "hbone-other-domain": {S: NO, P: NO, D: NO},
    "hbone to another workload's address": {S: NO, P: NO, D: NO},
    "hbone to the loopback": {S: NO, P: NO, D: NO},
    "hbone to a name": {S: NO, P: NO, D: NO},
    "plaintext from another workload's address": {S: NO, P: IN, D: IN},
    "hbone-no-cert from another workload's address": {S: NO, P: NO, D: NO},
    "hbone from another workload's address": {S: IN, P: IN, D: IN},  # as whom its certificate names
}
AMBIENT: Table = {
    "plaintext": {S: NO, P: IN, D: IN},
    "tls": {S: NO, P: APP, D: APP},
    "istio-alpn-no-cert": {S: NO, P: APP, D: APP},
    "mtls": {S: NO, P: APP, D: APP},  # the mesh's certificate counts in HBONE only
    "mtls-no-alpn": {S: NO, P: APP, D: APP},
    "other-ca": {S: NO, P: APP, D: APP},
    "other-domain": {S: NO, P: APP, D: APP},
    "hbone": {S: IN, P: IN, D: IN},
    "hbone-no-cert": {S: NO, P: NO, D: NO},
    "hbone-other-ca": {S: NO, P: NO, D: NO},
    "hbone-other-domain": {S: NO, P: NO, D: NO},
    "hbone to another workload's address": {S: NO, P: NO, D: NO},
    "hbone to the loopback": {S: NO, P: NO, D: NO},
    "hbone to a name": {S: NO, P: NO, D: NO},
    "plaintext from another workload's address": {S: NO, P: IN, D: IN},
    "hbone-no-cert from another workload's address": {S: NO, P: NO, D: NO},
    "hbone from another workload's address": {S: IN, P: IN, D: IN},
}
"""There is no DISABLE in ambient mode: such a port takes plaintext as well as HBONE."""


class Elsewhere(ProbeTarget, frozen=True):
    """A target whose tunnels are asked to lead somewhere else."""

    to: str = ""

    @property
    def authority(self) -> str:
        return self.to


class Client(msgspec.Struct, frozen=True):
    """Who dials: as what, where HBONE asks to go, and from where."""

    kind: ClientKind
    asks_for: Callable[[Machine, WorkloadKey, int, bool], str] | None = None
    at_the_victim_s_address: bool = False


def _another_workload(running: Machine, key: WorkloadKey, port: int, ipv6: bool) -> str:
    other = running.at(WEB if key == FINANCE else FINANCE, ipv6=ipv6)
    return ProbeTarget(other, 8080).authority


def _loopback(running: Machine, key: WorkloadKey, port: int, ipv6: bool) -> str:
    own = running.mesh.placement(key).application
    return ProbeTarget(own or ("::1" if ipv6 else "127.0.0.1"), port).authority


CLIENTS: Mapping[str, Client] = {kind.value: Client(kind) for kind in ClientKind} | {
    "hbone to another workload's address": Client(ClientKind.HBONE, asks_for=_another_workload),
    "hbone to the loopback": Client(ClientKind.HBONE, asks_for=_loopback),
    "hbone to a name": Client(ClientKind.HBONE, asks_for=lambda _running, _key, port, _ipv6: f"localhost:{port}"),
    "plaintext from another workload's address": Client(ClientKind.PLAINTEXT, at_the_victim_s_address=True),
    "hbone-no-cert from another workload's address": Client(ClientKind.HBONE_NO_CERT, at_the_victim_s_address=True),
    "hbone from another workload's address": Client(ClientKind.HBONE, at_the_victim_s_address=True),
}


class Witness(Ledger):
    """A workload's application: answers as the probe understands it, and notes who came."""

    def __init__(self, key: WorkloadKey, came: Counter[Arrival]) -> None:
        super().__init__()
        self._key, self._came = key, came

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address, port = writer.get_extra_info("sockname")[:2]
        with contextlib.suppress(OSError):
            said = await reader.read(1 << 16)
            self._came[self._key, port, ":" in address, _how(said)] += 1
            writer.write(self._answer(said, port))
            writer.write_eof()
            while await reader.read(1 << 16):  # a reset would take the answer with it
                pass
        writer.close()

    def _answer(self, said: bytes, port: int) -> bytes:
        if _how(said) == APP:
            return TLS_MARKER + b"\n"
        return b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps({"workload": str(self._key), "port": port}).encode()


def _how(said: bytes) -> str:
    if said.startswith(b"\x16\x03"):
        return APP
    return IN if said else "came without a byte"


@contextlib.asynccontextmanager
async def witnesses(running: Machine, ports: Iterable[tuple[WorkloadKey, int]]) -> AsyncIterator[Counter[Arrival]]:
    """Applications behind ports, at the workloads' addresses and on their loopbacks, and who came to them so far."""
    came: Counter[Arrival] = Counter()
    async with contextlib.AsyncExitStack() as stack:
        for key, port in ports:
            place = running.mesh.placement(key)
            at = (*place.addresses, "127.0.0.1", "::1") if _redirected(running) else (place.application,)
            for address in at:
                listener = listen_tcp(address, port, sockets=running.network.sockets(key))
                await stack.enter_async_context(application(listener, Witness(key, came)))
        yield came


async def take_address(running: Machine, victim: WorkloadKey, *, before: Iterable[WorkloadKey]) -> None:
    """Lets the client outside the mesh send from a workload's address, and leads what others answer back to it.

    As one who has won the race for the address on the wire; without namespaces anyone can bind it.
    """
    if not _redirected(running):
        return
    outside = Path(running.network.outside_namespace).name
    link = json.loads(await run_tool("ip", "-n", outside, "-json", "link", "show", "dev", "eth0"))[0]["address"]
    addresses = running.mesh.placement(victim).addresses
    # Deprecated: no socket gets it that does not ask for it.
    how = "dev eth0 nodad valid_lft forever preferred_lft 0"
    taken = "".join(f"addr replace {each}/{128 if ':' in each else 32} {how}\n" for each in addresses)
    await run_tool("ip", "-n", outside, "-batch", "-", text=taken)
    led = "".join(f"neigh replace {address} lladdr {link} dev eth0\n" for address in addresses)
    for key in before:
        await run_tool("ip", "-n", Path(running.mesh.placement(key).network_namespace).name, "-batch", "-", text=led)


def bound_to(address: str, sockets: SocketFactory) -> SocketFactory:
    """Sockets that send from an address."""

    def make(family: int) -> socket.socket:
        made = sockets(family)
        try:
            made.bind((address, 0))
        except OSError:
            made.close()
            raise
        return made

    return make


async def differences(running: Machine, wanted: Ports, table: Table) -> list[str]:
    """Every client that did not meet what it had to, and every application that did not see just whom it had to."""
    covered = {at: mode for at, mode in wanted.items() if at[1] != UNDECLARED or _redirected(running)}
    await take_address(running, VICTIM, before={key for key, _ in covered})
    async with witnesses(running, covered) as came:
        found = await asyncio.gather(
            *(
                _difference(running, name, at=at, ipv6=ipv6, meant=meant[mode])
                for at, mode in covered.items()
                for ipv6 in _families(running)
                for name, meant in table.items()
            )
        )
    expected = Counter(
        (*at, ipv6, meant[mode])
        for at, mode in covered.items()
        for ipv6 in _families(running)
        for meant in table.values()
        if meant[mode] != NO
    )
    missed = [said for said in found if said]
    if came != expected:
        missed.append(f"the applications saw {came - expected} too many, and {expected - came} are missing")
    return missed


def _redirected(running: Machine) -> bool:
    return running.network.capture is Capture.TRANSPARENT


def _families(running: Machine) -> tuple[bool, ...]:
    """Whether clients dial by IPv6; without namespaces, workloads have loopback addresses of IPv4 alone."""
    return (False, True) if _redirected(running) else (False,)


async def _difference(running: Machine, name: str, *, at: tuple[WorkloadKey, int], ipv6: bool, meant: str) -> str:
    key, port = at
    made = await _attempt(running, CLIENTS[name], key=key, port=port, ipv6=ipv6)
    seen = SEEN.get(made.outcome, made.outcome.value)
    where = f"{key}:{port} by IPv{6 if ipv6 else 4}"
    return "" if seen == meant else f"{name} to {where}: {seen} ({made.evidence}), must be: {meant}"


async def _attempt(running: Machine, client: Client, *, key: WorkloadKey, port: int, ipv6: bool) -> Attempt:
    address = running.at(key, ipv6=ipv6)
    target = ProbeTarget(address, port)
    if client.asks_for is not None:
        target = Elsewhere(address, port, to=client.asks_for(running, key, port, ipv6))
    sockets = running.network.outside()
    if client.at_the_victim_s_address:
        sockets = bound_to(running.at(VICTIM, ipv6=ipv6), sockets)
    return await attempt(target, client.kind, running.presented, sockets=sockets, connect_seconds=10, answer_seconds=10)
