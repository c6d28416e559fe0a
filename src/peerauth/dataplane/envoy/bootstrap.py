"""What an Envoy is started with: who it is, where its control plane and its certificates are."""

from __future__ import annotations

import msgspec

ENVOY_ARGUMENTS = ("--drain-time-s", "3", "--drain-strategy", "immediate", "--disable-hot-restart")
"""How a sidecar's Envoy must be run: connections that a change forbids end within `--drain-time-s`."""


class Sockets(msgspec.Struct, frozen=True):
    """Paths of the Unix sockets an Envoy uses: its own admin interface, discovery (ADS) and certificates (SDS).

    At most 107 bytes each: the kernel's limit.
    """

    admin: str
    xds: str
    sds: str


def bootstrap(node_id: str, *, cluster: str, sockets: Sockets, metadata: tuple[tuple[str, str], ...] = ()) -> str:
    """The bootstrap as JSON, for `envoy --config-path FILE.json`. It opens no port before the control plane answers.

    `metadata` becomes the node's metadata that the control plane sees (`NAMESPACE`, `NAME`, ...).
    """
    raise NotImplementedError
