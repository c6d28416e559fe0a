"""The certificates that the probe presents: given ones of the mesh, and foreign ones that it makes in memory.

Private keys are values here; they touch the file system only as anonymous memory (memfd), because the ssl module
loads them from paths. Nothing is logged.
"""

from __future__ import annotations

import msgspec


class ClientCertificate(msgspec.Struct, frozen=True):
    """A certificate chain (leaf first) and its unencrypted private key, both PEM."""

    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return "ClientCertificate(...)"


class Credentials(msgspec.Struct, frozen=True):
    """Everything the probe can present.

    `roots` (PEM) are the mesh's, to tell the mesh's proxy from an application's own TLS. `mesh` was issued by the
    mesh's authority; `other_domain` too, but for another trust domain (None: that kind is not tried). `other_ca` is
    from `foreign_certificate`.
    """

    roots: bytes
    mesh: ClientCertificate
    other_ca: ClientCertificate
    other_domain: ClientCertificate | None = None


def foreign_certificate(spiffe_uri: str) -> ClientCertificate:
    """A certificate for this identity from an authority made on the spot: everything is right but the signer."""
    raise NotImplementedError
