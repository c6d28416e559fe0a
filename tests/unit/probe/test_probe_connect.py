"""The probe against servers that behave as proxies and applications do: each outcome, and what it must not claim."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from peerauth.agent import echo
from peerauth.policy.reception import ClientKind
from peerauth.probe import (
    Attempt,
    ClientCertificate,
    Credentials,
    Outcome,
    ProbeTarget,
    RefusedBy,
    attempt,
    foreign_certificate,
    reading,
)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SERVER = "spiffe://cluster.local/ns/foo/sa/finance"
CLIENT = "spiffe://cluster.local/ns/foo/sa/web"
HELLO = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"
TLS_KINDS = [
    *(ClientKind.TLS, ClientKind.ISTIO_ALPN_NO_CERT, ClientKind.MTLS, ClientKind.MTLS_NO_ALPN),
    *(ClientKind.OTHER_CA, ClientKind.OTHER_DOMAIN),
]


class Mesh:
    """An authority, and the certificates that it issued."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "mesh")])
        self._root = self._certificate(self._name, self._key, self._name, authority=True)
        self.roots = self._root.public_bytes(Encoding.PEM)

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, *, authority: bool,
        uri: str = "", ended: bool = False,
    ) -> x509.Certificate:  # fmt: skip
        now = datetime.datetime.now(datetime.UTC)
        hour = datetime.timedelta(hours=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 3 * hour)
            .not_valid_after(now - hour if ended else now + hour)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if uri:
            names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
            builder = builder.add_extension(names, critical=True)
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, uri: str, *, ended: bool = False) -> ClientCertificate:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._certificate(x509.Name([]), key, self._name, authority=False, uri=uri, ended=ended)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return ClientCertificate(chain=leaf.public_bytes(Encoding.PEM) + self.roots, key=pem)

    def credentials(self) -> Credentials:
        return Credentials(
            roots=self.roots,
            mesh=self.issue(CLIENT),
            other_ca=foreign_certificate(CLIENT),
            other_domain=self.issue("spiffe://elsewhere/ns/foo/sa/web"),
        )

    def server_context(
        self, certificate: ClientCertificate, *, alpn: str = "", newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> ssl.SSLContext:
        """As the mesh's proxy: requires a client certificate of this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = newest
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.roots.decode())
        path = self._folder / "server.pem"
        path.write_bytes(certificate.key + certificate.chain)
        context.load_cert_chain(path)
        if alpn:
            context.set_alpn_protocols([alpn])
        return context


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path)


@asynccontextmanager
async def serving(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextmanager
def serving_in_a_thread(context: ssl.SSLContext) -> Iterator[int]:
    """TLS as servers other than asyncio's do it: a refused client is sent an alert before the connection ends."""

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError), context.wrap_socket(client, server_side=True) as tls:
                tls.recv(1 << 16)
                tls.sendall(HELLO)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


async def say_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HELLO)
    await writer.drain()


async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def probe(port: int, kind: ClientKind, mesh: Mesh, *, answer_seconds: float = 5.0) -> Attempt:
    target = ProbeTarget("127.0.0.1", port, hbone_port=port)
    return await attempt(target, kind, mesh.credentials(), answer_seconds=answer_seconds)


async def test_an_application_that_answers_plaintext_is_named(mesh: Mesh) -> None:
    listener = echo.listen_tcp("127.0.0.1", 0)
    port = listener.getsockname()[1]
    async with echo.EchoApplication(listener, workload="foo/finance"):
        seen = await probe(port, ClientKind.PLAINTEXT, mesh)
    assert (seen.outcome, seen.server) == (Outcome.ACCEPTED, "")
    assert f"foo/finance port {port} answered in plaintext" in seen.evidence


@pytest.mark.parametrize("server_first", [False, True])
@pytest.mark.parametrize("kind", TLS_KINDS)
async def test_tls_that_reaches_a_plaintext_application_passed_through(
    mesh: Mesh, kind: ClientKind, server_first: bool
) -> None:
    listener = echo.listen_tcp("127.0.0.1", 0)
    async with echo.EchoApplication(listener, workload="foo/finance", server_first=server_first):
        seen = await probe(listener.getsockname()[1], kind, mesh)
    assert (seen.outcome, seen.how) == (Outcome.PASSED_THROUGH, None)
    assert ("saw the TLS ClientHello" in seen.evidence) is not server_first


async def test_the_probe_knows_the_echo_applications_marker() -> None:
    assert echo.TLS_MARKER == reading.ECHO_TLS_MARKER


async def test_tls_that_reaches_an_unknown_plaintext_application_passed_through(mesh: Mesh) -> None:
    async def bad_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with serving(bad_request) as port:
        seen = await probe(port, ClientKind.MTLS, mesh)
    assert seen.outcome is Outcome.PASSED_THROUGH
    assert "400 Bad Request" in seen.evidence


async def test_an_applications_own_tls_is_not_the_meshs(mesh: Mesh, tmp_path: Path) -> None:
    application = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    foreign = foreign_certificate(SERVER)
    (tmp_path / "application.pem").write_bytes(foreign.key + foreign.chain)
    application.load_cert_chain(tmp_path / "application.pem")
    async with serving(say_hello, application) as port:
        seen = await probe(port, ClientKind.MTLS, mesh)
    assert (seen.outcome, seen.server) == (Outcome.PASSED_THROUGH, "")
    assert "not of this mesh" in seen.evidence


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_mesh_proxy_accepts_the_meshs_certificate_and_refuses_others_with_an_alert(
    mesh: Mesh, newest: ssl.TLSVersion
) -> None:
    with serving_in_a_thread(mesh.server_context(mesh.issue(SERVER), newest=newest)) as port:
        for kind in (ClientKind.MTLS, ClientKind.MTLS_NO_ALPN):
            accepted = await probe(port, kind, mesh)
            assert (accepted.outcome, accepted.server) == (Outcome.ACCEPTED, SERVER)
        for kind in (ClientKind.TLS, ClientKind.ISTIO_ALPN_NO_CERT, ClientKind.OTHER_CA):
            refused = await probe(port, kind, mesh)
            assert (refused.outcome, refused.how) == (Outcome.REFUSED, RefusedBy.ALERT), refused.evidence
        assert "unknown_ca" in refused.evidence


async def test_a_proxy_that_admits_tls_without_a_certificate_is_reported_as_such(mesh: Mesh) -> None:
    context = mesh.server_context(mesh.issue(SERVER))
    context.verify_mode = ssl.CERT_NONE
    async with serving(say_hello, context) as port:
        seen = await probe(port, ClientKind.TLS, mesh)
    assert seen.outcome is Outcome.ACCEPTED
    assert "without a certificate" in seen.evidence


async def test_a_server_certificate_that_has_ended_proves_nothing(mesh: Mesh) -> None:
    async with serving(say_hello, mesh.server_context(mesh.issue(SERVER, ended=True))) as port:
        seen = await probe(port, ClientKind.MTLS, mesh)
    assert seen.outcome is Outcome.UNVERIFIED
    assert "expired" in seen.evidence


@pytest.mark.parametrize("kind", ClientKind)
async def test_a_hang_is_no_answer_and_not_a_refusal(mesh: Mesh, kind: ClientKind) -> None:
    async with serving(stay_silent) as port:
        seen = await probe(port, kind, mesh, answer_seconds=0.1)
    assert (seen.outcome, seen.how) == (Outcome.NO_ANSWER, None)


async def test_a_hang_after_the_handshake_is_no_answer(mesh: Mesh) -> None:
    async with serving(stay_silent, mesh.server_context(mesh.issue(SERVER))) as port:
        seen = await probe(port, ClientKind.MTLS, mesh, answer_seconds=0.5)
    assert (seen.outcome, seen.server) == (Outcome.NO_ANSWER, SERVER)


@pytest.mark.parametrize("kind", ClientKind)
async def test_a_close_without_a_byte_and_a_reset_are_refusals(mesh: Mesh, kind: ClientKind) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        linger_zero = (1).to_bytes(4, "little") + bytes(4)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)

    async with serving(close) as port:
        closed = await probe(port, kind, mesh)
    async with serving(reset) as port:
        was_reset = await probe(port, kind, mesh)
    assert (closed.outcome, closed.how) == (Outcome.REFUSED, RefusedBy.CLOSED)
    assert (was_reset.outcome, was_reset.how) == (Outcome.REFUSED, RefusedBy.RESET)


@pytest.mark.parametrize("kind", ClientKind)
async def test_a_port_on_which_nothing_listens_is_unreachable_and_not_refused(mesh: Mesh, kind: ClientKind) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        seen = await probe(unused.getsockname()[1], kind, mesh)
    assert (seen.outcome, seen.how) == (Outcome.UNREACHABLE, None)
    assert "Connection refused" in seen.evidence


async def test_a_full_backlog_is_unreachable(mesh: Mesh) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        target = ProbeTarget("127.0.0.1", full.getsockname()[1])
        with socket.create_connection(full.getsockname()):
            seen = await attempt(target, ClientKind.PLAINTEXT, mesh.credentials(), connect_seconds=0.1)
    assert seen.outcome is Outcome.UNREACHABLE
    assert "within 0.1 s" in seen.evidence


async def test_an_application_that_speaks_first_has_answered(mesh: Mesh) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x4a\x00\x00\x00\x0a8.0.36\x00")
        await reader.read()

    async with serving(greet) as port:
        assert (await probe(port, ClientKind.PLAINTEXT, mesh)).outcome is Outcome.ACCEPTED
    async with serving(greet, mesh.server_context(mesh.issue(SERVER))) as port:
        assert (await probe(port, ClientKind.MTLS, mesh)).outcome is Outcome.ACCEPTED


def tunnel_server(status: str, *, answer: bytes = HELLO, reset: bool = False, at_once: bool = False) -> Handler:
    """`at_once`: the answer does not wait for a word, and the stream's end not for the answer."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, validate_inbound_headers=False)
        )
        connection.initiate_connection()
        while data := await reader.read(1 << 16):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    assert dict(event.headers or ())[b":method"] == b"CONNECT"
                    if reset:
                        connection.reset_stream(event.stream_id or 1)
                    else:
                        connection.send_headers(event.stream_id or 1, [(":status", status)])
                    if at_once:
                        connection.send_data(event.stream_id or 1, answer)
                        connection.reset_stream(event.stream_id or 1)
                elif isinstance(event, h2.events.DataReceived) and event.data:
                    assert event.data.startswith(b"GET ")
                    connection.send_data(event.stream_id or 1, answer, end_stream=True)
            writer.write(connection.data_to_send())

    return converse


async def hbone(mesh: Mesh, handler: Handler) -> Attempt:
    async with serving(handler, mesh.server_context(mesh.issue(SERVER), alpn="h2")) as port:
        return await probe(port, ClientKind.HBONE, mesh)


async def test_hbone_is_accepted_when_the_application_answers_through_the_tunnel(mesh: Mesh) -> None:
    seen = await hbone(mesh, tunnel_server("200"))
    assert (seen.outcome, seen.server) == (Outcome.ACCEPTED, SERVER)
    assert "through the tunnel" in seen.evidence


async def test_a_tunnel_that_is_not_opened_or_that_ends_without_a_byte_is_a_refusal(mesh: Mesh) -> None:
    denied = await hbone(mesh, tunnel_server("403"))
    assert (denied.outcome, denied.how) == (Outcome.REFUSED, RefusedBy.STATUS)
    assert "403" in denied.evidence
    assert (await hbone(mesh, tunnel_server("200", reset=True))).how is RefusedBy.STATUS
    assert (await hbone(mesh, tunnel_server("200", answer=b""))).how is RefusedBy.CLOSED


@pytest.mark.parametrize(
    ("answer", "outcome", "how"), [(b"", Outcome.REFUSED, RefusedBy.STATUS), (HELLO, Outcome.ACCEPTED, None)]
)
async def test_a_tunnel_that_is_opened_and_over_in_one_breath_is_judged_by_what_came_through(
    mesh: Mesh, answer: bytes, outcome: Outcome, how: RefusedBy | None
) -> None:
    """As an application that speaks first and leaves at once, or that only leaves."""

    seen = await hbone(mesh, tunnel_server("200", answer=answer, at_once=True))
    assert (seen.outcome, seen.how) == (outcome, how)


async def test_hbone_without_a_certificate_is_refused_with_an_alert(mesh: Mesh) -> None:
    with serving_in_a_thread(mesh.server_context(mesh.issue(SERVER), alpn="h2")) as port:
        seen = await probe(port, ClientKind.HBONE_NO_CERT, mesh)
    assert (seen.outcome, seen.how) == (Outcome.REFUSED, RefusedBy.ALERT)


async def test_what_is_not_http2_behind_the_tunnels_port_is_unverified(mesh: Mesh) -> None:
    async def speak_http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await reader.read()

    assert (await hbone(mesh, speak_http1)).outcome is Outcome.UNVERIFIED


async def test_keys_do_not_show_and_leave_no_file(mesh: Mesh) -> None:
    credentials = mesh.credentials()
    assert "PRIVATE KEY" not in repr(credentials)


async def test_a_kind_whose_certificate_was_not_given_or_is_broken_is_the_callers_error(mesh: Mesh) -> None:
    whole = mesh.credentials()
    target = ProbeTarget("127.0.0.1", 1)
    without = Credentials(roots=whole.roots, mesh=whole.mesh, other_ca=whole.other_ca)
    for kind in (ClientKind.OTHER_DOMAIN, ClientKind.HBONE_OTHER_DOMAIN):
        with pytest.raises(ValueError, match="another trust domain"):
            await attempt(target, kind, without)
    truncated = ClientCertificate(chain=whole.mesh.chain[:200], key=whole.mesh.key)
    broken = Credentials(roots=whole.roots, mesh=truncated, other_ca=whole.other_ca)
    with pytest.raises(ValueError, match="cannot use the certificates"):
        await attempt(target, ClientKind.MTLS, broken)
