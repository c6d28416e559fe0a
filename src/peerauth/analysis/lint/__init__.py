"""Findings about a mesh: few and precise, each with its evidence and a fix.

`lint` runs every check over one survey of the world. A new check is a function from `Survey` to diagnostics, a line in
`CHECKS`, a code in `codes` and a page in docs/findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from peerauth.analysis.lint import (
    conflicts,
    destination_rules,
    enforcement,
    istio,
    nonmesh_clients,
    ports,
    removed,
    require,
    revisions,
    selectors,
)
from peerauth.analysis.lint.survey import Survey
from peerauth.model.diagnostic import Diagnostic

Check = Callable[[Survey], Iterator[Diagnostic]]

CHECKS: tuple[Check, ...] = (
    conflicts.conflicts,
    conflicts.root_selectors,
    conflicts.downgrades,
    removed.removed_policies,
    selectors.nothing_selected,
    ports.port_entries,
    ports.server_first,
    enforcement.ambient_disable,
    enforcement.outside_mesh,
    enforcement.excluded_ports,
    enforcement.unknown_namespaces,
    enforcement.not_as_labelled,
    enforcement.on_gateways,
    revisions.unknown_revisions,
    revisions.unknown_of_ztunnel,
    revisions.unknown_readers,
    revisions.unread_policies,
    istio.istio_differs,
    nonmesh_clients.probes,
    nonmesh_clients.api_server_calls,
    nonmesh_clients.scrapes,
    destination_rules.contradictions,
)


def lint(survey: Survey, *, require_strict: bool = False) -> Iterator[Diagnostic]:
    """Every finding about the surveyed mesh, check by check; each check's own order is deterministic."""
    for check in CHECKS:
        yield from check(survey)
    if require_strict:
        yield from require.not_strict(survey)
