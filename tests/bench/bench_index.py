"""The index's two laws, measured side by side in one run: `python tests/bench/bench_index.py [--quick]`.

The change, not the mesh: updates of a fixed reach over meshes of 1,000 to 100,000 workloads; the ratio to the smallest
mesh should stay near 1. Resolving from cold: against one pass that only puts every workload's (namespace, labels)
into a dictionary, which is the least that any resolver must do. Ratios hold for one run on one machine only.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from time import perf_counter

from peerauth.model.changes import MeshObject, Reset, Upsert
from peerauth.model.inventory import Namespace, Workload
from peerauth.model.meta import NO_LABELS, Labels, Meta
from peerauth.model.peerauth import Mode, PeerAuthentication, PortMode
from peerauth.model.world import World
from peerauth.policy.mesh import Mesh
from peerauth.policy.resolve import resolve

SIZES = (1_000, 10_000, 100_000)
PER_NAMESPACE = 100
REPLICAS = 10
ROUNDS = 100


def mesh_of(size: int) -> tuple[MeshObject, ...]:
    """Namespaces of 100 workloads, ten replicas of ten applications, one of which a policy selects."""
    return (*_namespaces(size), *_workloads(size), *_policies(size))


def _namespaces(size: int) -> Iterator[Namespace]:
    injected = frozenset({("istio-injection", "enabled")})
    return (Namespace(Meta(f"ns-{n}", labels=injected)) for n in range(size // PER_NAMESPACE))


def _workloads(size: int) -> Iterator[Workload]:
    for number in range(size):
        namespace, place = divmod(number, PER_NAMESPACE)
        app = place // REPLICAS
        labels = frozenset({("app", f"app-{app}"), ("version", "v1"), ("pod-template-hash", f"{namespace}-{app}")})
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        yield Workload(Meta(f"w-{number}", f"ns-{namespace}", labels=labels), addresses=(address,))


def _policies(size: int) -> Iterator[PeerAuthentication]:
    selector, ports = frozenset({("app", "app-0")}), (PortMode(8080, Mode.DISABLE),)
    for n in range(size // PER_NAMESPACE):
        yield PeerAuthentication(Meta("app-0", f"ns-{n}"), selector=selector, mode=Mode.STRICT, ports=ports)


def seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


class Bed:
    """A loaded mesh, and how long loading its parts took."""

    def __init__(self, size: int) -> None:
        objects = mesh_of(size)
        workloads = [obj for obj in objects if isinstance(obj, Workload)]
        self.objects = objects
        self.mesh = Mesh()
        gc.collect()
        classes: dict[tuple[str, Labels], None] = {}

        def one_pass() -> None:
            for workload in workloads:
                classes[workload.meta.namespace, workload.meta.labels] = None

        self.one_pass = seconds(one_pass)
        self.classes = len(classes)
        self.ledger = seconds(lambda: World().apply(Reset("bench", objects)))
        self.resolve = seconds(lambda: self.mesh.apply(Reset("bench", objects))) - self.ledger

    def flip(self, namespace: str, selector: Labels, rounds: int) -> float:
        """The median time of a change of mode, from the source's word to the list of changed workloads."""

        def say(mode: Mode) -> None:
            policy = PeerAuthentication(Meta("bench", namespace), selector=selector, mode=mode)
            self.mesh.apply(Upsert("bench", policy))

        modes = (Mode.STRICT, Mode.PERMISSIVE)
        return median(seconds(partial(say, modes[n % 2])) for n in range(rounds))

    def scan_one(self) -> float:
        """The median time to resolve one workload by looking at every policy: what an index saves."""
        policies = [obj for obj in self.objects if isinstance(obj, PeerAuthentication)]
        some = [obj for obj in self.objects if isinstance(obj, Workload)][:: len(self.mesh.world.workloads) // 50]
        asked = [partial(resolve, one.meta.labels, one.meta.namespace, policies=policies) for one in some]
        return median(map(seconds, asked))


UPDATES: dict[str, tuple[str, Labels, int]] = {
    "a policy that selects 10 workloads": ("ns-1", frozenset({("app", "app-1")}), ROUNDS),
    "a namespace policy (100 workloads)": ("ns-1", NO_LABELS, ROUNDS),
    "a mesh policy (all workloads)": ("istio-system", NO_LABELS, 6),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="as short as can be: whether it runs, not what it costs")
    beds = {size: Bed(size) for size in (SIZES[:1] if parser.parse_args().quick else SIZES)}
    print(f"{'index update, median':36}{'workloads':>10}{'classes seen':>14}{'us':>10}{'ratio':>8}")
    for name, (namespace, selector, rounds) in UPDATES.items():
        base = 0.0
        for size, bed in beds.items():
            taken = bed.flip(namespace, selector, rounds) * 1e6
            base = base or taken
            print(f"{name:36}{size:>10}{bed.mesh.decisions.visited:>14}{taken:>10.1f}{taken / base:>8.2f}")
    print("\nfrom cold, ms; ratios: resolve / one pass, scan of all policies for each workload / resolve")
    print(f"{'workloads':>10}{'classes':>9}{'one pass':>10}{'ledger':>9}{'resolve':>9}{'/ pass':>8}{'scan /':>8}")
    for size, bed in beds.items():
        scan = bed.scan_one() * size / bed.resolve
        times = f"{bed.one_pass * 1e3:>10.1f}{bed.ledger * 1e3:>9.1f}{bed.resolve * 1e3:>9.1f}"
        print(f"{size:>10}{bed.classes:>9}{times}{bed.resolve / bed.one_pass:>8.1f}{scan:>8.0f}")


if __name__ == "__main__":
    main()
