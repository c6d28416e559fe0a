"""What the environment and the command line set: where state is kept and where sockets lie.

The only module that reads the environment. A `Settings` is a value; reading happens in `from_environment`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec


class Settings(msgspec.Struct, frozen=True):
    """`state` outlives a run (the authority's keys); `sockets` holds the folders of runs in progress.

    Paths of Unix sockets may have at most 107 bytes, so `sockets` is kept short and apart from `state`.
    """

    state: Path
    sockets: Path


def from_environment(*, state: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings by the XDG base directory specification; `state`, from the command line, wins over the environment."""
    variables = os.environ if environment is None else environment  # noqa: TID251  (this is the one place)
    home = Path(variables.get("HOME") or "/nonexistent")
    state_home = Path(variables.get("XDG_STATE_HOME") or home / ".local" / "state")
    runtime = variables.get("XDG_RUNTIME_DIR")
    sockets = Path(runtime) / "peerauth" if runtime else Path(f"/tmp/peerauth-{os.getuid()}")  # noqa: S108  (made 0700, owner checked)
    return Settings(state=state or state_home / "peerauth", sockets=sockets)
