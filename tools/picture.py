"""Draws docs/up.svg: what `make up` prints on a terminal, in its colours. Run it after the output has changed.

The command runs on a pseudo-terminal, as for a person; its standard error (progress) is left out.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "up.svg"
COMMAND = ("up", "examples/finance", "--apps", "--once")
WIDTH = 116


def main() -> int:
    """Writes the picture; returns the exit code of the command."""
    with tempfile.TemporaryDirectory() as state:
        said, code = _on_terminal([str(Path(sys.executable).parent / "peerauth"), *COMMAND, "--state", state])
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ make up", style="bold"))
    console.print(Text.from_ansi(said))
    TARGET.write_text(_without_downloads(console.export_svg(title="make up", unique_id="up")))
    print(f"wrote {TARGET.relative_to(ROOT)}")
    return code


def _on_terminal(command: list[str]) -> tuple[str, int]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": str(WIDTH)},  # noqa: TID251
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        said += chunk
    return said.decode().replace("\r\n", "\n"), process.wait()


def _without_downloads(svg: str) -> str:
    """The picture must not make its readers' browsers fetch fonts from anyone."""
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code", "monospace")


if __name__ == "__main__":
    sys.exit(main())
