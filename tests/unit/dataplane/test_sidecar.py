"""What any rendered sidecar must hold to, whatever was decided."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.network.set_filter_state.v3 import set_filter_state_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from hypothesis import given
from hypothesis import strategies as st

from peerauth.dataplane.assembly import parse_endpoint
from peerauth.dataplane.envoy.parts import PROXY_PORTS
from peerauth.dataplane.envoy.sidecar import render_sidecar
from peerauth.dataplane.envoy.sidecar_values import ApplicationPort, EgressPort, SidecarWorkload
from peerauth.dataplane.type_urls import CLUSTER, LISTENER
from peerauth.model.endpoint import Endpoint
from peerauth.model.placement import Capture
from peerauth.policy.announced import DestinationEndpoint
from peerauth.policy.decision import EffectiveMode
from peerauth.policy.outbound import Transport
from samples.sidecars import FINANCE, decided, sidecar

MODES = ("DISABLE", "PERMISSIVE", "STRICT")
decisions = st.builds(
    decided,
    st.sampled_from(MODES),
    st.dictionaries(st.sampled_from([8080, 9000, 9090, 5432]), st.sampled_from(MODES)),
)
sidecars = st.builds(lambda decision, capture: sidecar(decision, capture=capture), decisions, st.sampled_from(Capture))


def listener_of(workload: SidecarWorkload, name: str) -> listener_pb2.Listener:
    return listener_pb2.Listener.FromString(render_sidecar(workload)[LISTENER][name])


def clusters_of(workload: SidecarWorkload) -> dict[str, cluster_pb2.Cluster]:
    return {name: cluster_pb2.Cluster.FromString(body) for name, body in render_sidecar(workload)[CLUSTER].items()}


def proxy_of(chain: listener_components_pb2.FilterChain) -> tcp_proxy_pb2.TcpProxy:
    proxy = tcp_proxy_pb2.TcpProxy()
    assert chain.filters[-1].typed_config.Unpack(proxy)
    return proxy


def tls_of(chain: listener_components_pb2.FilterChain) -> tls_pb2.DownstreamTlsContext | None:
    context = tls_pb2.DownstreamTlsContext()
    return context if chain.transport_socket.typed_config.Unpack(context) else None


def changed(before: SidecarWorkload, after: SidecarWorkload) -> set[str]:
    """The names of the resources whose bytes differ."""
    old, new = render_sidecar(before), render_sidecar(after)
    names = {name for kind in (CLUSTER, LISTENER) for name in (*old[kind], *new[kind])}
    return {name for name in names for kind in (CLUSTER, LISTENER) if old[kind].get(name) != new[kind].get(name)}


@given(sidecars)
def test_a_strict_port_has_no_way_to_the_application_but_through_a_verified_certificate(
    workload: SidecarWorkload,
) -> None:
    for name in render_sidecar(workload)[LISTENER]:
        label = {"virtualInbound": "any"}.get(name, name.removeprefix("inbound_"))
        port = int(label) if label.isdecimal() else None
        if port is None and label != "any":
            continue
        strict = (workload.decision.mode if port is None else workload.decision.mode_of(port)).value == "STRICT"
        for chain in listener_of(workload, name).filter_chains:
            context = tls_of(chain)
            if strict and context is None:
                assert proxy_of(chain).cluster == "blackhole"
            if context is not None:
                assert context.require_client_certificate.value
                assert proxy_of(chain).upstream_connect_mode == tcp_proxy_pb2.ON_DOWNSTREAM_TLS_HANDSHAKE
    assert not clusters_of(workload)["blackhole"].load_assignment.endpoints


@given(sidecars)
def test_every_cluster_that_a_chain_names_exists(workload: SidecarWorkload) -> None:
    clusters = clusters_of(workload)
    for name in render_sidecar(workload)[LISTENER]:
        for chain in listener_of(workload, name).filter_chains:
            if chain.name != "hbone":
                assert proxy_of(chain).cluster in clusters


@pytest.mark.parametrize(
    ("capture", "name"),
    [
        (Capture.EXPLICIT, "inbound_8080"),
        (Capture.TRANSPARENT, "inbound_8080"),
        (Capture.TRANSPARENT, "virtualInbound"),
    ],
)
def test_between_permissive_and_strict_only_the_chains_for_unauthenticated_clients_differ(
    capture: Capture, name: str
) -> None:
    permissive = listener_of(sidecar(decided("PERMISSIVE"), capture=capture), name)
    strict = listener_of(sidecar(decided("STRICT"), capture=capture), name)
    shared = {chain.name for chain in permissive.filter_chains} & {chain.name for chain in strict.filter_chains}
    label = "8080" if name == "inbound_8080" else "any"
    assert f"mtls_{label}" in shared
    assert not shared & {f"plain_{label}", f"tlspass_{label}"}
    for chain_name in shared:
        one, other = (
            next(chain for chain in listener.filter_chains if chain.name == chain_name)
            for listener in (permissive, strict)
        )
        assert one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
    for listener in (permissive, strict):
        del listener.filter_chains[:]
    assert permissive.SerializeToString(deterministic=True) == strict.SerializeToString(deterministic=True)


@pytest.mark.parametrize("capture", Capture)
@given(mode=st.sampled_from(MODES), before=st.sampled_from(MODES), after=st.sampled_from(MODES))
def test_a_port_that_changes_touches_no_other(capture: Capture, mode: str, before: str, after: str) -> None:
    old, new = (sidecar(decided(mode, {8080: port}), capture=capture) for port in (before, after))
    assert changed(old, new) <= {"inbound_8080", "inbound|8080"}
    assert bool(changed(old, new)) == (before != after)


@given(sidecars)
def test_the_reason_alone_changes_no_chain_that_can_hold_a_connection(workload: SidecarWorkload) -> None:
    old = workload.decision
    reasons = tuple(msgspec.structs.replace(reason, policy="foo/renamed") for reason in old.reasons)
    renamed = msgspec.structs.replace(workload, decision=msgspec.structs.replace(old, reasons=reasons))
    for name in changed(workload, renamed) & set(render_sidecar(workload)[LISTENER]):
        before, after = listener_of(workload, name), listener_of(renamed, name)
        for one, other in zip(before.filter_chains, after.filter_chains, strict=True):
            assert one == other or one.name.startswith("refused_")


@given(sidecars, st.integers(min_value=2, max_value=999))
def test_moving_a_policy_in_its_file_touches_nothing(workload: SidecarWorkload, line: int) -> None:
    old = workload.decision
    reasons = tuple(
        msgspec.structs.replace(reason, origin=msgspec.structs.replace(reason.origin, line=line))
        for reason in old.reasons
    )
    moved = msgspec.structs.replace(workload, decision=msgspec.structs.replace(old, reasons=reasons))
    assert not changed(workload, moved)


@pytest.mark.parametrize("capture", Capture)
def test_disable_waits_for_no_byte_of_the_client(capture: Capture) -> None:
    listener = listener_of(sidecar(decided("DISABLE"), capture=capture), "inbound_8080")
    assert not listener.listener_filters
    assert [chain.name for chain in listener.filter_chains] == ["disabled_8080"]


def test_what_catches_the_rest_does_not_look_into_ports_that_have_a_listener() -> None:
    workload = sidecar(decided("STRICT", {9090: "DISABLE"}), capture=Capture.TRANSPARENT)
    inspector = listener_of(workload, "virtualInbound").listener_filters[-1]
    skipped = {rule.destination_port_range.start for rule in inspector.filter_disabled.or_match.rules}
    assert {8080, 9000, 9090} <= skipped


def test_explicit_capture_serves_declared_ports_only() -> None:
    names = set(render_sidecar(sidecar(decided("STRICT", {9090: "DISABLE"})))[LISTENER])
    assert names == {"inbound_8080", "inbound_9000", "hbone"}


@pytest.mark.parametrize("own_port", PROXY_PORTS)
@pytest.mark.parametrize("capture", Capture)
@given(mode=st.sampled_from(MODES), said=st.sampled_from(MODES))
def test_what_is_said_of_the_sidecars_own_ports_changes_nothing(
    own_port: int, capture: Capture, mode: str, said: str
) -> None:
    """An entry for 15006 is not one for the ports that nobody declared, which arrive there too."""
    without = sidecar(decided(mode), capture=capture)
    named = sidecar(decided(mode, {own_port: said}), capture=capture)
    declared = sidecar(
        decided(mode, {own_port: said}), capture=capture, declared=(*without.declared, ApplicationPort(own_port))
    )
    assert changed(without, named) == set()
    assert changed(without, declared) == set()


@pytest.mark.parametrize(("mode", "to"), [("STRICT", "blackhole"), ("PERMISSIVE", "inbound|any")])
def test_dialling_the_sidecars_own_port_leads_nowhere_whatever_undeclared_ports_do(mode: str, to: str) -> None:
    listener = listener_of(sidecar(decided(mode, {15006: "DISABLE"}), capture=Capture.TRANSPARENT), "virtualInbound")
    plain = [chain for chain in listener.filter_chains if tls_of(chain) is None]
    by_port = {
        chain.filter_chain_match.destination_port.value: proxy_of(chain).cluster
        for chain in plain
        if chain.filter_chain_match.transport_protocol in {"", "raw_buffer"}
    }
    assert by_port == {15006: "blackhole", 0: to}


def test_an_endpoint_that_is_the_sidecar_itself_gets_no_connection() -> None:
    declared = (ApplicationPort(8080), ApplicationPort(9000, Endpoint("127.77.0.1", 8080)))
    clusters = clusters_of(sidecar(decided("DISABLE"), declared=declared))
    assert not clusters["inbound|8080"].load_assignment.endpoints
    assert not clusters["inbound|9000"].load_assignment.endpoints


@pytest.mark.parametrize("port", PROXY_PORTS)
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.9.9.9", "[::1]", "0.0.0.0", "[::]", "10.0.0.7", "[::ffff:127.0.0.1]"],  # noqa: S104
)
def test_a_default_endpoint_at_one_of_the_sidecars_own_ports_leads_nowhere(host: str, port: int) -> None:
    """It has them on every address of the workload's namespace: connecting there would go round for ever."""
    endpoint = parse_endpoint(f"{host}:{port}", own="10.0.0.7")
    workload = sidecar(
        decided("PERMISSIVE"),
        capture=Capture.TRANSPARENT,
        addresses=("10.0.0.7", "fd00::7"),
        declared=(
            ApplicationPort(8080, endpoint),
            ApplicationPort(9000, parse_endpoint("127.0.0.1:9000", own="10.0.0.7")),
        ),
    )
    clusters = clusters_of(workload)
    assert not clusters["inbound|8080"].load_assignment.endpoints
    assert clusters["inbound|8080"].type == cluster_pb2.Cluster.STATIC, "nor to where the client was going"
    assert clusters["inbound|9000"].load_assignment.endpoints


def test_the_application_may_have_the_same_port_at_another_address() -> None:
    declared = (
        ApplicationPort(8080, Endpoint("127.78.0.1", 8080)),
        ApplicationPort(9000, Endpoint("127.77.0.1", 7777)),
    )
    clusters = clusters_of(sidecar(decided("DISABLE"), declared=declared))
    assert clusters["inbound|8080"].load_assignment.endpoints
    assert clusters["inbound|9000"].load_assignment.endpoints, "nor does the sidecar have every port of its address"


@pytest.mark.parametrize("endpoint", ["192.0.2.1:15006", "127.0.0.1:15007", "unix:///15006"])
def test_a_default_endpoint_that_is_not_the_sidecars_is_gone_to(endpoint: str) -> None:
    declared = (ApplicationPort(8080, parse_endpoint(endpoint, own="10.0.0.7")),)
    workload = sidecar(decided("PERMISSIVE"), capture=Capture.TRANSPARENT, addresses=("10.0.0.7",), declared=declared)
    assert clusters_of(workload)["inbound|8080"].load_assignment.endpoints


@pytest.mark.parametrize("host", ["127.77.0.1", "[::ffff:127.77.0.1]"])
@pytest.mark.parametrize("port", [8080, 9000, *PROXY_PORTS])
def test_in_explicit_capture_a_default_endpoint_at_the_workloads_own_address_leads_nowhere(
    host: str, port: int
) -> None:
    declared = (ApplicationPort(8080, parse_endpoint(f"{host}:{port}", own="127.78.0.1")), ApplicationPort(9000))
    clusters = clusters_of(sidecar(decided("DISABLE"), declared=declared))
    assert not clusters["inbound|8080"].load_assignment.endpoints


def test_the_deciding_reason_travels_with_the_chain_that_refuses() -> None:
    listener = listener_of(sidecar(decided("PERMISSIVE", {8080: "STRICT"})), "inbound_8080")
    refused = next(chain for chain in listener.filter_chains if chain.name == "refused_8080")
    assert dict(refused.metadata.filter_metadata["peerauth"]) == {
        "mode": "STRICT",
        "level": "port",
        "policy": "foo/finance",
    }


def test_the_mode_in_force_wins_over_what_the_reasons_say() -> None:
    """While a change is rolled out, what is in force is looser than what was decided."""
    between = msgspec.structs.replace(decided("STRICT"), mode=EffectiveMode.PERMISSIVE)
    chains = {chain.name for chain in listener_of(sidecar(between), "inbound_8080").filter_chains}
    assert "plain_8080" in chains


def test_an_outbound_server_must_be_who_it_is_expected_to_be() -> None:
    """The endpoint says who that is, and the listener that connects has it checked, beside the mesh's own domains."""
    end = DestinationEndpoint("10.0.0.1", 8080, Transport.MUTUAL_TLS, FINANCE)
    workload = sidecar(decided("STRICT"), egress=(EgressPort("finance", "127.0.0.1", 7001, (end,)),))
    host = clusters_of(workload)["egress|7001|finance"].load_assignment.endpoints[0].lb_endpoints[0]
    assert dict(host.metadata.filter_metadata["peerauth"]) == {"san": FINANCE.uri}
    hop = listener_of(workload, host.endpoint.address.envoy_internal_address.server_listener_name)
    says, proxy = hop.filter_chains[0].filters
    state, to = set_filter_state_pb2.Config(), tcp_proxy_pb2.TcpProxy()
    assert says.typed_config.Unpack(state)
    assert proxy.typed_config.Unpack(to)
    expected = state.on_new_connection[0]
    assert expected.object_key == "envoy.network.upstream_subject_alt_names"
    assert expected.format_string.text_format_source.inline_string == "%DYNAMIC_METADATA(peerauth:san)%"
    context = tls_pb2.UpstreamTlsContext()
    assert clusters_of(workload)[to.cluster].transport_socket.typed_config.Unpack(context)
    validation = context.common_tls_context.combined_validation_context.default_validation_context
    assert [name.matcher.prefix for name in validation.match_typed_subject_alt_names] == ["spiffe://cluster.local/"]


def test_an_endpoint_without_an_expected_identity_cannot_be_spoken_to_in_mutual_tls() -> None:
    end = DestinationEndpoint("10.0.0.1", 8080, Transport.MUTUAL_TLS)
    with pytest.raises(ValueError, match="no identity is expected"):
        render_sidecar(sidecar(decided("STRICT"), egress=(EgressPort("finance", "127.0.0.1", 7001, (end,)),)))


def test_equal_sidecars_are_equal_bytes_in_every_process() -> None:
    program = "import hashlib\nfrom test_sidecar import digest, everything\nprint(digest(everything()))\n"
    here = Path(__file__).parent
    paths = [str(here), str(here.parents[1]), *sys.path]
    for seed in ("1", "2"):
        answer = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(paths)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout.strip() == digest(everything())


def everything() -> SidecarWorkload:
    """A sidecar with a part of each kind."""
    decision = decided("STRICT", {9090: "DISABLE", 5432: "PERMISSIVE"})
    return sidecar(decision, capture=Capture.TRANSPARENT, ranges=("10.0.0.0/8", "fc00::/7"))


def digest(workload: SidecarWorkload) -> str:
    """A fingerprint of all rendered bytes."""
    resources = render_sidecar(workload)
    return hashlib.sha256(repr([(kind, list(named.items())) for kind, named in resources.items()]).encode()).hexdigest()
