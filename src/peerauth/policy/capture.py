"""Which ports of a workload Istio keeps away from its proxy: nothing is enforced on them, whatever the policy says.

Pure. Source: Istio's reference of resource annotations, its injection template, and the rules that its agent and its
CNI plugin write from them: a list of excluded ports counts only where all are included, an empty list of included ports
includes none, and the ports of the sidecar's agent are never redirected. Ambient knows one annotation, for all ports.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

import msgspec

from peerauth.model.inventory import Workload
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

_NOT_INTERCEPTED = re.compile(r"""\binterceptionMode["']?\s*:\s*["']?NONE\b""")
"""In a ProxyConfig, which is YAML; what only looks like it is taken for it, since too little would be claimed."""

_PROXYLESS = frozenset({"grpc-agent", "grpc-simple"})
"""The injection templates for applications that speak to istiod themselves: nothing is redirected in their pods."""

_TRUE = frozenset({"1", "t", "T", "true", "True", "TRUE"})
"""What Istio's node agent reads as true."""


_MOST_DIGITS = 5


class Gap(msgspec.Struct, frozen=True):
    """Why connections to a port do not reach the proxy: words that follow `it is`, and the annotation that says so.

    Without an annotation it is the port of the sidecar's agent, and never the application's.
    """

    why: str
    annotation: str = ""


_OF_THE_AGENT = Gap("left to the sidecar's agent, and never redirected to the proxy")


class Captured(msgspec.Struct, frozen=True):
    """What of a workload reaches its proxy. `others` is the gap that all ports are in that `ports` does not have."""

    ports: Mapping[int, Gap | None] = {}
    others: Gap | None = None

    def gap(self, port: int) -> Gap | None:
        """What keeps a port away from the proxy; None if nothing does."""
        return self.ports.get(port, self.others)


def captured_of(workload: Workload, dataplane: Dataplane) -> Captured:
    """What reaches the proxy of a workload on this data plane; equal answers are mostly one object."""
    annotations = workload.meta.annotations
    said = frozenset([pair for pair in annotations if pair[0] in _ANNOTATIONS]) if annotations else NO_LABELS
    return _captured(dataplane, said)


@lru_cache(maxsize=1024)
def _captured(dataplane: Dataplane, annotations: Labels) -> Captured:
    said = dict(annotations)
    match dataplane:
        case Dataplane.SIDECAR:
            return _by_sidecar(said)
        case Dataplane.AMBIENT if said.get(BYPASS) in _TRUE:
            return Captured(others=_kept_away(BYPASS))
        case _:
            return Captured()


def _by_sidecar(said: Mapping[str, str]) -> Captured:
    ports: dict[int, Gap | None] = dict.fromkeys((*AGENT_PORTS, *_listed(said.get(STATUS_PORT, ""))), _OF_THE_AGENT)
    included = said.get(INCLUDE_PORTS, "*").strip()
    excluded = said.get(EXCLUDE_PORTS, "").strip()
    nothing_by = _nothing_by(said)
    if nothing_by:
        return Captured(ports, others=_kept_away(nothing_by))
    if included != "*":
        return Captured(dict.fromkeys(_listed(included)) | ports, others=_kept_away(INCLUDE_PORTS))
    if excluded == "*":
        return Captured(ports, others=_kept_away(EXCLUDE_PORTS))
    return Captured(dict.fromkeys(_listed(excluded), _kept_away(EXCLUDE_PORTS)) | ports)


def _nothing_by(said: Mapping[str, str]) -> str:
    """The annotation by which nothing at all is redirected, or ''."""
    if said.get(INTERCEPTION_MODE) == "NONE":
        return INTERCEPTION_MODE
    if INTERCEPTION_MODE not in said and _NOT_INTERCEPTED.search(said.get(PROXY_CONFIG, "")):
        return PROXY_CONFIG
    proxyless = not _PROXYLESS.isdisjoint(map(str.strip, said.get(TEMPLATES, "").split(",")))
    return TEMPLATES if proxyless else ""


def _kept_away(annotation: str) -> Gap:
    return Gap(f"kept away from the proxy by the annotation {annotation}", annotation)


def _listed(text: str) -> list[int]:
    return [int(part) for part in map(str.strip, text.split(",")) if part.isdecimal() and len(part) <= _MOST_DIGITS]
