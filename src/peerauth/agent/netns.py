"""A network namespace per workload, joined by a bridge that lives in a namespace of its own.

Nothing is added to the host's network: no link, no route, no rule. Every address is on the link (host addresses and a
default route through the link), so that any address that a document gives a workload works. Namespaces are named
`peerauth-<instance>-<workload>`; `leftovers` says who owns them. A namespace is captured before its link comes up, so
no packet reaches an application past the proxy. Needs root and iproute2.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import hashlib
import ipaddress
import os
import re
import secrets
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import msgspec

from peerauth.agent import leftovers, redirect
from peerauth.agent.commands import require_support, run_tool, unsupported
from peerauth.agent.launch import CLONE_NEWNET
from peerauth.errors import PlatformError

__all__ = ["MeshNetwork", "WorkloadNamespace", "socket_in", "sockets_of", "unsupported"]

POOL_V4 = ipaddress.IPv4Network("10.250.0.0/16")
POOL_V6 = ipaddress.IPv6Network("fd70:6565:7261::/64")
LINK_UP_SECONDS = 5.0
SIOCGIFFLAGS = 0x8913
IFF_RUNNING = 0x40
_NAME_LIMIT = 200  # of a file name's 255
_WORKLOAD = re.compile(r"[a-z0-9]([a-z0-9./-]*[a-z0-9])?")


class WorkloadNamespace(msgspec.Struct, frozen=True):
    """A workload's network: the namespace's name (`ip netns exec NAME`), its path, and its addresses (v4, v6)."""

    name: str
    path: str
    addresses: tuple[str, ...]


class MeshNetwork:
    """The namespaces of one running instance: an async context manager; leaving it removes everything."""

    def __init__(self, *, instance: str = "") -> None:
        self._instance = instance or secrets.token_hex(4)
        if not leftovers.INSTANCE.fullmatch(self._instance):
            raise ValueError(f"not an instance's name: {instance!r}")
        self._lock: leftovers.InstanceLock | None = None
        self._links = 0
        self._link_of: dict[str, str] = {}
        self._free_v4: Iterator[ipaddress.IPv4Address] = POOL_V4.hosts()
        self._free_v6: Iterator[ipaddress.IPv6Address] = POOL_V6.hosts()
        self._taken: set[str] = set()
        self.removed: tuple[str, ...] = ()
        """The namespaces of dead instances that were removed on the way in."""

    @property
    def instance(self) -> str:
        """The part of the names that tells this instance's namespaces from another's."""
        return self._instance

    @property
    def _hub(self) -> str:
        return f"{leftovers.PREFIX}-{self._instance}"

    async def __aenter__(self) -> Self:
        """Remove leftovers of dead instances, take the lock, make the hub. Raises PlatformError."""
        require_support()
        await self._sweep()
        self._lock = leftovers.take(self._instance)
        if self._lock is None:
            raise PlatformError(f"another process runs as instance {self._instance}", hint="choose another name")
        try:
            await run_tool("ip", "netns", "add", self._hub)
            bridge = "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set br0 up\n"
            await run_tool("ip", "-n", self._hub, "-batch", "-", text=bridge)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def add(self, workload: str, *, addresses: Sequence[str] = (), capture: bool = True) -> WorkloadNamespace:
        """Make a namespace with these addresses (without any: one of each family is chosen), captured unless told
        otherwise (a client outside the mesh).

        `workload` is `namespace/name`. Raises PlatformError, also for an address that is in use; what was made is
        removed again.
        """
        name = self._name_of(workload)
        self._links += 1
        link = self._link_of[name] = f"w{self._links}"
        chosen = self._claim(addresses)
        made = WorkloadNamespace(name=name, path=str(leftovers.NETNS_FOLDER / name), addresses=chosen)
        try:
            await run_tool("ip", "netns", "add", name)
            await self._connect(made, link, capture)
        except BaseException:
            await self.remove(made)
            raise
        return made

    async def remove(self, namespace: WorkloadNamespace) -> None:
        """Remove a namespace; processes in it lose their link. One that is not there is fine."""
        self._taken.difference_update(namespace.addresses)
        if link := self._link_of.pop(namespace.name, ""):
            # A namespace lives on without its name while anyone has a socket in it: its addresses must not.
            with contextlib.suppress(PlatformError):  # gone with the namespace
                await run_tool("ip", "-n", self._hub, "link", "delete", link)
        if namespace.name in leftovers.namespaces_of(self._instance):
            await run_tool("ip", "netns", "delete", namespace.name)

    async def _connect(self, made: WorkloadNamespace, link: str, capture: bool) -> None:
        wire = f"link add {link} type veth peer name eth0 netns {made.name}\nlink set {link} master br0 up\n"
        await run_tool("ip", "-n", self._hub, "-batch", "-", text=wire)
        if capture:
            await redirect.capture(made.path)
        await run_tool("ip", "-n", made.name, "-batch", "-", text=_addressing(made.addresses))
        await _link_is_up(made)

    def _claim(self, addresses: Sequence[str]) -> tuple[str, ...]:
        chosen = tuple(str(ipaddress.ip_address(address)) for address in addresses) or self._choose()
        if used := self._taken.intersection(chosen):
            raise PlatformError(f"address in use by another workload: {', '.join(sorted(used))}")
        self._taken.update(chosen)
        return chosen

    def _choose(self) -> tuple[str, ...]:
        v4 = next(str(address) for address in self._free_v4 if str(address) not in self._taken)
        if not _has_ipv6():
            return (v4,)
        return v4, next(str(address) for address in self._free_v6 if str(address) not in self._taken)

    def _name_of(self, workload: str) -> str:
        if not _WORKLOAD.fullmatch(workload):
            raise ValueError(f"not a workload's name: {workload!r}")
        readable = workload.replace("/", ".")
        if len(readable) > _NAME_LIMIT:
            readable = f"{readable[:_NAME_LIMIT]}-{hashlib.sha256(workload.encode()).hexdigest()[:12]}"
        return f"{self._hub}-{readable}"

    async def _sweep(self) -> None:
        removed: list[str] = []
        for instance in sorted(leftovers.instances()):
            lock = leftovers.take(instance)
            if lock is None:
                continue  # alive
            try:
                removed += await _delete_all(instance)
            finally:
                lock.release()
        self.removed = tuple(removed)

    async def _close(self) -> None:
        if self._lock is not None:
            lock, self._lock = self._lock, None
            try:
                await _delete_all(self._instance)
            finally:
                lock.release()


async def _delete_all(instance: str) -> list[str]:
    names = leftovers.namespaces_of(instance)
    for name in names:
        try:
            await run_tool("ip", "netns", "delete", name)
        except PlatformError:
            if name in leftovers.namespaces_of(instance):  # otherwise someone was faster
                raise
    return names


def _addressing(addresses: Sequence[str]) -> str:
    """Commands for `ip -batch` inside the namespace; the link comes up after its addresses, the routes last."""
    parsed = [ipaddress.ip_address(address) for address in addresses]
    lines = ["link set lo up"]
    for address in parsed:
        lines.append(
            f"addr add {address}/{address.max_prefixlen} dev eth0" + (" nodad" if address.version == 6 else "")
        )
    lines.append("link set eth0 up")
    lines += sorted({f"route add {'::/0' if address.version == 6 else '0.0.0.0/0'} dev eth0" for address in parsed})
    return "".join(line + "\n" for line in lines)


async def _link_is_up(made: WorkloadNamespace) -> None:
    """The kernel brings carriers up in the background; before that, first packets are lost for a second."""
    try:
        with socket_in(made.path, socket.AF_INET) as asker:
            async with asyncio.timeout(LINK_UP_SECONDS):
                # Netlink would tell; speaking it costs more than asking a few times.
                while not _is_running(asker, b"eth0"):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
    except TimeoutError:
        raise PlatformError(f"the link of {made.name} does not come up") from None


def _is_running(asker: socket.socket, link: bytes) -> bool:
    answer = fcntl.ioctl(asker, SIOCGIFFLAGS, struct.pack("16sH14x", link, 0))
    return bool(struct.unpack("16sH14x", answer)[1] & IFF_RUNNING)


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def socket_in(path: str, family: int) -> socket.socket:
    """A TCP socket that belongs to the namespace at `path`, whichever namespace uses it. Raises PlatformError.

    A socket keeps the namespace it was made in; a thread of its own enters that namespace and ends with the call, so
    no other code ever runs there.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="netns") as pool:
        return pool.submit(_make_socket, path, family).result()


def sockets_of(path: str) -> Callable[[int], socket.socket]:
    """`socket_in` for one namespace, as the probe and the echo application take it."""
    return lambda family: socket_in(path, family)


def _make_socket(path: str, family: int) -> socket.socket:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise PlatformError(f"there is no network namespace at {path}: {error.strerror}") from error
    try:
        if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) != 0:
            raise PlatformError(f"cannot enter the network namespace {path}: {os.strerror(ctypes.get_errno())}")
        return socket.socket(family, socket.SOCK_STREAM)
    finally:
        os.close(fd)
