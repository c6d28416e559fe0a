"""What an operator is told about one workload: which proxy decides, the mode of every port, and the chain of reasons.

Values in, values out. Nothing is decided here: the modes and the reasons are the `Decision`'s own; this module puts
them next to what the workload declares and states them in the shape of the JSON contract (docs/json.md, `SCHEMA`).
A field is added to the contract with the same number, changed or removed only with the next.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Generic, TypeVar

import msgspec

from peerauth.analysis.istio import difference
from peerauth.analysis.may_select import Possible
from peerauth.model.inventory import Workload
from peerauth.model.mesh import MeshConfig, Meshes
from peerauth.model.meta import Origin
from peerauth.model.world import World
from peerauth.policy.capture import Captured, Gap, captured_of
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode, Level, Reason
from peerauth.policy.membership import hangs_on_namespace
from peerauth.policy.reasons import not_enforced
from peerauth.policy.revisions import standing_in

SCHEMA = 2


class PortView(msgspec.Struct, frozen=True):
    """One port of a workload: what the policy asks, what is enforced (None where nothing is), and who decides.

    `declared` is False for a port that only a policy names.
    """

    number: int
    name: str
    declared: bool
    asked: EffectiveMode
    enforced: EffectiveMode | None
    decided_by: Reason


class Explanation(msgspec.Struct, frozen=True):
    """One workload and everything decided for it. `why_dataplane` says what put it on its data plane, for people.

    `captured` is what of it reaches its proxy. `by_labels` is the data plane that the labels of a live pod ask for, if
    it proves to have another. `tells_revision`: whether to say of which revision it is, since there are others.
    `may_select` are the policies that may select some of its pods once they are created.
    """

    workload: Workload
    decision: Decision
    ports: tuple[PortView, ...]
    captured: Captured
    why_dataplane: str
    by_labels: Dataplane | None = None
    tells_revision: bool = False
    may_select: tuple[Possible, ...] = ()

    @property
    def enforced_otherwise(self) -> EffectiveMode | None:
        """The mode in force on the ports that nobody declares and no policy names; None where nothing is enforced."""
        return _enforced(self.decision, None, self.captured)


Names = tuple[tuple[int, str], ...]
_ViewKey = tuple[int, int, tuple[int, ...], Names]
T = TypeVar("T")
MOST_KEPT = 1 << 12
"""Explanations remembered at a time: workloads come by name, and those that share much mostly share its beginning."""


class Explainer:
    """Explains one workload after the other, and looks at a port once for all that differ in their names only.

    `meshes` has the configuration of each revision. Identity stands for content: what is kept holds the objects that
    its key was made from.
    """

    def __init__(self, *, port: int | None = None, tells_revision: bool = False, meshes: Meshes | None = None) -> None:
        self._port = port
        self._meshes = meshes or Meshes()
        self._tells_revision = tells_revision
        self._views: dict[_ViewKey, tuple[Decision, Captured, tuple[PortView, ...]]] = {}

    def explain(
        self,
        workload: Workload,
        decision: Decision,
        *,
        declared: tuple[int, ...],
        why_dataplane: str = "",
        by_labels: Dataplane | None = None,
        may_select: tuple[Possible, ...] = (),
    ) -> Explanation:
        """The explanation of a workload, or of one port of it, whether or not anyone declares it."""
        names = tuple([(own.number, own.name) for own in workload.ports])
        captured = captured_of(workload, decision.dataplane, mesh=self._meshes.of(decision.revision))
        key = (id(decision), id(captured), declared, names)
        kept = self._views.get(key)
        if kept is None:
            if len(self._views) >= MOST_KEPT:
                self._views.clear()
            views = self._views_of(decision, captured, frozenset(declared), names)
            kept = self._views[key] = decision, captured, views
        tells_revision = self._tells_revision and decision.dataplane is not Dataplane.NONE
        return Explanation(workload, decision, kept[2], kept[1], why_dataplane, by_labels, tells_revision, may_select)

    def _views_of(
        self, decision: Decision, captured: Captured, said: frozenset[int], names: Names
    ) -> tuple[PortView, ...]:
        port, first_names = self._port, dict(reversed(names))
        numbers = sorted(said.union(entry.port for entry in decision.ports)) if port is None else [port]
        return tuple(
            _port_view(number, names=first_names, said=said, decision=decision, captured=captured) for number in numbers
        )


class Shared(Generic[T]):
    """What `make` makes of an explanation without its workload, once for all explanations that agree in the rest."""

    def __init__(self, make: Callable[[Explanation], T], *, most: int = MOST_KEPT) -> None:
        self._make = make
        self._most = most
        self._made: dict[tuple[object, ...], tuple[Explanation, T]] = {}

    def of(self, explanation: Explanation) -> T:
        """What was made of this explanation, or of one like it."""
        parts = id(explanation.decision), id(explanation.ports), id(explanation.captured)
        to_come = tuple([one.sentence for one in explanation.may_select])
        key = (*parts, explanation.why_dataplane, explanation.by_labels, to_come)
        kept = self._made.get(key)
        if kept is None:
            if len(self._made) >= self._most:
                self._made.clear()
            kept = self._made[key] = explanation, self._make(explanation)
        return kept[1]


def explain(
    workload: Workload,
    decision: Decision,
    *,
    declared: tuple[int, ...],
    why_dataplane: str = "",
    port: int | None = None,
    meshes: Meshes | None = None,
) -> Explanation:
    """The explanation of one workload on its own; `declared` are the ports that someone says it listens on.

    Given `port`, of that port alone.
    """
    return Explainer(port=port, meshes=meshes).explain(
        workload, decision, declared=declared, why_dataplane=why_dataplane
    )


def _port_view(
    number: int, *, names: Mapping[int, str], said: Container[int], decision: Decision, captured: Captured
) -> PortView:
    return PortView(
        number=number,
        name=names.get(number, ""),
        declared=number in said,
        asked=decision.mode_of(number),
        enforced=_enforced(decision, number, captured),
        decided_by=decision.deciding(number),
    )


def _enforced(decision: Decision, port: int | None, captured: Captured) -> EffectiveMode | None:
    return decision.in_force(port) if decision.dataplane.enforces and captured.gap(port) is None else None


def why_dataplane(workload: Workload, world: World) -> str:
    """What put a workload on its data plane; whether that is in doubt because its Namespace was not given, and what
    the labels of a live pod ask for instead.
    """
    found = standing_in(workload, world).membership
    if (
        workload.meta.namespace not in world.namespaces
        and found.dataplane is Dataplane.NONE
        and hangs_on_namespace(workload)
    ):
        return f"{found.why}; the Namespace {workload.meta.namespace} is not in the input, which may say otherwise"
    if found.by_labels is None:
        return found.why
    return f"{found.why}; by its labels it would be {on_dataplane(found.by_labels)}: {found.why_by_labels}"


def on_dataplane(dataplane: Dataplane) -> str:
    """What a workload is by its data plane, to follow `it is`."""
    return _ON_DATAPLANE[dataplane]


_ON_DATAPLANE = {
    Dataplane.SIDECAR: "in the mesh with a sidecar",
    Dataplane.AMBIENT: "in the mesh in ambient mode",
    Dataplane.GATEWAY: "a gateway of the mesh",
    Dataplane.NONE: "outside the mesh",
}


def reasons_for(decision: Decision, port: int | None) -> tuple[Reason, ...]:
    """The chain of reasons, from the widest level to the narrowest; given `port`, without the other ports' entries."""
    kept = [reason for reason in decision.reasons if port is None or reason.port in (None, port)]
    return tuple(sorted(kept, key=lambda reason: (_LEVELS.index(reason.level), reason.port or 0)))


_LEVELS = tuple(Level)


def notes(explanation: Explanation, *, port: int | None = None) -> list[str]:
    """Where the data plane does not do what was asked, in sentences; given `port`, without those about all others."""
    decision, captured = explanation.decision, explanation.captured
    if not decision.dataplane.enforces:
        return []
    kept_away: dict[Gap, list[int]] = {}
    for view in explanation.ports:
        gap = captured.gap(view.number)
        if gap is not None:
            kept_away.setdefault(gap, []).append(view.number)
    if captured.others is not None and port is None:
        kept_away.setdefault(captured.others, [])
    gaps = (_gap_note(gap, ports, others=gap == captured.others and port is None) for gap, ports in kept_away.items())
    return [*not_enforced(decision), *gaps]


def istio_notes(explanation: Explanation, *, port: int | None = None) -> list[str]:
    """Where Istio's own control plane enforces something else, in sentences; given `port`, of that port alone."""
    decision = explanation.decision
    differs = difference(decision)
    named = any(entry.port == port for entry in decision.ports)
    return differs.sentences(port, named=named) if differs else []


def _gap_note(gap: Gap, ports: list[int], *, others: bool) -> str:
    listed = ", ".join(map(str, ports))
    if others:
        which = f"Ports {listed} and all others" if ports else "All other ports"
        return f"{which} are {gap.why}: nothing is enforced on them."
    if len(ports) == 1:
        return f"Port {listed} is {gap.why}: nothing is enforced on it."
    return f"Ports {listed} are {gap.why}: nothing is enforced on them."


def mesh_document(mesh: MeshConfig) -> dict[str, object]:
    """The `mesh` member of the JSON contract: the default revision's configuration."""
    return {"rootNamespace": mesh.root_namespace, "trustDomain": mesh.trust_domain}


def revision_documents(meshes: Meshes, revisions: Iterable[str]) -> list[dict[str, object]]:
    """The `revisions` member of the JSON contract."""
    return [{"name": name, **mesh_document(meshes.of(name))} for name in sorted(revisions)]


def name_document(workload: Workload) -> dict[str, object]:
    """The first members of an element of `workloads` in the JSON contract: whom it is about."""
    return {"namespace": workload.meta.namespace, "name": workload.meta.name, "kind": workload.kind}


def decision_document(explanation: Explanation) -> dict[str, object]:
    """The other members of an element of `workloads`, the same for all workloads that differ in their names only."""
    decision = explanation.decision
    by_labels = explanation.by_labels
    return {
        "dataplane": decision.dataplane.value,
        **({} if by_labels is None else {"dataplaneByLabels": by_labels.value}),
        **({"revision": decision.revision} if explanation.tells_revision else {}),
        "mode": decision.mode.value,
        "ports": {str(view.number): view.asked.value for view in explanation.ports},
        "enforced": _enforced_document(explanation),
        "notes": notes(explanation),
        "istio": istio_notes(explanation),
        "maySelect": [one.policy.meta.full_name for one in explanation.may_select],
        "reasons": [reason_document(reason) for reason in decision.reasons],
    }


def _enforced_document(explanation: Explanation) -> dict[str, object] | None:
    if not explanation.decision.dataplane.enforces:
        return None
    return {
        "mode": explanation.enforced_otherwise,
        "ports": {str(view.number): view.enforced for view in explanation.ports},
    }


def reason_document(reason: Reason) -> dict[str, object]:
    """One element of `reasons`: members that do not apply are left out."""
    document: dict[str, object] = {
        "level": reason.level.value,
        "said": reason.said.value,
        "verdict": reason.verdict.value,
    }
    optional = {"policy": reason.policy, "port": reason.port, **origin_document(reason.origin), "why": reason.why}
    document |= {name: value for name, value in optional.items() if value not in ("", None)}
    if reason.lost_to:
        document["lostTo"] = reason.lost_to
    return document


def origin_document(origin: Origin) -> dict[str, object]:
    """Where something was said, as JSON members: a place in a file or the version of an object, whichever is known."""
    if origin.resource_version:
        return {"resourceVersion": origin.resource_version}
    members = {"file": origin.file, "line": origin.line, "column": origin.column}
    return {name: value for name, value in members.items() if value}
