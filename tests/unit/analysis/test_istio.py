"""Where Istio's own control plane differs in ambient: every combination of modes, and the way to write it alike."""

from __future__ import annotations

from itertools import product

import pytest

from peerauth.analysis.istio import difference
from peerauth.model.meta import Meta
from peerauth.model.peerauth import Mode, PeerAuthentication, PortMode
from peerauth.policy.decision import Dataplane, Decision
from peerauth.policy.resolve import resolve
from samples.manifests import IN_AMBIENT_MODE, found_of, namespace, pod, policy

U, D, P, S = Mode.UNSET, Mode.DISABLE, Mode.PERMISSIVE, Mode.STRICT
BROAD = (None, U, D, P, S)
LABELS = frozenset({("app", "x")})
Ports = dict[int, Mode]
PORTS: tuple[Ports, ...] = tuple(
    {number: mode for number, mode in ((1, first), (2, second)) if mode is not None}
    for first, second in product((None, U, D, P, S), repeat=2)
)
EVERY = [*product(BROAD, BROAD, (U, D, P, S), PORTS)]


def decided(
    mesh: Mode | None, own: Mode | None, mode: Mode, ports: Ports, dataplane: Dataplane = Dataplane.AMBIENT
) -> Decision:
    entries = tuple(PortMode(number, said) for number, said in ports.items())
    policies = [PeerAuthentication(Meta("w", "foo"), LABELS, mode, ports=entries)]
    policies += [PeerAuthentication(Meta("m", "istio-system"), mode=mesh)] if mesh is not None else []
    policies += [PeerAuthentication(Meta("n", "foo"), mode=own)] if own is not None else []
    return resolve(LABELS, "foo", policies=policies, dataplane=dataplane)


def expected(mesh: Mode | None, own: Mode | None, mode: Mode, ports: Ports) -> tuple[set[int | None], set[int | None]]:
    """The cases as docs/findings/PA0305.md tells them: the ports that are opened, and those that are refused."""
    said = set(ports.values())
    mesh_reaches = mesh is S and own in (None, U)
    if mode is U and mesh is S and own is U and P in said:
        return {None, *(port for port, entry in ports.items() if entry in (S, U))}, set()
    if mode is U and (mesh_reaches or own is S) and D in said and P not in said:
        return set(), {port for port, entry in ports.items() if entry is D}
    if mode in (P, D) and mesh_reaches and S in said:
        return {port for port, entry in ports.items() if entry is S}, set()
    return set(), set()


def test_istio_differs_in_the_cases_that_the_page_tells_and_in_no_other() -> None:
    for mesh, own, mode, ports in EVERY:
        found = difference(decided(mesh, own, mode, ports))
        opened, refused = (set(found.opened), set(found.refused)) if found else (set(), set())
        assert (opened, refused) == expected(mesh, own, mode, ports), (mesh, own, mode, ports)


def test_what_the_fix_says_is_read_alike() -> None:
    for mesh, own, mode, ports in EVERY:
        found = difference(decided(mesh, own, mode, ports))
        if found is None:
            continue
        mended = decided(mesh, own, S, ports) if mode is U else decided(mesh, S, mode, ports)
        assert difference(mended) is None, (mesh, own, mode, ports)
        before = decided(mesh, own, mode, ports)
        assert (mended.mode, mended.ports) == (before.mode, before.ports), "the fix changes nothing else"


def test_with_a_sidecar_istio_does_as_it_says() -> None:
    for mesh, own, mode, ports in EVERY:
        assert difference(decided(mesh, own, mode, ports, Dataplane.SIDECAR)) is None


def test_a_policy_that_lost_has_no_say() -> None:
    loser = PeerAuthentication(Meta("z", "foo"), LABELS, U, ports=(PortMode(1, D),))
    winner = PeerAuthentication(Meta("a", "foo"), LABELS, S)
    mesh = PeerAuthentication(Meta("m", "istio-system"), mode=S)
    assert difference(resolve(LABELS, "foo", policies=[loser, winner, mesh], dataplane=Dataplane.AMBIENT)) is None


AMBIENT = (namespace(labels=IN_AMBIENT_MODE), pod(), pod("foo/other", labels={"app": "finance"}))


@pytest.mark.parametrize(
    ("policies", "words"),
    [
        (
            (
                policy("istio-system/m", "STRICT"),
                policy("foo/ns"),
                policy("foo/w", app="finance", ports={8080: "PERMISSIVE"}),
            ),
            "plaintext passes on every port that it does not name",
        ),
        (
            (policy("foo/ns", "STRICT"), policy("foo/w", app="finance", ports={8080: "DISABLE"})),
            "plaintext is refused on port 8080",
        ),
    ],
)
def test_a_finding_names_the_policy_the_ports_and_the_way_to_write_it(policies: tuple[str, ...], words: str) -> None:
    (finding,) = found_of("PA0305", *AMBIENT, *policies)
    assert finding.subject == "PeerAuthentication foo/w"
    assert words in finding.message
    assert "foo/finance, foo/other" in finding.message
    assert finding.hint == "say `mtls.mode: STRICT` in foo/w itself"
