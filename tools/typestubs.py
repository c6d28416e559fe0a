"""Writes type stubs for the Envoy messages that xds-protos ships without them.

xds-protos carries generated modules only, no .proto sources, so protoc cannot be asked; the descriptors inside the
modules are enough for mypy-protobuf's plug-in. The stubs go to `.typings/`, where mypy looks first, and are written
again only when the version of one of the two packages changes.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2

TARGET = Path(__file__).resolve().parent.parent / ".typings"
PACKAGES = ("envoy/", "xds/", "udpa/", "validate/", "google/rpc/", "google/api/", "opentelemetry/", "cel/")


def main() -> int:
    """Writes the stubs if they are missing or older than the packages; returns the exit code."""
    version = f"xds-protos {metadata.version('xds-protos')} mypy-protobuf {metadata.version('mypy-protobuf')}"
    stamp = TARGET / "version"
    if stamp.exists() and stamp.read_text() == version:
        return 0
    response = plugin_pb2.CodeGeneratorResponse.FromString(_run_plugin(_request()))
    if response.error:
        print(response.error, file=sys.stderr)
        return 1
    shutil.rmtree(TARGET, ignore_errors=True)
    for file in response.file:
        path = TARGET / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.content)
        for folder in path.relative_to(TARGET).parents:
            # `google` stays a namespace package: its protobuf half is typed elsewhere.
            if folder != Path() and folder != Path("google"):
                (TARGET / folder / "__init__.pyi").touch()
    stamp.write_text(version)
    print(f"wrote {len(response.file)} stubs to {TARGET.name}/")
    return 0


def _request() -> plugin_pb2.CodeGeneratorRequest:
    request = plugin_pb2.CodeGeneratorRequest()
    seen: set[str] = set()
    for file in metadata.files("xds-protos") or ():
        name = str(file)
        if name.endswith("_pb2.py") and name.startswith(PACKAGES) and "/v2" not in name:
            module = importlib.import_module(name[:-3].replace("/", "."))
            _add(request, module.DESCRIPTOR, seen)
            request.file_to_generate.append(module.DESCRIPTOR.name)
    return request


def _add(request: plugin_pb2.CodeGeneratorRequest, descriptor: object, seen: set[str]) -> None:
    """Adds a file after the files it depends on, as protoc promises its plug-ins."""
    name: str = descriptor.name  # type: ignore[attr-defined]
    if name in seen:
        return
    seen.add(name)
    for dependency in descriptor.dependencies:  # type: ignore[attr-defined]
        _add(request, dependency, seen)
    request.proto_file.append(descriptor_pb2.FileDescriptorProto.FromString(descriptor.serialized_pb))  # type: ignore[attr-defined]


def _run_plugin(request: plugin_pb2.CodeGeneratorRequest) -> bytes:
    plugin = Path(sys.executable).parent / "protoc-gen-mypy"
    return subprocess.run([plugin], input=request.SerializeToString(), capture_output=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
