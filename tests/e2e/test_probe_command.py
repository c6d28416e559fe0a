"""`peerauth probe` as its user runs it: against a mesh that `peerauth up` runs in another process."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from peerauth.ca.store import open_state
from peerauth.local.proof import probe_credentials
from rigs.mesh_on_this_machine import EXAMPLE
from rigs.up_process import PEERAUTH, Up, peerauth_up

pytestmark = pytest.mark.envoy

STRICT_MESH = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: foo}
spec: {mtls: {mode: STRICT}}
"""


class Probed(NamedTuple):
    """What the command said, and how it ended."""

    code: int | None
    out: str
    err: str


async def probe(*arguments: str) -> Probed:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PEERAUTH, "probe", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return Probed(process.returncode, out.decode(), err.decode())


async def address_of(up: Up, name: str) -> str:
    await up.address()
    return next(each.addresses[0] for each in up.running().workloads if each.key.name == name)


async def test_the_running_mesh_is_found_and_does_what_its_policy_says(tmp_path: Path) -> None:
    async with peerauth_up(tmp_path, str(EXAMPLE), "--apps") as up:
        await up.address()
        result = await probe("foo/finance:9000", "-o", "json", "--state", str(tmp_path))
        assert result.code == 0, result
        (port,) = json.loads(result.out)["ports"]
        outcomes = {each["client"]: each["outcome"] for each in port["connections"]}
        assert (outcomes["plaintext"], outcomes["mtls"], outcomes["hbone"]) == ("refused", "accepted", "accepted")


async def test_documents_that_ask_for_something_else_are_refuted(tmp_path: Path) -> None:
    """8080 is DISABLE in the mesh that runs; the documents given here want it STRICT."""
    wanted = tmp_path / "strict.yaml"
    wanted.write_text(STRICT_MESH)
    async with peerauth_up(tmp_path / "state", str(EXAMPLE), "--apps") as up:
        await up.address()
        mesh = str(EXAMPLE / "mesh.yaml")
        result = await probe("foo/finance:8080", "-f", mesh, "-f", str(wanted), "--state", str(tmp_path / "state"))
        assert result.code == 1
        assert "FAILED foo/finance:8080 plaintext" in result.out


async def test_a_port_at_an_address_is_probed_with_the_certificates_that_are_given(tmp_path: Path) -> None:
    async with peerauth_up(tmp_path, str(EXAMPLE), "--apps") as up:
        address = await address_of(up, "web")
        now = datetime.now(UTC)
        issuer = open_state(tmp_path / "ca" / "cluster.local", trust_domain="cluster.local", now=now)
        given = probe_credentials(issuer, trust_domain="cluster.local", now=now, serial=secrets.randbits(100))
        files = {"certificate": given.mesh.chain, "key": given.mesh.key, "roots": given.roots}
        options = []
        for name, content in files.items():
            (tmp_path / f"{name}.pem").write_bytes(content)
            options += [f"--{name}", str(tmp_path / f"{name}.pem")]
        result = await probe("foo/web:8080", "--address", address, "-f", str(EXAMPLE), *options)
        assert result.code == 0, result
        assert "9 connections to 1 port" in result.out


async def test_a_port_where_nothing_listens_proves_nothing(tmp_path: Path) -> None:
    async with peerauth_up(tmp_path, str(EXAMPLE), "--apps") as up:
        await up.address()
        result = await probe("foo/web:9999", "--state", str(tmp_path))
        assert result.code == 1
        assert "what cannot be reached proves nothing" in result.out


async def test_what_the_mesh_does_not_have_is_said(tmp_path: Path) -> None:
    async with peerauth_up(tmp_path, str(EXAMPLE), "--apps") as up:
        await up.address()
        result = await probe("foo/nobody", "--state", str(tmp_path))
        assert result.code == 2
        assert "no such workload" in result.err
