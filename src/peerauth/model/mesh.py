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


CIPHER_SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "AES256-SHA",
    "AES128-SHA",
)
"""The names that Envoy knows below TLS 1.3: with any other it refuses the whole listener."""


class MeshConfig(msgspec.Struct, frozen=True, gc=False):
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
