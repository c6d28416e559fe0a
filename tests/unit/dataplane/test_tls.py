"""The TLS contexts of both directions: what every one of them must hold to, whatever it is for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2

from peerauth.dataplane.ambient.node import NodeProxy, NodeWorkload, render_node
from peerauth.dataplane.envoy import tls
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.envoy.sidecar_values import EgressPort
from peerauth.dataplane.resources import Resources
from peerauth.dataplane.type_urls import CLUSTER, LISTENER
from peerauth.model.inventory import WorkloadKey
from peerauth.model.mesh import DEFAULT_MESH
from peerauth.model.placement import Capture
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.outbound import Transport
from samples.sidecars import CLIENT, FINANCE, decided, sidecar


def upstream(socket: base_pb2.TransportSocket) -> tls_pb2.UpstreamTlsContext | None:
    context = tls_pb2.UpstreamTlsContext()
    return context if socket.typed_config.Unpack(context) else None


def downstream(socket: base_pb2.TransportSocket) -> tls_pb2.DownstreamTlsContext | None:
    context = tls_pb2.DownstreamTlsContext()
    return context if socket.typed_config.Unpack(context) else None


def sockets_of(resources: Resources) -> Iterator[base_pb2.TransportSocket]:
    """Every transport socket of a configuration, of clusters and of filter chains."""
    for body in resources[CLUSTER].values():
        cluster = cluster_pb2.Cluster.FromString(body)
        yield cluster.transport_socket
        yield from (match.transport_socket for match in cluster.transport_socket_matches)
    for body in resources[LISTENER].values():
        listener = listener_pb2.Listener.FromString(body)
        yield from (chain.transport_socket for chain in (*listener.filter_chains, listener.default_filter_chain))


def proxies() -> dict[str, Resources]:
    """A configuration of each kind, with servers that are spoken to in every way."""
    spoken = (Transport.MUTUAL_TLS, Transport.HBONE, Transport.PLAINTEXT)
    egress = tuple(
        EgressPort(f"host{n}", "127.0.0.9", 7000 + n, (DestinationEndpoint("10.0.0.2", 80, transport, FINANCE),))
        for n, transport in enumerate(spoken)
    )
    decision = decided("STRICT", {9090: "PERMISSIVE"})
    place = NodeWorkload(WorkloadKey("foo", "w"), CLIENT, ("10.0.0.7",), decision, "/run/netns/w", (8080,))
    return {
        "sidecar, transparent": render_sidecar(sidecar(decision, capture=Capture.TRANSPARENT)),
        "sidecar, explicit": render_sidecar(sidecar(decision, egress=egress)),
        "node": render_node(NodeProxy((place,))),
    }


@pytest.mark.parametrize("proxy", proxies().values(), ids=proxies())
def test_no_connection_to_a_server_is_resumed_so_that_each_verifies_it(proxy: Resources) -> None:
    """The field must be there: Envoy keeps one session where it is absent."""
    contexts = [context for socket in sockets_of(proxy) if (context := upstream(socket)) is not None]
    assert contexts
    for context in contexts:
        assert context.HasField("max_session_keys")
        assert context.max_session_keys.value == 0


@pytest.mark.parametrize("proxy", proxies().values(), ids=proxies())
def test_no_client_resumes_a_connection_so_that_each_is_verified(proxy: Resources) -> None:
    contexts = [context for socket in sockets_of(proxy) if (context := downstream(socket)) is not None]
    assert contexts
    for context in contexts:
        assert context.disable_stateless_session_resumption
        assert context.disable_stateful_session_resumption
        assert context.require_client_certificate.value


@pytest.mark.parametrize("proxy", proxies().values(), ids=proxies())
def test_every_peer_is_held_to_the_meshs_roots_and_to_a_name(proxy: Resources) -> None:
    for socket in sockets_of(proxy):
        context = upstream(socket) or downstream(socket)
        if context is None:
            continue
        common = context.common_tls_context
        assert common.combined_validation_context.validation_context_sds_secret_config.name == tls.ROOTS_SECRET
        names = common.combined_validation_context.default_validation_context.match_typed_subject_alt_names
        assert names
        for name in names:
            said = name.matcher.exact or name.matcher.prefix
            assert said.startswith("spiffe://cluster.local/"), "of the mesh, and not of a domain that begins alike"
        assert common.tls_params.tls_minimum_protocol_version >= common_pb2.TlsParameters.TLSv1_2


def test_hbone_is_spoken_in_tls_1_3_and_http_2_only() -> None:
    sockets = (
        tls.hbone_server_socket(DEFAULT_MESH),
        tls.hbone_client_socket(DEFAULT_MESH, certificate=CLIENT.uri),
    )
    for made in sockets:
        context = upstream(made) or downstream(made)
        assert context is not None
        common = context.common_tls_context
        assert common.tls_params.tls_minimum_protocol_version == common_pb2.TlsParameters.TLSv1_3
        assert list(common.alpn_protocols) == ["h2"]
