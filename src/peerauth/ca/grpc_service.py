"""Istio's certificate service over gRPC: what ztunnel and istio-agent call to have their requests signed.

Who calls is the `authenticate` function's to say, before the message is looked at. What a caller is told of a refused
identity is always the same sentence, so that nobody learns from it which workloads exist; the reason goes to the log.

Source: wire.md sections 2.1 to 2.3. ztunnel takes the first element for the leaf and the last for the roots, and wants
two at least; it asks for a workload of its node by `ImpersonatedIdentity` in the request's metadata.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import timedelta
from typing import NoReturn, Protocol

import grpc
from google.protobuf.message import DecodeError

from peerauth.ca.attest import Caller, impersonation
from peerauth.ca.service import CertificateAuthority
from peerauth.errors import IdentityError
from peerauth.identity.csr import CsrRefusal, IssuedCertificate, RefusalKind
from peerauth.identity.spiffe import SpiffeId
from peerauth.proto import citadel_pb2 as pb

SERVICE = "istio.v1.auth.IstioCertificateService"
METHOD = "CreateCertificate"
IMPERSONATED = "ImpersonatedIdentity"

NOT_AUTHENTICATED = "request authenticate failure"
NOT_ENTITLED = "request impersonation authentication failure"

_CODES = {
    RefusalKind.MALFORMED: grpc.StatusCode.INVALID_ARGUMENT,
    RefusalKind.KEY: grpc.StatusCode.INVALID_ARGUMENT,
    RefusalKind.PROOF: grpc.StatusCode.INVALID_ARGUMENT,
    RefusalKind.LIFETIME: grpc.StatusCode.INVALID_ARGUMENT,
    RefusalKind.ENTITLEMENT: grpc.StatusCode.UNAUTHENTICATED,
    RefusalKind.AUTHORITY: grpc.StatusCode.INTERNAL,
}
# The field is a signed 64-bit number; longer than this no lifetime is meant, and a timedelta cannot hold it.
_MAX_SECONDS = 100 * 365 * 24 * 3600

_log = logging.getLogger(__name__)


class Context(Protocol):
    """What is used of gRPC's servicer context."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn: ...


Authenticate = Callable[[Context], Awaitable[Caller | None]]
"""Who calls, by what came with the call; None for a stranger."""

Placed = Callable[[str], Collection[SpiffeId]]
"""The identities of the workloads that the control plane has placed on a node, by the node's name."""


class CertificateService:
    """One authority's gRPC service: `handler` is what a server takes. `placed` is asked at each request."""

    def __init__(self, authority: CertificateAuthority, *, authenticate: Authenticate, placed: Placed) -> None:
        self._authority = authority
        self._authenticate = authenticate
        self._placed = placed

    def handler(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        """Bytes in, bytes out."""
        method = grpc.unary_unary_rpc_method_handler(self._create)
        return grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})

    async def _create(self, data: bytes, context: Context) -> bytes:
        caller = await self._authenticate(context)
        if caller is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, NOT_AUTHENTICATED)
        try:
            request = pb.IstioCertificateRequest.FromString(data)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the message is not a certificate request")
        try:
            answer = await self._answer(request, caller=caller)
        except IdentityError:
            _log.exception("the certificate for %s does not verify and is not handed out", caller.identity)
            await context.abort(grpc.StatusCode.INTERNAL, "the authority could not make the certificate")
        if isinstance(answer, CsrRefusal):
            _log.warning("refused a certificate to %s (node %r): %s", caller.identity, caller.node, answer.reason)
            entitled = answer.kind is not RefusalKind.ENTITLEMENT
            await context.abort(_CODES[answer.kind], answer.reason if entitled else NOT_ENTITLED)
        return _response(answer)

    async def _answer(self, request: pb.IstioCertificateRequest, *, caller: Caller) -> IssuedCertificate | CsrRefusal:
        identity = self._identity(request, caller=caller)
        if isinstance(identity, CsrRefusal):
            return identity
        seconds = request.validity_duration
        if abs(seconds) > _MAX_SECONDS:
            return CsrRefusal(f"a lifetime of {seconds} s is out of bounds", RefusalKind.LIFETIME)
        lifetime = timedelta(seconds=seconds) if seconds else None
        return await self._authority.sign(request.csr.encode(), caller=identity, lifetime=lifetime)

    def _identity(self, request: pb.IstioCertificateRequest, *, caller: Caller) -> SpiffeId | CsrRefusal:
        """Whom the certificate is for: the caller, or the workload that it asks for by name."""
        if IMPERSONATED not in request.metadata.fields:
            return caller.identity
        return impersonation(
            caller,
            requested=request.metadata.fields[IMPERSONATED].string_value,
            trust_domain=self._authority.trust_domain,
            placed=self._placed(caller.node) if caller.node else (),
        )


def _response(issued: IssuedCertificate) -> bytes:
    chain = [pem.decode() for pem in issued.chain]
    return pb.IstioCertificateResponse(cert_chain=[*chain, issued.roots_pem.decode()]).SerializeToString()
