"""Applies and removes the capture rules inside a workload's network namespace, each in one transaction.

The text is `nft`'s business; this is the I/O. Apply before the namespace has a link that is up: then there is no
moment at which a packet reaches the application past the proxy.
"""

from __future__ import annotations

from peerauth.agent import nft
from peerauth.agent.commands import run_tool


async def capture(netns: str) -> None:
    """Put the rules in force in the namespace at the path `netns`, replacing earlier ones. Raises PlatformError."""
    await run_tool("nft", "-f", "-", text=nft.ruleset(), netns=netns)


async def release(netns: str) -> None:
    """Remove the rules. The application is then reachable directly: only for a namespace that is being given up."""
    await run_tool("nft", "-f", "-", text=nft.removal(), netns=netns)
