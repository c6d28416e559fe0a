"""The TLS of both directions: who must present what, and what is checked of it.

Certificates come from the agent over SDS, under Istio's names `default` (chain, key) and `ROOTCA` (the mesh's roots).
While either is missing the sidecar has no port open at all, not even one that is DISABLE: nothing is served half.
Sessions are never resumed on the server: a resumed session is not verified again, so a client whose root was taken away
would stay welcome until its ticket ends. Facts: Istio's `pilot/pkg/security/authn`; ALPN as stock Envoy can keep it
(`istio-peer-exchange` is matched but never offered: its preamble needs a filter that stock Envoy lacks).

What depends on the mesh configuration alone is made once for all workloads: such a message is to be put into others,
which copies it, and never to be changed.
"""

from __future__ import annotations

from functools import lru_cache

from envoy.config.core.v3 import base_pb2, config_source_pb2, grpc_service_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from envoy.type.matcher.v3 import string_pb2
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message

from peerauth.identity.spiffe import trust_domain_prefix
from peerauth.model.mesh import MeshConfig, TlsVersion

SDS_CLUSTER = "sds-grpc"
CERTIFICATE_SECRET = "default"  # noqa: S105  the name of a secret, not one
ROOTS_SECRET = "ROOTCA"  # noqa: S105  the name of a secret, not one

ISTIO_ALPN = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")
"""What a mesh client's ClientHello carries: by these a PERMISSIVE port tells it from the application's own TLS."""
SERVER_ALPN = ("h2", "http/1.1")
CLIENT_ALPN = ("istio",)
HBONE_ALPN = ("h2",)

HANDSHAKE_TIMEOUT_S = 10
"""How long a server waits for a client's handshake to come to its end."""

DEFAULT_CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
)
_V1_2 = common_pb2.TlsParameters.TLSv1_2
_V1_3 = common_pb2.TlsParameters.TLSv1_3


@lru_cache(maxsize=64)
def server_socket(mesh: MeshConfig) -> base_pb2.TransportSocket:
    """Mutual TLS of the mesh, terminated: any client of the trust domain or an alias of it, no one else."""
    least = _V1_3 if mesh.min_tls_version is TlsVersion.TLSV1_3 else _V1_2
    return _server(
        _common(_of_the_mesh(mesh), alpn=SERVER_ALPN, least=least, ciphers=mesh.cipher_suites or DEFAULT_CIPHERS)
    )


@lru_cache(maxsize=64)
def hbone_server_socket(mesh: MeshConfig, *, certificate: str = CERTIFICATE_SECRET) -> base_pb2.TransportSocket:
    """HBONE's outer TLS: as `server_socket`, but TLS 1.3 and HTTP/2 only. `certificate` names the server's secret."""
    return _server(_common(_of_the_mesh(mesh), alpn=HBONE_ALPN, least=_V1_3, certificate=certificate))


@lru_cache(maxsize=64)
def client_socket(mesh: MeshConfig) -> base_pb2.TransportSocket:
    """Mutual TLS to a server of the mesh: the connection's filter state says whom it must be.

    What the filter state says is checked beside what is checked here, which by itself admits the mesh and no more.
    """
    return _client(_common(_of_the_mesh(mesh), alpn=CLIENT_ALPN, least=_V1_2, ciphers=DEFAULT_CIPHERS))


@lru_cache(maxsize=64)
def hbone_client_socket(mesh: MeshConfig, *, certificate: str = CERTIFICATE_SECRET) -> base_pb2.TransportSocket:
    """HBONE's outer TLS, as `client_socket`. `certificate` names the client's secret."""
    return _client(_common(_of_the_mesh(mesh), alpn=HBONE_ALPN, least=_V1_3, certificate=certificate))


def raw_socket() -> base_pb2.TransportSocket:
    """No TLS."""
    return base_pb2.TransportSocket(
        name="envoy.transport_sockets.raw_buffer", typed_config=packed(raw_buffer_pb2.RawBuffer())
    )


def packed(message: Message) -> any_pb2.Any:
    """A message in an Any, serialized the same way each time."""
    wrapped = any_pb2.Any()
    wrapped.Pack(message, deterministic=True)
    return wrapped


def _of_the_mesh(mesh: MeshConfig) -> list[common_pb2.SubjectAltNameMatcher]:
    domains = (mesh.trust_domain, *sorted(set(mesh.trust_domain_aliases) - {mesh.trust_domain}))
    return [
        common_pb2.SubjectAltNameMatcher(
            san_type=common_pb2.SubjectAltNameMatcher.URI,
            matcher=string_pb2.StringMatcher(prefix=trust_domain_prefix(domain)),
        )
        for domain in domains
    ]


def _common(
    names: list[common_pb2.SubjectAltNameMatcher],
    *,
    alpn: tuple[str, ...],
    least: common_pb2.TlsParameters.TlsProtocol.ValueType,
    ciphers: tuple[str, ...] = (),
    certificate: str = CERTIFICATE_SECRET,
) -> tls_pb2.CommonTlsContext:
    return tls_pb2.CommonTlsContext(
        tls_params=common_pb2.TlsParameters(
            tls_minimum_protocol_version=least, tls_maximum_protocol_version=_V1_3, cipher_suites=ciphers
        ),
        tls_certificate_sds_secret_configs=[_secret(certificate)],
        combined_validation_context=tls_pb2.CommonTlsContext.CombinedCertificateValidationContext(
            default_validation_context=common_pb2.CertificateValidationContext(match_typed_subject_alt_names=names),
            validation_context_sds_secret_config=_secret(ROOTS_SECRET),
        ),
        alpn_protocols=alpn,
    )


def _server(common: tls_pb2.CommonTlsContext) -> base_pb2.TransportSocket:
    context = tls_pb2.DownstreamTlsContext(
        common_tls_context=common,
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
    )
    context.require_client_certificate.value = True
    return base_pb2.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def _client(common: tls_pb2.CommonTlsContext) -> base_pb2.TransportSocket:
    context = tls_pb2.UpstreamTlsContext(common_tls_context=common)
    context.max_session_keys.value = 0  # no resumption: the server is verified on every connection
    return base_pb2.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def _secret(name: str) -> secret_pb2.SdsSecretConfig:
    api = config_source_pb2.ApiConfigSource(
        api_type=config_source_pb2.ApiConfigSource.GRPC,
        transport_api_version=config_source_pb2.V3,
        grpc_services=[
            grpc_service_pb2.GrpcService(envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=SDS_CLUSTER))
        ],
        set_node_on_first_message_only=True,
    )
    source = config_source_pb2.ConfigSource(
        api_config_source=api,
        resource_api_version=config_source_pb2.V3,
        initial_fetch_timeout=duration_pb2.Duration(),  # for ever: no secret, no port
    )
    return secret_pb2.SdsSecretConfig(name=name, sds_config=source)
