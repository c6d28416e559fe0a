"""A sidecar and the node's proxy let the same connections in, whatever the policies say.

Held against what Envoy is told by each: a small reading of its listeners says what becomes of a connection. The two
differ only where they must: a sidecar terminates mutual TLS on the application's port, and ambient takes it in HBONE.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product

import pytest
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from google.protobuf import wrappers_pb2
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from xds.type.matcher.v3 import matcher_pb2

from peerauth.dataplane.ambient.node import NodeProxy, NodeWorkload, render_node
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.resources import LISTENER, Capture, DeclaredPort, Endpoint, SidecarWorkload
from peerauth.identity.spiffe import SpiffeId
from peerauth.model.inventory import WorkloadKey
from peerauth.model.peerauth import PeerAuthentication
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode
from peerauth.policy.resolve import resolve
from samples.meshes import PORTS, ROOT, label_sets, policy, policy_sets

KEY = WorkloadKey("foo", "w")
IDENTITY = SpiffeId("cluster.local", "foo", "w")
ADDRESS, APPLICATION = "127.0.0.8", "127.0.0.9"
DECLARED = PORTS[:2]
SELECTED = {"app": "x"}
Listeners = Mapping[str, listener_pb2.Listener]


def listeners(bodies: Mapping[str, bytes]) -> Listeners:
    return {name: listener_pb2.Listener.FromString(body) for name, body in bodies.items()}


def of_the_node(decision: Decision, capture: Capture) -> Listeners:
    namespace = "/run/netns/w" if capture is Capture.TRANSPARENT else ""
    workload = NodeWorkload(KEY, IDENTITY, (ADDRESS,), decision, namespace, DECLARED, "" if namespace else APPLICATION)
    return listeners(render_node(NodeProxy((workload,)))[LISTENER])


def of_the_sidecar(decision: Decision, capture: Capture) -> Listeners:
    where = APPLICATION if capture is Capture.EXPLICIT else ""
    declared = tuple(DeclaredPort(port, Endpoint(where, port) if where else None) for port in DECLARED)
    workload = SidecarWorkload(KEY, IDENTITY, (ADDRESS,), decision, declared=declared, capture=capture)
    return listeners(render_sidecar(workload)[LISTENER])


def plaintext_gets_in(found: Listeners, port: int) -> bool:
    """Whether plaintext for a port of the workload reaches its application."""
    return any(_leads_on(_chain_for_plaintext(listener, port)) for listener in _taking(found, port))


def _taking(found: Listeners, port: int) -> Iterable[listener_pb2.Listener]:
    """The listener of the port, else the one that catches the rest, if either is there."""
    inbound = [each for each in found.values() if each.traffic_direction == base_pb2.INBOUND]
    bound = {each.address.socket_address.port_value: each for each in inbound}
    caught = bound.get(port, bound.get(15006))
    return [caught] if caught is not None else []


def _chain_for_plaintext(listener: listener_pb2.Listener, port: int) -> listener_components_pb2.FilterChain | None:
    if listener.HasField("filter_chain_matcher"):
        wanted = _matched(listener.filter_chain_matcher, port)
        return next(chain for chain in listener.filter_chains if chain.name == wanted)
    taken = [chain for chain in listener.filter_chains if _takes_plaintext(chain.filter_chain_match, port)]
    return max(taken, key=lambda chain: chain.filter_chain_match.HasField("destination_port"), default=None)


def _takes_plaintext(match: listener_components_pb2.FilterChainMatch, port: int) -> bool:
    ports = {match.destination_port.value} if match.HasField("destination_port") else {port}
    return match.transport_protocol in {"", "raw_buffer"} and port in ports


def _matched(matcher: matcher_pb2.Matcher, port: int) -> str:
    said = {"DestinationIPInput": ADDRESS, "DestinationPortInput": str(port)}[matcher.matcher_tree.input.name]
    table = matcher.matcher_tree.exact_match_map.map
    found = table.get(said, matcher.on_no_match)
    if found.HasField("matcher"):
        return _matched(found.matcher, port)
    name = wrappers_pb2.StringValue()
    assert found.action.typed_config.Unpack(name)
    return name.value


def _leads_on(chain: listener_components_pb2.FilterChain | None) -> bool:
    if chain is None:
        return False
    proxy = _unpacked(chain.filters[-1], tcp_proxy_pb2.TcpProxy())
    return proxy.cluster != "blackhole"


def _unpacked(filter_: listener_components_pb2.Filter, into: tcp_proxy_pb2.TcpProxy) -> tcp_proxy_pb2.TcpProxy:
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
        wanted = sidecar.mode_of(port) is not EffectiveMode.STRICT
        assert plaintext_gets_in(beside, port) is wanted, f"sidecar, {port}"
        assert plaintext_gets_in(node, port) is wanted, f"ambient, {port}"
    assert not plaintext_gets_in(beside, 15006)
    assert not plaintext_gets_in(node, 15006)
    assert hbone_demands(beside) == hbone_demands(node)


@given(label_sets(), st.sampled_from([ROOT, "foo", "bar"]), policy_sets(), st.sampled_from(list(Capture)))
def test_both_let_the_same_plaintext_in_and_take_the_same_tunnels(
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
