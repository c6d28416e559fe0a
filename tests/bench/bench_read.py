"""What reading and validating manifests costs, as a ratio to PyYAML's C loader on the same text in the same run.

`python tests/bench/bench_read.py [--quick] [DOCUMENTS]` prints a table. Both are measured alternately, in processor
time, each time over the same bytes; the median of the ratios counts. The loader it is compared with does less: it has
no positions, finds no duplicate keys and validates nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from peerauth.sources.blockyaml import BlockReader
from peerauth.sources.files import load
from peerauth.sources.text import Chunk, split
from peerauth.sources.yamltree import read_exactly

ROUNDS = 5

POLICY = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: {app}
  namespace: {namespace}
  creationTimestamp: "2024-05-01T12:00:00Z"
spec:
  selector:
    matchLabels:
      app: {app}
      version: v1
  mtls:
    mode: STRICT
  portLevelMtls:
    8080:
      mode: PERMISSIVE
"""
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {app}
  namespace: {namespace}
  labels:
    app: {app}
spec:
  replicas: 2
  selector:
    matchLabels:
      app: {app}
  template:
    metadata:
      labels:
        app: {app}
        version: v1
    spec:
      serviceAccountName: {app}
      containers:
        - name: app
          image: registry.example/team/{app}:1.2.3
          ports:
            - containerPort: 8080
              name: http
            - containerPort: 9090
              name: metrics
          readinessProbe:
            httpGet:
              path: /healthz
              port: 8080
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: {app}
  namespace: {namespace}
spec:
  selector:
    app: {app}
  ports:
    - name: http
      port: 80
      targetPort: 8080
"""
ACCOUNT = """\
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {app}
  namespace: {namespace}
"""
FORMS = (POLICY, DEPLOYMENT, DEPLOYMENT, SERVICE, ACCOUNT)


def manifest(documents: int) -> str:
    """A stream of policies, workloads, Services and accounts: 40 % Deployments, 20 % of each other kind."""
    return "---\n".join(
        FORMS[number % len(FORMS)].format(app=f"app-{number // len(FORMS)}", namespace=f"team-{number % 200}")
        for number in range(documents)
    )


def as_list(text: str) -> str:
    """The same documents as one list in block form."""
    items = "".join(f"- {one.rstrip().replace(chr(10), chr(10) + '  ')}\n" for one in text.split("---\n"))
    return f"apiVersion: v1\nitems:\n{items}kind: List\n"


def as_json(text: str) -> str:
    """The same documents as one list of JSON."""
    return json.dumps(
        {"apiVersion": "v1", "items": list(yaml.load_all(text, yaml.CSafeLoader)), "kind": "List"}, indent=4
    )


def measure(documents: int, *, folder: str) -> Iterator[tuple[str, float, float]]:
    """Name, microseconds a document and ratio to PyYAML's C loader, for each way of reading."""
    text = manifest(documents)
    written = {"stream": text, "list": as_list(text), "json": as_json(text)}
    paths = {form: Path(folder) / f"{form}.yaml" for form in written}
    for form, path in paths.items():
        path.write_text(written[form])
    ways: dict[str, Callable[[], object]] = {
        "PyYAML CSafeLoader, load_all": lambda: list(yaml.load_all(text, yaml.CSafeLoader)),
        "peerauth, read and validated": lambda: load([str(paths["stream"])]),
        "  as one list": lambda: load([str(paths["list"])]),
        "  as one list of JSON": lambda: load([str(paths["json"])]),
        "  the fast reader alone": lambda: _read_fast(text),
        "  the exact reader alone": lambda: _read_exactly(text),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            taken[name].append(_seconds(way))
    base = next(iter(taken.values()))
    for name, seconds in taken.items():
        ratio = statistics.median(one / of for one, of in zip(seconds, base, strict=True))
        yield name, statistics.median(seconds) / documents * 1e6, ratio


def _read_fast(text: str) -> None:
    reader = BlockReader()
    for chunk in split(text, file="bench.yaml"):
        if not isinstance(chunk, Chunk) or reader.read(chunk) is None:
            raise AssertionError("the fast reader left a document to the exact one")


def _read_exactly(text: str) -> None:
    for chunk in split(text, file="bench.yaml"):
        if isinstance(chunk, Chunk):
            read_exactly(chunk)


def _seconds(way: Callable[[], object]) -> float:
    gc.collect()
    start = time.process_time()
    result = way()
    taken = time.process_time() - start
    del result
    return taken


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="as short as can be: whether it runs, not what it costs")
    parser.add_argument("documents", nargs="?", type=int, default=10_000)
    options = parser.parse_args()
    documents = 50 if options.quick else options.documents
    print(f"{documents} documents, {len(manifest(documents)) / documents:.0f} characters each")
    with tempfile.TemporaryDirectory() as folder:
        for name, micros, ratio in measure(documents, folder=folder):
            print(f"{name:32} {micros:8.1f} us/document {ratio:8.3f}")


if __name__ == "__main__":
    main()
