"""Generates the Python modules and type stubs of `src/peerauth/proto/` from its .proto files.

What it writes is committed, so that installing the project needs no compiler; a test holds the committed files to it.
With `--check` nothing is written and the exit code says whether the files are up to date.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

SOURCES = Path(__file__).resolve().parent.parent / "src"
PROTOS = SOURCES / "peerauth" / "proto"


def generate(target: Path) -> None:
    """Writes the modules and stubs of every .proto file below `target`, as `peerauth/proto/NAME_pb2.py[i]`."""
    well_known = resources.files("grpc_tools") / "_proto"
    plugin = Path(sys.executable).parent / "protoc-gen-mypy"
    arguments = [
        "protoc",
        f"--plugin=protoc-gen-mypy={plugin}",
        f"--proto_path={SOURCES}",
        f"--proto_path={well_known}",
        f"--python_out={target}",
        f"--mypy_out={target}",
        *(str(path) for path in sorted(PROTOS.glob("*.proto"))),
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc refused the .proto files")


def outdated() -> list[str]:
    """The names of generated files that are not what the .proto files give."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = {path.name: path.read_bytes() for path in (Path(folder) / "peerauth" / "proto").iterdir()}
    present = {path.name: path.read_bytes() for path in PROTOS.glob("*_pb2.py*")}
    return sorted(name for name in fresh.keys() | present.keys() if fresh.get(name) != present.get(name))


def main(arguments: list[str]) -> int:
    """Generates, or with `--check` compares; returns the exit code."""
    if arguments == ["--check"]:
        names = outdated()
        print("\n".join(f"{name} is not what the .proto files give" for name in names) or "up to date")
        return 1 if names else 0
    generate(SOURCES)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
