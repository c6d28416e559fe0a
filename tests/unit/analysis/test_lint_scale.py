"""What explain and check cost grows with the mesh, not with its square: counted in lines of Python, not in seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

import pytest

from peerauth.analysis.explain import decision_document, explain, why_dataplane
from peerauth.analysis.lint import CHECKS, Check
from peerauth.analysis.lint.require import not_strict
from peerauth.analysis.lint.survey import Survey, survey
from samples.manifests import destination_rule, mesh_config, namespace, pod, policy, service, surveyed

if TYPE_CHECKING:
    from _typeshed import TraceFunction

SCRAPED = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.istio.io/merge-metrics": "false"}
WEBHOOK = """apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata:
  name: hook{n}
webhooks:
  - name: hook.example.com
    clientConfig:
      service:
        namespace: foo
        name: p{n}
        port: 80
"""

OLD_POLICY = """apiVersion: authentication.istio.io/v1alpha1
kind: Policy
metadata:
  name: old{n}
  namespace: foo
"""


def mesh(size: int) -> Survey:
    """One namespace with `size` of everything, and a finding about each."""
    selecting = mesh_config("discoverySelectors: [{matchLabels: {istio-injection: enabled}}]")
    parts = [namespace(), policy("foo/default", "STRICT"), selecting]
    for n in range(size):
        name = f"foo/p{n}"
        parts += [
            pod(name, ports={8080: "", 3306: ""}, annotations=SCRAPED),
            service(name),
            destination_rule(f"p{n}", "DISABLE", name=name),
            WEBHOOK.format(n=n),
            policy(name, app=f"p{n}", ports={80: "PERMISSIVE", 3306: "PERMISSIVE"}),
            policy(f"{name}-loses", "DISABLE", app=f"p{n}", created="2024-01-01T00:00:00Z"),
            policy(f"foo/nothing{n}", "STRICT", app=f"nothing{n}"),
            policy(f"istio-system/root{n}", "STRICT", app="x"),
            policy(f"{name}-canary", "STRICT", app=f"p{n}", revision="canary"),
            OLD_POLICY.format(n=n),
            policy(f"foo/later{n}", "STRICT", app=f"p{n}\n      service.istio.io/canonical-name: p{n}"),
        ]
    return surveyed(*parts)


def lines_run(work: Callable[[], object]) -> int:
    """How many lines of Python `work` executes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> TraceFunction:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def explain_all(seen: Survey) -> None:
    for posture in seen.postures:
        workload = posture.workload
        why = why_dataplane(workload, seen.world)
        declared = seen.world.declared_numbers(workload, seen.world.services_selecting(workload))
        decision_document(explain(workload, posture.decision, declared=declared, why_dataplane=why))


def resurvey(seen: Survey) -> None:
    decisions = {posture.workload.key: posture.decision for posture in seen.postures}
    survey(seen.world, lambda workload: decisions[workload.key])


def drained(check: Check, seen: Survey) -> None:
    list(check(seen))


SMALL, LARGE = mesh(30), mesh(120)
WORK: dict[str, Callable[[Survey], object]] = {
    **{check.__name__: partial(drained, check) for check in (*CHECKS, not_strict)},
    "explain": explain_all,
    "survey": resurvey,
}


@pytest.mark.parametrize("name", WORK)
def test_four_times_the_mesh_costs_four_times_the_work(name: str) -> None:
    small, large = (lines_run(partial(WORK[name], seen)) for seen in (SMALL, LARGE))
    assert large <= 5 * small + 100, (small, large)


def test_the_mesh_of_this_test_has_something_for_most_checks() -> None:
    silent = {"ambient_disable", "outside_mesh", "excluded_ports", "unknown_namespaces", "istio_differs", "probes"}
    silent |= {"not_as_labelled", "on_gateways", "unknown_of_ztunnel", "unread_policies"}
    assert {check.__name__ for check in CHECKS if not list(check(SMALL))} <= silent
