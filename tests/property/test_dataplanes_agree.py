"""Envoys do to each kind of client what is said that they do, whatever the policies say, and would log it so.

Held against what a sidecar's Envoy and a node's are told: a small reading of their listeners says what becomes of a
connection. The two differ only where they must: a sidecar terminates mutual TLS on the application's port, and ambient
takes it in HBONE.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from typing import NamedTuple, TypeVar

import msgspec
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from google.protobuf import wrappers_pb2
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from xds.type.matcher.v3 import matcher_pb2

from peerauth.dataplane.ambient.node import NodeProxy, NodeWorkload, render_node
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.envoy.sidecar_values import ApplicationPort, SidecarWorkload
from peerauth.dataplane.type_urls import LISTENER
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.connections import Arrival
from peerauth.model.endpoint import Endpoint
from peerauth.model.inventory import WorkloadKey
from peerauth.model.peerauth import PeerAuthentication
from peerauth.model.placement import Capture
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode
from peerauth.policy.reception import TUNNELS, ClientKind, reception
from peerauth.policy.resolve import resolve
from peerauth.telemetry.envoy import parse_connection
from samples.meshes import PORTS, ROOT, label_sets, policy, policy_sets

KEY = WorkloadKey("foo", "w")
IDENTITY = SpiffeId("cluster.local", "foo", "w")
ADDRESS, APPLICATION = "127.0.0.8", "127.0.0.9"
DECLARED = PORTS[:2]
SELECTED = {"app": "x"}
Listeners = Mapping[str, listener_pb2.Listener]
M = TypeVar("M", bound=Message)


def listeners(bodies: Mapping[str, bytes]) -> Listeners:
    return {name: listener_pb2.Listener.FromString(body) for name, body in bodies.items()}


def of_the_node(decision: Decision, capture: Capture) -> Listeners:
    namespace = "/run/netns/w" if capture is Capture.TRANSPARENT else ""
    workload = NodeWorkload(KEY, IDENTITY, (ADDRESS,), decision, namespace, DECLARED, "" if namespace else APPLICATION)
    return listeners(render_node(NodeProxy((workload,)))[LISTENER])


def of_the_sidecar(decision: Decision, capture: Capture) -> Listeners:
    where = APPLICATION if capture is Capture.EXPLICIT else ""
    declared = tuple(ApplicationPort(port, Endpoint(where, port) if where else None) for port in DECLARED)
    workload = SidecarWorkload(KEY, IDENTITY, (ADDRESS,), decision, declared=declared, capture=capture)
    return listeners(render_sidecar(workload)[LISTENER])


class Shown(NamedTuple):
    """What Envoy sees of a client before it decides: TLS or not, its ALPN, whether it has the mesh's certificate."""

    protocol: str = "tls"
    alpn: str = ""
    certificate: bool = False


SHOWN = {
    ClientKind.PLAINTEXT: Shown("raw_buffer"),
    ClientKind.TLS: Shown(),
    ClientKind.ISTIO_ALPN_NO_CERT: Shown(alpn="istio"),
    ClientKind.MTLS: Shown(alpn="istio", certificate=True),
    ClientKind.MTLS_NO_ALPN: Shown(certificate=True),
    ClientKind.OTHER_CA: Shown(alpn="istio"),
    ClientKind.OTHER_DOMAIN: Shown(alpn="istio"),
    ClientKind.HBONE: Shown(alpn="h2", certificate=True),
    ClientKind.HBONE_NO_CERT: Shown(alpn="h2"),
    ClientKind.HBONE_OTHER_CA: Shown(alpn="h2"),
    ClientKind.HBONE_OTHER_DOMAIN: Shown(alpn="h2"),
}


def arrives(found: Listeners, client: ClientKind, port: int) -> Arrival:
    """As what a client arrives at a port of the workload, by what Envoy is told to do and would then log."""
    listener = _taking(found, 15008 if client in TUNNELS else port)
    chain = _chain_for(listener, SHOWN[client], port) if listener is not None else None
    if chain is None:
        return _logged(flags="NR")
    ends_tls = chain.HasField("transport_socket")
    if ends_tls and not (_demands_a_certificate(chain) and SHOWN[client].certificate):
        return _logged(chain.name, tls_failure="no certificate of the mesh")
    if client in TUNNELS:
        return _logged(chain.name, kind="tunnel", status=_answer(chain, f"{ADDRESS}:{port}"))
    leads_on = _unpacked(chain.filters[-1], tcp_proxy_pb2.TcpProxy()).cluster != "blackhole"
    arrival = _logged(chain.name, cluster="application" if leads_on else None)
    assert leads_on is (arrival is not Arrival.REFUSED), chain.name
    return arrival


def _logged(chain: str = "", *, kind: str = "connection", **said: object) -> Arrival:
    line = {"kind": kind, "event": "end", "workload": str(KEY), "direction": "inbound", "started": "", "chain": chain}
    seen = parse_connection(msgspec.json.encode(line | said))
    assert seen is not None
    return seen.arrival


def _taking(found: Listeners, port: int) -> listener_pb2.Listener | None:
    """The listener of the port, else the one that catches the rest, if either is there."""
    inbound = [each for each in found.values() if each.traffic_direction == base_pb2.INBOUND]
    bound = {each.address.socket_address.port_value: each for each in inbound}
    return bound.get(port, bound.get(15006))


def _chain_for(listener: listener_pb2.Listener, shown: Shown, port: int) -> listener_components_pb2.FilterChain | None:
    if listener.HasField("filter_chain_matcher"):
        wanted = _matched(listener.filter_chain_matcher, port)
        return next(chain for chain in listener.filter_chains if chain.name == wanted)
    if not any(each.name.endswith("tls_inspector") for each in listener.listener_filters):
        shown = Shown("raw_buffer")  # nobody looks
    taken = [chain for chain in listener.filter_chains if _takes(chain.filter_chain_match, shown, port)]
    return max(taken, key=lambda chain: _how_closely(chain.filter_chain_match), default=None)


def _takes(match: listener_components_pb2.FilterChainMatch, shown: Shown, port: int) -> bool:
    ports = {match.destination_port.value} if match.HasField("destination_port") else {port}
    protocols = match.application_protocols or [shown.alpn]
    return match.transport_protocol in {"", shown.protocol} and shown.alpn in protocols and port in ports


def _how_closely(match: listener_components_pb2.FilterChainMatch) -> tuple[bool, bool, bool]:
    """Envoy looks at the port first, then at the transport, then at the ALPN; what is said goes before what is not."""
    return match.HasField("destination_port"), bool(match.transport_protocol), bool(match.application_protocols)


def _matched(matcher: matcher_pb2.Matcher, port: int) -> str:
    said = {"DestinationIPInput": ADDRESS, "DestinationPortInput": str(port)}[matcher.matcher_tree.input.name]
    table = matcher.matcher_tree.exact_match_map.map
    found = table.get(said, matcher.on_no_match)
    if found.HasField("matcher"):
        return _matched(found.matcher, port)
    name = wrappers_pb2.StringValue()
    assert found.action.typed_config.Unpack(name)
    return name.value


def _demands_a_certificate(chain: listener_components_pb2.FilterChain) -> bool:
    context = tls_pb2.DownstreamTlsContext()
    assert chain.transport_socket.typed_config.Unpack(context)
    return context.require_client_certificate.value


def _answer(chain: listener_components_pb2.FilterChain, authority: str) -> int:
    """The status with which a CONNECT request for an authority is answered, if the application is there."""
    hosts = _unpacked(chain.filters[-1], hcm_pb2.HttpConnectionManager()).route_config.virtual_hosts
    host = next(host for name in (authority, "*") for host in hosts if name in host.domains)
    for route in host.routes:
        wanted = [re.fullmatch(each.string_match.safe_regex.regex, authority) for each in route.match.headers]
        if route.match.HasField("connect_matcher") and all(wanted):
            return 200 if route.HasField("route") else route.direct_response.status
    raise AssertionError(f"no answer to {authority}")


def _unpacked(filter_: listener_components_pb2.Filter, into: M) -> M:
    assert filter_.typed_config.Unpack(into)
    return into


def hbone_demands(found: Listeners) -> Message:
    """The TLS in front of tunnels, but for whose certificate the server shows."""
    listener = next(each for each in found.values() if each.address.socket_address.port_value == 15008)
    context = tls_pb2.DownstreamTlsContext()
    assert listener.filter_chains[0].transport_socket.typed_config.Unpack(context)
    assert context.require_client_certificate.value
    context.common_tls_context.ClearField("tls_certificate_sds_secret_configs")
    return context


def check(labels: Mapping[str, str], where: str, said: list[PeerAuthentication], capture: Capture) -> None:
    selected = frozenset(labels.items())
    sidecar, ambient = (
        resolve(selected, where, policies=said, root_namespace=ROOT, dataplane=dataplane)
        for dataplane in (Dataplane.SIDECAR, Dataplane.AMBIENT)
    )
    beside, node = of_the_sidecar(sidecar, capture), of_the_node(ambient, capture)
    for port in DECLARED if capture is Capture.EXPLICIT else (1, *PORTS, 15000):
        for client in ClientKind:
            for found, decision in ((beside, sidecar), (node, ambient)):
                wanted = reception(client, decision, port).arrival
                assert arrives(found, client, port) is wanted, f"{decision.dataplane}, {client}, {port}"
    assert arrives(beside, ClientKind.PLAINTEXT, 15006) is Arrival.REFUSED
    assert arrives(node, ClientKind.PLAINTEXT, 15006) is Arrival.REFUSED
    assert hbone_demands(beside) == hbone_demands(node)


@given(label_sets(), st.sampled_from([ROOT, "foo", "bar"]), policy_sets(), st.sampled_from(list(Capture)))
def test_each_client_arrives_as_it_must_and_both_take_the_same_tunnels(
    labels: dict[str, str], where: str, said: list[PeerAuthentication], capture: Capture
) -> None:
    """A DISABLED port takes plaintext from both, untouched; ambient takes it in HBONE as well, as every port."""
    check(labels, where, said, capture)


@pytest.mark.parametrize("capture", list(Capture))
def test_they_agree_on_every_mode_of_a_workload_and_of_ports_declared_and_not(capture: Capture) -> None:
    modes = [mode.value for mode in EffectiveMode]
    named = [None, *modes]
    for mode, declared, undeclared in product(modes, named, named):
        ports = {DECLARED[0]: declared, PORTS[2]: undeclared}
        own = policy("foo/w", mode, selector=SELECTED, ports={port: said for port, said in ports.items() if said})
        check(SELECTED, "foo", [own], capture)
