"""Policies of an API that Istio has removed: whoever wrote one may count on it.

Source: Istio's release notes for 1.6, where PeerAuthentication and RequestAuthentication took the place of
`authentication.istio.io`.
"""

from __future__ import annotations

from collections.abc import Iterator

from peerauth.analysis.lint.codes import REMOVED_POLICY
from peerauth.analysis.lint.survey import Survey
from peerauth.analysis.passed_over import passed_over
from peerauth.model.diagnostic import Diagnostic
from peerauth.model.inventory import PassedOverBecause


def removed_policies(survey: Survey) -> Iterator[Diagnostic]:
    """One finding for each policy that no version of Istio since 1.6 reads."""
    for policy in passed_over(survey.world, PassedOverBecause.REMOVED):
        yield REMOVED_POLICY.found(
            f"{policy.subject} is of {policy.group}, which Istio has removed: nothing that it says is in force",
            subject=policy.subject,
            origin=policy.meta.origin,
            hint="say it with a PeerAuthentication (security.istio.io/v1), and delete this",
        )
