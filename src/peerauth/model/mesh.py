"""The parts of Istio's MeshConfig that decide about incoming connections.

Source: Istio's MeshConfig reference: `rootNamespace`, `trustDomain`, `trustDomainAliases`, `enableAutoMtls`,
`meshMTLS`, `protocolDetectionTimeout`.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

import msgspec

from peerauth.model.meta import NOWHERE, Origin


class TlsVersion(StrEnum):
    """`meshMTLS.minProtocolVersion`; TLS_AUTO is 1.2, as in Istio."""

    TLS_AUTO = "TLS_AUTO"
    TLSV1_2 = "TLSV1_2"
    TLSV1_3 = "TLSV1_3"


class MeshConfig(msgspec.Struct, frozen=True):
    """One mesh. `cipher_suites` empty means the proxies' default list.

    `protocol_detection_timeout` is how long a PERMISSIVE port waits for the first bytes of a client that may be
    silent (a server-first protocol) before it is treated as plaintext.
    """

    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    enable_auto_mtls: bool = True
    min_tls_version: TlsVersion = TlsVersion.TLS_AUTO
    cipher_suites: tuple[str, ...] = ()
    protocol_detection_timeout: timedelta = timedelta(seconds=5)
    origin: Origin = NOWHERE


DEFAULT_MESH = MeshConfig()
