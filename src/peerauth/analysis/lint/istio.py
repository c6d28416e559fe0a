"""Policies that Istio itself does not enforce as it documents them: for those who run Istio."""

from __future__ import annotations

from collections.abc import Iterator

from peerauth.analysis.istio import Difference, difference
from peerauth.analysis.lint.codes import ISTIO_DIFFERS
from peerauth.analysis.lint.survey import Survey, listed
from peerauth.model.diagnostic import Diagnostic


def istio_differs(survey: Survey) -> Iterator[Diagnostic]:
    """One finding for each policy and each way in which Istio reads it otherwise."""
    concerned: dict[Difference, list[str]] = {}
    for decision, workloads in survey.decided:
        differs = difference(decision)
        if differs is not None:
            concerned.setdefault(differs, []).extend(posture.name for posture in workloads)
    for differs, names in sorted(concerned.items(), key=lambda item: (item[0].policy.policy, item[0].fix)):
        yield ISTIO_DIFFERS.found(
            f"{differs.what}. This concerns workload {listed(names)}",
            subject=f"PeerAuthentication {differs.policy.policy}",
            origin=differs.policy.origin,
            hint=differs.fix,
        )
