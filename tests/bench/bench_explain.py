"""Reading, resolving and explaining N documents, against PyYAML's C loader reading the same text.

    python tests/bench/bench_explain.py [--quick] [N]

Prints ratios of processor time taken in one run, and the memory that each command held at most. A ratio below 1 is
faster than parsing the YAML alone. Twice: N documents of 310 bytes, the hardest case, for a document costs what it
means and not what it weighs; and a fifth of N as they are found in clusters, with what no policy looks at, 1 KB each.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import yaml

from peerauth.cli.main import cli

GOALS = (0.35, 0.15)
NAMESPACES = 100


def write_documents(path: Path, number: int) -> None:
    """A mesh of `number` documents: of twenty, ten are Pods, five Services, four policies, one something else."""
    with path.open("w") as out:
        for namespace in range(NAMESPACES):
            out.write(_NAMESPACE.format(ns=namespace))
        for at in range(number - NAMESPACES):
            out.write(_TEMPLATES[at % len(_TEMPLATES)].format(ns=at // 20 % NAMESPACES, n=at, app=at // 20))


def write_realistic(path: Path, number: int) -> None:
    """A mesh of `number` documents: of twenty, twelve are Pods, three Deployments, two Services, one a policy."""
    text = Path(__file__).with_name("realistic.yaml.template").read_text()
    pod, deployment, service, policy, other = (f"---\n{form}" for form in text.split("---\n")[1:])
    forms = [pod] * 12 + [deployment] * 3 + [service] * 2 + [other] * 2 + [policy]
    with path.open("w") as out:
        for namespace in range(NAMESPACES):
            out.write(_NAMESPACE.format(ns=namespace))
        for at in range(number - NAMESPACES):
            a, b, c = at >> 16 & 255, at >> 8 & 255, at & 255
            out.write(forms[at % 20].format(ns=at // 20 % NAMESPACES, n=at, app=at // 20, a=a, b=b, c=c))


_NAMESPACE = (
    "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: ns{ns}\n  labels:\n    istio-injection: enabled\n"
)
_POD = """---
apiVersion: v1
kind: Pod
metadata:
  name: pod{n}
  namespace: ns{ns}
  labels:
    app: app{app}
    version: v1
    pod-template-hash: h{n}
spec:
  serviceAccountName: app{app}
  containers:
    - name: app
      image: example/app:1.0
      ports:
        - containerPort: 8080
          name: http
        - containerPort: 9090
          name: metrics
      resources:
        limits:
          cpu: 100m
          memory: 128Mi
"""
_SERVICE = """---
apiVersion: v1
kind: Service
metadata:
  name: svc{n}
  namespace: ns{ns}
spec:
  selector:
    app: app{app}
  ports:
    - name: http
      port: 80
      targetPort: http
"""
_POLICY = """---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: policy{n}
  namespace: ns{ns}
spec:
  selector:
    matchLabels:
      app: app{app}
  mtls:
    mode: STRICT
  portLevelMtls:
    9090:
      mode: PERMISSIVE
"""
_SECRET = "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: s{n}\n  namespace: ns{ns}\ndata:\n  a: YQ==\n"
_TEMPLATES = [_POD, _SERVICE, _POD, _POLICY] * 4 + [_POD, _POD, _SERVICE, _SECRET]


def load_with_c_loader(path: Path) -> None:
    with path.open() as stream:
        for _ in yaml.load_all(stream, yaml.CSafeLoader):
            pass


def run(*arguments: str) -> None:
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        try:
            cli(list(arguments), prog_name="peerauth")
        except SystemExit as ended:
            if ended.code not in (0, 1):
                raise


def measured(work: Callable[[], None]) -> tuple[float, int]:
    """Processor seconds and the most memory in MiB, of `work` in a process of its own."""
    process = os.fork()
    if process == 0:
        work()
        os._exit(0)
    _, status, used = os.wait4(process, 0)
    if status:
        raise SystemExit("the measured work failed")
    return used.ru_utime + used.ru_stime, used.ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="as short as can be: whether it runs, not what it costs")
    parser.add_argument("number", nargs="?", type=int, default=100_000)
    options = parser.parse_args()
    number = 2 * NAMESPACES if options.quick else options.number
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mesh.yaml"
        kinds = ((write_documents, number), (write_realistic, max(number // 5, 2 * NAMESPACES)))
        for (write, count), goal in zip(kinds, GOALS, strict=True):
            write(path, count)
            print(f"{count:,} documents, {path.stat().st_size / count:.0f} bytes each")
            compare(path, goal=goal)


def compare(path: Path, *, goal: float) -> None:
    """Prints the table for one file."""
    base, _ = measured(lambda: load_with_c_loader(path))
    print(f"{'yaml.CSafeLoader':32} {base:7.2f} s  ratio 1.00")
    for arguments in (("explain",), ("explain", "-o", "json"), ("check",), ("check", "-o", "json")):
        command = (*arguments, "-f", str(path))
        seconds, memory = measured(partial(run, *command))
        print(f"{' '.join(arguments):32} {seconds:7.2f} s  ratio {seconds / base:4.2f} (goal {goal}), {memory} MiB")


if __name__ == "__main__":
    main()
