"""The nftables ruleset that captures a workload's TCP: a pure function to text.

Inbound TCP goes to 15006 (HBONE's 15008 is left alone), outbound TCP to 15001 unless the proxy sent it (packet mark
0x539). UDP and loopback are untouched. A second, independent chain drops whatever TCP arrives for a port that is not
the proxy's: without the redirection a port is closed, not open. The constants are Istio's in-pod ones; its exception
for node-local health probes is left out on purpose, being a plaintext way around STRICT.
"""

from __future__ import annotations

from enum import StrEnum


class Capture(StrEnum):
    """Whose proxy captures: a sidecar also takes its workload's calls to itself back in through 15006."""

    SIDECAR = "sidecar"
    AMBIENT = "ambient"


INBOUND_PORT = 15006
OUTBOUND_PORT = 15001
HBONE_PORT = 15008
PROXY_MARK = 0x539
MARK_MASK = 0xFFF


def ruleset(capture: Capture) -> str:
    """The rules for `nft -f -`, replacing an earlier version of themselves in one transaction."""
    raise NotImplementedError
