"""SPIFFE identities of workloads, in the one shape that Istio gives them.

`spiffe://<trust domain>/ns/<namespace>/sa/<service account>`; anything else is not an identity of this mesh.
Source: SPIFFE-ID specification, section 2; Istio, `pkg/spiffe`.
"""

from __future__ import annotations

import re

import msgspec

from peerauth.errors import IdentityError

SCHEME = "spiffe://"
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}\Z")
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]{1,253}\Z")


class SpiffeId(msgspec.Struct, frozen=True, order=True):
    """One workload identity. Equal identities are equal values and sort by trust domain, namespace, account."""

    trust_domain: str
    namespace: str
    service_account: str

    @property
    def uri(self) -> str:
        """The identity as it stands in a certificate's URI subject alternative name."""
        return f"{SCHEME}{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    def __str__(self) -> str:
        return self.uri

    @classmethod
    def parse(cls, uri: str) -> SpiffeId:
        """Reads `spiffe://td/ns/N/sa/S`; raises IdentityError that says which part is wrong."""
        if not uri.startswith(SCHEME):
            raise IdentityError(f"{uri!r} is not a SPIFFE identity", hint=f"it must start with {SCHEME}")
        match uri[len(SCHEME) :].split("/"):
            case [trust_domain, "ns", namespace, "sa", service_account]:
                pass
            case _:
                raise IdentityError(f"{uri!r} is not of the form {SCHEME}<trust domain>/ns/<namespace>/sa/<account>")
        if not _TRUST_DOMAIN.match(trust_domain):
            raise IdentityError(f"{uri!r} has no valid trust domain", hint="lower case letters, digits, '.', '_', '-'")
        for segment in (namespace, service_account):
            if not _SEGMENT.match(segment) or segment in {".", ".."}:
                raise IdentityError(f"{uri!r} has an invalid path segment {segment!r}")
        return cls(trust_domain, namespace, service_account)


def trust_domain_prefix(trust_domain: str) -> str:
    """The prefix that every identity of a trust domain has; the final slash keeps `example.com.evil` out."""
    return f"{SCHEME}{trust_domain}/"
