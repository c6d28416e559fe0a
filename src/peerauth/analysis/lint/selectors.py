"""Selectors that match nothing, and what was probably meant.

Only where workloads were given at all: a folder of policies alone says nothing about what they match, except of those
that no labels can match.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence

from peerauth.analysis.lint.codes import MAY_SELECT, NOTHING_SELECTED
from peerauth.analysis.lint.revisions import istiods
from peerauth.analysis.lint.survey import Survey, listed, selector_place
from peerauth.analysis.may_select import Possible
from peerauth.model.diagnostic import Diagnostic, Evidence
from peerauth.model.peerauth import PeerAuthentication
from peerauth.model.schema.names import is_label_key, is_label_value
from peerauth.model.schema.report import shortened
from peerauth.model.tables import Name, name_of
from peerauth.policy.decision import Level

Values = Mapping[str, Mapping[str, str]]

_MOST_LISTED = 20


class _Guesses:
    """Guesses what a misspelt word was meant to be, for as long as that does not cost the square of the mesh."""

    def __init__(self) -> None:
        self._comparisons_left = 2_000

    def nearest(self, word: str, known: Collection[str]) -> str:
        """The known word that is most like this one; '' if none is, or nothing more is guessed in this run."""
        if len(known) > self._comparisons_left:
            return ""
        self._comparisons_left -= len(known)
        meant = difflib.get_close_matches(word, known, n=1)
        return meant[0] if meant else ""


def nothing_selected(survey: Survey) -> Iterator[Diagnostic]:
    """Policies whose selector matches no workload of their namespace: not yet, not at all, or never."""
    selecting = _selecting(survey)
    roots = {istiod.root_namespace for istiod in istiods(survey)}
    seen: dict[str, Values] = {}
    guesses = _Guesses()
    to_come = _to_come(survey)
    for name in sorted(survey.world.policies):
        policy = survey.world.policies[name]
        namespace = policy.meta.namespace
        if not policy.selector or policy.meta.full_name in selecting or namespace in roots:
            continue
        if name in to_come:
            yield _may_select(policy, to_come[name])
            continue
        impossible = list(_impossible(policy))
        if impossible:
            yield _never(policy, impossible)
            continue
        if not survey.postures:
            continue
        if namespace not in seen:
            seen[namespace] = _labels_of(survey, namespace)
        yield _finding(policy, seen[namespace], guesses)


def _to_come(survey: Survey) -> dict[Name, list[Possible]]:
    """The policies that may select pods once they are created, each with the workloads whose pods these are."""
    found: dict[Name, list[Possible]] = {}
    for possible in survey.may_select.values():
        for one in possible:
            found.setdefault(name_of(one.policy), []).append(one)
    return found


def _may_select(policy: PeerAuthentication, possible: Sequence[Possible]) -> Diagnostic:
    return MAY_SELECT.found(
        f"policy {policy.meta.full_name} may select some pods of "
        f"{listed(one.workload.meta.full_name for one in possible)}: it selects by {possible[0].by}",
        subject=f"PeerAuthentication {policy.meta.full_name}",
        origin=selector_place(policy),
        path="spec.selector.matchLabels",
        hint="give the pods as they run along with it (`kubectl get pod -o yaml`) to see which it selects, or select "
        "by a label of the pod template",
    )


def _impossible(policy: PeerAuthentication) -> Iterator[Evidence]:
    """The pairs of a selector that no label can be: the resource allows them, the API server lets nothing have them."""
    for key, value in sorted(policy.selector):
        if not is_label_key(key):
            yield Evidence(f"{shortened(key)!r} cannot be the key of a label")
        elif not is_label_value(value):
            yield Evidence(f"{value!r} cannot be the value of a label")


def _never(policy: PeerAuthentication, impossible: Sequence[Evidence]) -> Diagnostic:
    return NOTHING_SELECTED.found(
        f"policy {policy.meta.full_name} selects by a label that nothing can have: it has no effect",
        subject=f"PeerAuthentication {policy.meta.full_name}",
        origin=selector_place(policy),
        path="spec.selector.matchLabels",
        hint="labels have at most 63 letters, digits, '-', '_' and '.', a letter or digit at either end",
        evidence=tuple(impossible),
    )


def _selecting(survey: Survey) -> set[str]:
    """The policies that select some workload, whether they are heard or not."""
    return {
        reason.policy for decision, _ in survey.decided for reason in decision.reasons if reason.level is Level.WORKLOAD
    }


def _labels_of(survey: Survey, namespace: str) -> dict[str, dict[str, str]]:
    """The label keys of a namespace's workloads, their values, and for each one workload that has it."""
    values: dict[str, dict[str, str]] = {}
    for _, workload in sorted(survey.world.workloads.in_namespace(namespace).items()):
        for key, value in workload.meta.labels:
            values.setdefault(key, {}).setdefault(value, workload.meta.full_name)
    return values


def _finding(policy: PeerAuthentication, values: Values, guesses: _Guesses) -> Diagnostic:
    written = ", ".join(f"{key}={value}" for key, value in sorted(policy.selector))
    namespace = policy.meta.namespace
    hint = "correct the labels (a controller's pods have the labels of its pod template), or remove the policy"
    return NOTHING_SELECTED.found(
        f"policy {policy.meta.full_name} selects {written}, and no workload of the namespace {namespace} has "
        f"{'these labels together' if len(policy.selector) > 1 else 'this label'}: it has no effect",
        subject=f"PeerAuthentication {policy.meta.full_name}",
        origin=selector_place(policy),
        path="spec.selector.matchLabels",
        hint=hint,
        evidence=tuple(_near(policy, values, guesses)) if values else (Evidence(f"no workload is in {namespace}"),),
    )


def _near(policy: PeerAuthentication, values: Values, guesses: _Guesses) -> Iterator[Evidence]:
    """For each pair of the selector, what the namespace has instead."""
    for key, value in sorted(policy.selector):
        known = values.get(key)
        if known is None:
            meant = guesses.nearest(key, values)
            yield Evidence(f"no workload has a label {key}" + (f"; there is {meant}" if meant else ""))
        elif value in known:
            yield Evidence(f"{known[value]} has {key}={value}")
        else:
            meant = guesses.nearest(value, known)
            instead = f"{known[meant]} has {key}={meant}" if meant else _others(known)
            yield Evidence(f"no workload has {key}={value}; {instead}")


def _others(known: Mapping[str, str]) -> str:
    if len(known) > _MOST_LISTED:
        return f"there are {len(known)} other values"
    return f"the values are {listed(known, limit=_MOST_LISTED)}"
