"""A root is replaced under traffic: old and new trusted together, then the new one alone, and no one notices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from peerauth.agent.admin import ask
from peerauth.ca.store import open_state
from peerauth.identity.x509 import Issuer
from peerauth.local.proof import probe_credentials
from peerauth.model.inventory import WorkloadKey
from peerauth.model.placement import Capture
from rigs.envoycounts import envoy_stats, failed_handshakes
from rigs.mesh_on_this_machine import (
    CLIENT,
    FINANCE,
    NO_ROOT,
    TRUST_DOMAIN,
    WEB,
    Machine,
    machine,
    now,
    objects,
    policy,
)

pytestmark = [pytest.mark.envoy, pytest.mark.root, pytest.mark.skipif(bool(NO_ROOT), reason=NO_ROOT or "supported")]

MIXED = Path(__file__).parents[2] / "examples" / "mixed" / "mesh.yaml"
ERRAND = WorkloadKey("foo", "errand", "Deployment")
LIFETIME = timedelta(seconds=4)
WAYS = [(client, server) for client in (CLIENT, ERRAND) for server in (FINANCE, WEB)]
"""From a sidecar and from an ambient workload, to each of them."""


class Certificates(msgspec.Struct, frozen=True):
    """The serial numbers that one Envoy uses, in hexadecimal."""

    roots: frozenset[str]
    leaves: frozenset[str]


def admins(running: Machine) -> list[Path]:
    supervisors = [running.mesh.node().supervisor, *(agent.supervisor for agent in running.mesh.agents().values())]
    return [supervisor.launch.admin for supervisor in supervisors]


async def certificates(running: Machine) -> dict[Path, Certificates]:
    """What every Envoy uses now."""
    found: dict[Path, Certificates] = {}
    for admin in admins(running):
        contexts = json.loads((await ask(admin, "/certs")).body)["certificates"]
        found[admin] = Certificates(
            frozenset(each["serial_number"] for context in contexts for each in context["ca_cert"]),
            frozenset(each["serial_number"] for context in contexts for each in context["cert_chain"]),
        )
    return found


def serial_number(certificate: x509.Certificate) -> str:
    """As Envoy writes it: whole bytes, so that a number whose first digit is 0 keeps it."""
    digits = f"{certificate.serial_number:x}"
    return digits.zfill(len(digits) + len(digits) % 2)


async def taken_up(running: Machine, issuer: Issuer) -> None:
    """Signs with `issuer` from now on; returns when every Envoy has nothing from before and trusts its roots alone."""
    before: Mapping[Path, Certificates] = await certificates(running)
    roots = {serial_number(root) for root in issuer.roots}
    running.mesh.authority.use(issuer)
    async with asyncio.timeout(30):
        while True:
            after = await certificates(running)
            if all(after[at].roots == roots and not after[at].leaves & before[at].leaves for at in after):
                return
            await asyncio.sleep(0.05)


async def test_a_root_is_replaced_without_a_failed_handshake_or_a_dropped_connection(tmp_path: Path) -> None:
    async with machine(tmp_path, capture=Capture.TRANSPARENT, lifetime=LIFETIME) as running:
        old = open_state(tmp_path / "ca", trust_domain=TRUST_DOMAIN, now=now())
        new = open_state(tmp_path / "new", trust_domain=TRUST_DOMAIN, now=now())
        both = (*old.roots, *new.roots)
        await running.load(objects(MIXED, policy("foo", "STRICT")))
        for server in (FINANCE, WEB):
            await running.serve(server, 8080)
        held = [await running.dial(server, 8080, by=client) for client, server in WAYS]
        failures: list[str] = []

        async def dial_on() -> None:
            while True:
                for client, server in WAYS:
                    if not await running.reaches(server, 8080, by=client):
                        failures.append(f"{client} -> {server}")

        async with asyncio.TaskGroup() as group:
            dialling = group.create_task(dial_on())
            await taken_up(running, msgspec.structs.replace(old, roots=both))
            await taken_up(running, msgspec.structs.replace(new, roots=both))
            await taken_up(running, new)
            dialling.cancel()
        assert failures == []
        for connection in held:
            assert await connection.echoes()
        for admin in admins(running):
            assert set(failed_handshakes(await envoy_stats(admin)).values()) == {0}

        running.presented = msgspec.structs.replace(running.presented, roots=running.mesh.authority.roots_pem)
        for issuer, welcome in ((old, False), (new, True)):
            presented = probe_credentials(issuer, trust_domain=TRUST_DOMAIN, now=now(), serial=7)
            assert await running.reaches(FINANCE, 8080, tls=running.mutual(certificate=presented.mesh)) is welcome
