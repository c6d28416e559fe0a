"""Which version of the product a benchmark measures: this one, or that of another checkout that has a `.venv`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

OWN = Path(__file__).parents[2]


class Version(NamedTuple):
    """The checkout of a version, and the interpreter that runs it."""

    checkout: Path = OWN
    python: str = sys.executable

    def __str__(self) -> str:
        return "" if self == THIS else "before"

    def environment(self) -> dict[str, str]:
        """What a process needs so that it imports this version and no other."""
        path = os.pathsep.join(str(self.checkout / folder) for folder in ("tests", "src"))
        return os.environ | {"PYTHONPATH": path}  # noqa: TID251


THIS = Version()


def versions(before: str) -> tuple[Version, ...]:
    """This one, then the checkout at the path `before`, if there is one."""
    checkout = Path(before).resolve()
    return (THIS, Version(checkout, str(checkout / ".venv" / "bin" / "python"))) if before else (THIS,)
