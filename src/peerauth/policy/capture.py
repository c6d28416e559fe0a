"""Which ports of a workload Istio keeps away from its proxy: nothing is enforced on them, whatever the policy says.

Pure. Source: Istio's reference of resource annotations, its injection template, and the rules that its agent and its
CNI plugin write from them: a list of excluded ports counts only where all are included, an empty list of included ports
includes none, and the ports of the sidecar's agent are never redirected; what a pod does not say, its mesh may. Ambient
knows one annotation, for all ports.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

import msgspec

from peerauth.model.inventory import Workload
from peerauth.model.mesh import MeshConfig, Redirection
from peerauth.model.meta import NO_LABELS, Labels
from peerauth.policy.decision import Dataplane
from peerauth.policy.membership import TEMPLATES

EXCLUDE_PORTS = "traffic.sidecar.istio.io/excludeInboundPorts"
INCLUDE_PORTS = "traffic.sidecar.istio.io/includeInboundPorts"
INTERCEPTION_MODE = "sidecar.istio.io/interceptionMode"
STATUS_PORT = "status.sidecar.istio.io/port"
BYPASS = "ambient.istio.io/bypass-inbound-capture"
PROXY_CONFIG = "proxy.istio.io/config"
_ANNOTATIONS = frozenset(
    {EXCLUDE_PORTS, INCLUDE_PORTS, INTERCEPTION_MODE, STATUS_PORT, BYPASS, PROXY_CONFIG, TEMPLATES}
)

AGENT_PORTS = (15020, 15021, 15090)

_INTERCEPTION = re.compile(r"""\binterceptionMode["']?\s*:\s*["']?(\w+)""")
"""In a ProxyConfig, which is YAML; what only looks like it is taken for it, since too little would be claimed."""

_PROXYLESS = frozenset({"grpc-agent", "grpc-simple"})
"""The injection templates for applications that speak to istiod themselves: nothing is redirected in their pods."""

_TRUE = frozenset({"1", "t", "T", "true", "True", "TRUE"})
"""What Istio's node agent reads as true."""

_MOST_DIGITS = 5


class Gap(msgspec.Struct, frozen=True):
    """Why connections to a port do not reach the proxy, in words that follow `it is`.

    `setting` says by what; empty is the port of the sidecar's agent, and never the application's. `annotation` is the
    pod's, if it is one of these.
    """

    why: str
    setting: str = ""
    annotation: str = ""


_OF_THE_AGENT = Gap("left to the sidecar's agent, and never redirected to the proxy")


class Captured(msgspec.Struct, frozen=True):
    """What of a workload reaches its proxy. `others` is the gap that all ports are in that `ports` does not have."""

    ports: Mapping[int, Gap | None] = {}
    others: Gap | None = None

    @property
    def may_miss(self) -> bool:
        """Whether any of the application's own ports is in a gap."""
        return self.others is not None or any(gap is not None and gap.setting for gap in self.ports.values())

    def gap(self, port: int | None) -> Gap | None:
        """What keeps a port away from the proxy; None if nothing does. A port of None is all that `ports` lacks."""
        return self.others if port is None else self.ports.get(port, self.others)


def captured_of(workload: Workload, dataplane: Dataplane, *, mesh: MeshConfig) -> Captured:
    """What reaches the proxy of a workload on this data plane; equal answers are mostly one object.

    `mesh` is the configuration of the workload's revision.
    """
    annotations = workload.meta.annotations
    said = frozenset([pair for pair in annotations if pair[0] in _ANNOTATIONS]) if annotations else NO_LABELS
    return _captured(dataplane, said, mesh.redirection)


@lru_cache(maxsize=1024)
def _captured(dataplane: Dataplane, annotations: Labels, unsaid: Redirection) -> Captured:
    said = dict(annotations)
    match dataplane:
        case Dataplane.SIDECAR:
            return _by_sidecar(said, unsaid)
        case Dataplane.AMBIENT if said.get(BYPASS) in _TRUE:
            return Captured(others=_by_annotation(BYPASS))
        case _:
            return Captured()


def _by_sidecar(said: Mapping[str, str], unsaid: Redirection) -> Captured:
    ports: dict[int, Gap | None] = dict.fromkeys((*AGENT_PORTS, *_listed(said.get(STATUS_PORT, ""))), _OF_THE_AGENT)
    nothing = _nothing_by(said, unsaid)
    included = said.get(INCLUDE_PORTS, unsaid.included).strip()
    excluded = said.get(EXCLUDE_PORTS, unsaid.excluded).strip()
    not_included, left_out = _by(INCLUDE_PORTS, said), _by(EXCLUDE_PORTS, said)
    if nothing is not None:
        return Captured(ports, others=nothing)
    if included != "*":
        return Captured(dict.fromkeys(_listed(included)) | ports, others=not_included)
    if excluded == "*":
        return Captured(ports, others=left_out)
    return Captured(dict.fromkeys(_listed(excluded), left_out) | ports)


def _nothing_by(said: Mapping[str, str], unsaid: Redirection) -> Gap | None:
    """Why nothing at all is redirected, or None. The pod's own word goes before its proxy's and the mesh's."""
    proxyless = not _PROXYLESS.isdisjoint(map(str.strip, said.get(TEMPLATES, "").split(",")))
    if proxyless:
        return _by_annotation(TEMPLATES)
    if INTERCEPTION_MODE in said:
        return _by_annotation(INTERCEPTION_MODE) if said[INTERCEPTION_MODE] == "NONE" else None
    own = _INTERCEPTION.search(said.get(PROXY_CONFIG, ""))
    if own is not None:
        return _by_annotation(PROXY_CONFIG) if own[1] == "NONE" else None
    return None if unsaid.intercepts else _by(INTERCEPTION_MODE, said)


_OF_THE_MESH = {
    INTERCEPTION_MODE: "defaultConfig.interceptionMode",
    INCLUDE_PORTS: "values.global.proxy.includeInboundPorts",
    EXCLUDE_PORTS: "values.global.proxy.excludeInboundPorts",
}
"""What stands for an annotation that a pod does not have."""


def _by(annotation: str, said: Mapping[str, str]) -> Gap:
    if annotation in said:
        return _by_annotation(annotation)
    setting = f"the mesh configuration's {_OF_THE_MESH[annotation]}"
    return Gap(f"kept away from the proxy by {setting}", setting)


def _by_annotation(annotation: str) -> Gap:
    setting = f"the annotation {annotation}"
    return Gap(f"kept away from the proxy by {setting}", setting, annotation)


def _listed(text: str) -> list[int]:
    return [int(part) for part in map(str.strip, text.split(",")) if part.isdecimal() and len(part) <= _MOST_DIGITS]
