"""Runs the machine's network tools (`ip`, `nft`), optionally inside a network namespace, and reads their complaints.

Says beforehand what is missing: root or a tool. Every command ends with us and gets none of our environment.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from peerauth.agent import launch
from peerauth.errors import PlatformError

SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"  # root's PATH may lack the sbin folders
PACKAGES = {"ip": "iproute2", "nft": "nftables"}


CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}


def unsupported() -> str:
    """Why transparent capture cannot work here (not root, no capabilities, a missing tool), or an empty string."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if lacking := [name for name, bit in CAPABILITIES.items() if not _effective_capabilities() >> bit & 1]:
        return f"root without the capabilities {', '.join(lacking)} (a container?)"
    missing = [tool for tool in PACKAGES if shutil.which(tool, path=SYSTEM_PATH) is None]
    return f"missing: {', '.join(missing)}" if missing else ""


def require_support() -> None:
    """Raise PlatformError with the next step if `unsupported` has something to say."""
    if reason := unsupported():
        packages = " ".join(PACKAGES.values())
        raise PlatformError(
            f"transparent capture is not possible: {reason}",
            hint=f"run as root with {packages} installed (Debian: apt-get install {packages}), or --capture explicit",
        )


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


async def run_tool(tool: str, *arguments: str, text: str = "", netns: str = "") -> str:
    """Run `tool` with `text` as its standard input, in the namespace at the path `netns` if given; return its output.

    Raises PlatformError with what the tool said.
    """
    path = shutil.which(tool, path=SYSTEM_PATH)
    if path is None:
        raise PlatformError(f"{tool} is not installed", hint=f"install {PACKAGES[tool]}")
    command = [path, *arguments]
    process = await asyncio.create_subprocess_exec(
        *(launch.wrapped(command, parent=os.getpid(), netns=netns) if netns else command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={},
    )
    try:
        out, err = await process.communicate(text.encode())
    except asyncio.CancelledError:
        if process.returncode is None:
            process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        said = (err or out).decode(errors="replace").strip().replace("\n", "; ")
        raise PlatformError(f"{tool} {' '.join(arguments)} failed: {said}", hint="the kernel may lack what it needs")
    return out.decode(errors="replace")
