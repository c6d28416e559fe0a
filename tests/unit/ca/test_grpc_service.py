"""The certificate service over a real socket: whom it signs for, in what form, and how it says no."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from google.protobuf import struct_pb2

from peerauth.ca import service as authority_module
from peerauth.ca.attest import Caller, impersonation
from peerauth.ca.grpc_service import METHOD, NOT_AUTHENTICATED, NOT_ENTITLED, SERVICE, CertificateService, Context
from peerauth.ca.service import CertificateAuthority
from peerauth.errors import IdentityError
from peerauth.identity.csr import CsrRefusal, make_csr
from peerauth.identity.spiffe import SpiffeId
from peerauth.identity.x509 import MAX_SVID_LIFETIME, verify_svid
from peerauth.proto import citadel_pb2 as pb
from samples.pki import FINANCE, NOW, TRUST_DOMAIN, WEB, Clock, make_issuer, make_key, make_root

KEY = make_key()
AGENT = SpiffeId(TRUST_DOMAIN, "istio-system", "ztunnel")
CALLERS = {"agent": Caller(AGENT, "n1"), "finance": Caller(FINANCE)}


class Service:
    """A running service; callers name themselves in the authorization header, and finance is placed on n1."""

    def __init__(self, folder: Path) -> None:
        _, other = make_root()
        self.issuer = make_issuer(also_trusted=(other,))
        self.placed = {"n1": {FINANCE}}
        authority = CertificateAuthority(self.issuer, trust_domain=TRUST_DOMAIN, now=Clock())
        service = CertificateService(
            authority, authenticate=self._authenticate, placed=lambda node: self.placed.get(node, set())
        )
        self.server = grpc.aio.server()
        self.server.add_generic_rpc_handlers((service.handler(),))
        self.server.add_insecure_port(f"unix:{folder / 'ca'}")
        self.channel = grpc.aio.insecure_channel(f"unix:{folder / 'ca'}")

    async def _authenticate(self, context: Context) -> Caller | None:
        said = dict(context.invocation_metadata() or ())
        return CALLERS.get(str(said.get("authorization", "")))

    async def ask(self, caller: str, request: pb.IstioCertificateRequest | bytes) -> list[str]:
        data = request if isinstance(request, bytes) else request.SerializeToString()
        call = self.channel.unary_unary(f"/{SERVICE}/{METHOD}", request_serializer=None, response_deserializer=None)
        answer = await call(data, metadata=(("authorization", caller),))
        assert isinstance(answer, bytes)
        return list(pb.IstioCertificateResponse.FromString(answer).cert_chain)

    async def refusal(self, caller: str, request: pb.IstioCertificateRequest | bytes) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.ask(caller, request)
        return caught.value.code(), caught.value.details() or ""


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = Service(tmp_path)
    await made.server.start()
    yield made
    await made.channel.close(None)
    await made.server.stop(None)


def request(
    identity: SpiffeId = FINANCE, *, impersonated: str | None = None, seconds: int = 0
) -> pb.IstioCertificateRequest:
    made = pb.IstioCertificateRequest(csr=make_csr(KEY, identity).decode(), validity_duration=seconds)
    if impersonated is not None:
        made.metadata.update({"ImpersonatedIdentity": impersonated})
    return made


async def test_a_nodes_proxy_gets_a_placed_workloads_certificate_leaf_first_and_all_roots_last(
    service: Service,
) -> None:
    leaf, *between, roots = await service.ask("agent", request(impersonated=FINANCE.uri))
    certificates = [x509.load_pem_x509_certificate(pem.encode()) for pem in (leaf, *between)]
    trusted = x509.load_pem_x509_certificates(roots.encode())
    assert tuple(trusted) == service.issuer.roots
    path = verify_svid(
        certificates[0],
        intermediates=certificates[1:],
        roots=trusted,
        identity=FINANCE,
        public_key=KEY.public_key(),
        now=NOW,
    )
    assert len(path) == 3


async def test_a_workload_gets_its_own(service: Service) -> None:
    assert len(await service.ask("finance", request())) == 3


async def test_the_lifetime_asked_for_is_given(service: Service) -> None:
    leaf = x509.load_pem_x509_certificate((await service.ask("finance", request(seconds=600)))[0].encode())
    assert leaf.not_valid_after_utc == NOW.replace(microsecond=0) + timedelta(minutes=10)


@pytest.mark.parametrize(
    "wanted",
    [
        WEB.uri,  # not placed on the node
        AGENT.uri,
        SpiffeId("elsewhere", "foo", "finance").uri,
        "finance",
        "",
        "spiffe://cluster.local/ns/foo/sa/finance/more",
    ],
)
async def test_a_nodes_proxy_gets_nobody_elses_and_is_not_told_why(
    service: Service, wanted: str, caplog: pytest.LogCaptureFixture
) -> None:
    refused = await service.refusal("agent", request(impersonated=wanted))
    assert refused == (grpc.StatusCode.UNAUTHENTICATED, NOT_ENTITLED)
    assert str(AGENT) in caplog.text


async def test_another_type_than_text_for_the_identity_is_no_identity(service: Service) -> None:
    asked = request()
    asked.metadata.fields["ImpersonatedIdentity"].CopyFrom(struct_pb2.Value(number_value=1))
    assert (await service.refusal("agent", asked))[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_a_workload_cannot_ask_for_others_even_by_its_own_name(service: Service) -> None:
    for wanted in (WEB, FINANCE):
        refused = await service.refusal("finance", request(wanted, impersonated=wanted.uri))
        assert refused == (grpc.StatusCode.UNAUTHENTICATED, NOT_ENTITLED)


async def test_a_request_that_names_another_than_the_impersonated_identity_is_refused(service: Service) -> None:
    refused = await service.refusal("agent", request(WEB, impersonated=FINANCE.uri))
    assert refused == (grpc.StatusCode.UNAUTHENTICATED, NOT_ENTITLED)


async def test_a_workload_that_left_the_node_takes_its_identity_along(service: Service) -> None:
    await service.ask("agent", request(impersonated=FINANCE.uri))
    service.placed["n1"].clear()
    refused = await service.refusal("agent", request(impersonated=FINANCE.uri))
    assert refused[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_strangers_are_refused_before_their_message_is_read(service: Service) -> None:
    assert await service.refusal("nobody", b"\xff") == (grpc.StatusCode.UNAUTHENTICATED, NOT_AUTHENTICATED)


@pytest.mark.parametrize(
    "bad",
    [
        b"\xff",
        pb.IstioCertificateRequest(csr="no request"),
        request(seconds=int(MAX_SVID_LIFETIME.total_seconds()) + 1),
        request(seconds=-1),
        request(seconds=2**63 - 1),
        request(seconds=-(2**63)),
    ],
    ids=["bytes", "csr", "too long", "negative", "huge", "hugely negative"],
)
async def test_what_is_wrong_with_a_request_is_an_invalid_argument(
    service: Service, bad: pb.IstioCertificateRequest | bytes
) -> None:
    assert (await service.refusal("finance", bad))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_fault_of_the_authority_is_its_own_and_says_nothing_more(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise IdentityError("the inside of the authority")

    monkeypatch.setattr(authority_module, "verify_svid", broken)
    code, said = await service.refusal("finance", request())
    assert code is grpc.StatusCode.INTERNAL
    assert "inside" not in said


def test_impersonation_needs_a_node_whatever_is_placed() -> None:
    refused = impersonation(Caller(AGENT), requested=FINANCE.uri, trust_domain=TRUST_DOMAIN, placed=[FINANCE])
    assert isinstance(refused, CsrRefusal)
