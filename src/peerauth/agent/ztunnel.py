"""How Istio's ztunnel is started for all workloads of a node: its command line and environment, which is its whole
configuration. No process is touched here.

It stays in the machine's own network and is handed the workloads' namespaces (`agent.zds`). Its admin and statistics
ports are free ones that nobody is told; its readiness port, 15021, is fixed, so that a machine runs one at a time. It
says what it does on its standard output, access log included, one JSON document a line.

Source: wire.md section 5.1.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec

from peerauth.agent import launch
from peerauth.errors import PlatformError

READINESS_PORT = 15021
SHORTEST_LIFETIME = timedelta(minutes=5)
"""Of certificates: ztunnel renews at half of their life, and they are dated two minutes back, so that it would ask for
new ones without a pause where they live for less than those two minutes."""


class ZtunnelLaunch(msgspec.Struct, frozen=True, kw_only=True):
    """How to start one ztunnel in shared mode.

    `control_plane` is `HOST:PORT` of discovery and certificates, whose certificate must have the DNS name `hostname`
    and be of an authority in the PEM file `roots`. `token` is the file that it shows itself by. `agent` is the ZDS
    socket. `is_live` says whether it is at work: only its control plane and its node agent know.
    """

    binary: Path
    node: str
    control_plane: str
    hostname: str
    roots: Path
    token: Path
    agent: Path
    certificate_seconds: int
    log: Path
    is_live: Callable[[], bool]
    name: str = "node proxy"

    @property
    def program(self) -> str:
        """What it is called in errors."""
        return "ztunnel"

    @property
    def logs_to_output(self) -> bool:
        """All it says goes there."""
        return True

    def lost_something(self, line: bytes) -> bool:
        """What it cannot do it refuses."""
        return False

    def environment(self) -> dict[str, str]:
        """All that it is told. Without original sources: those take routes that belong to Istio's CNI."""
        return {
            "PROXY_MODE": "shared",
            "NODE_NAME": self.node,
            "XDS_ADDRESS": f"https://{self.control_plane}",
            "CA_ADDRESS": f"https://{self.control_plane}",
            "XDS_ROOT_CA": str(self.roots),
            "CA_ROOT_CA": str(self.roots),
            "ALT_XDS_HOSTNAME": self.hostname,
            "ALT_CA_HOSTNAME": self.hostname,
            "AUTH_TOKEN": str(self.token),
            "INPOD_UDS": str(self.agent),
            "SECRET_TTL": f"{self.certificate_seconds}s",
            "ENABLE_ORIG_SRC": "false",
            "ISTIO_META_DNS_CAPTURE": "false",
            "PROXY_CONFIG": "{proxyAdminPort: 0, statsPort: 0, proxyMetadata: {}}",
            "LOG_FORMAT": "json",
            "RUST_LOG": "warn,access=info",
        }

    def prepare(self) -> None:
        """Its token and roots are there before it, and it leaves nothing."""

    def wrapped(self, *, parent: int) -> list[str]:
        """The command line, tied to the process `parent`."""
        return launch.wrapped([str(self.binary)], parent=parent, environment=self.environment())

    async def live(self) -> bool:
        """Whether it is at work."""
        return self.is_live()


def require_free_port(port: int = READINESS_PORT) -> None:
    """Raises PlatformError if something listens where ztunnel must, which would end it at its start."""
    both = socket.has_dualstack_ipv6()
    try:
        family = socket.AF_INET6 if both else socket.AF_INET
        socket.create_server(("", port), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        raise PlatformError(
            f"port {port}, which ztunnel takes, cannot be had: {error.strerror}",
            hint="one ztunnel runs on a machine at a time; stop what listens there",
        ) from error
