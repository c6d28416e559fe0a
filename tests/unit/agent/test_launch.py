"""A supervised process gets the environment that was meant for it and nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from peerauth.agent.launch import wrapped
from peerauth.agent.ztunnel import ZtunnelLaunch, require_free_port
from peerauth.errors import PlatformError


def environment_of(argv: list[str]) -> list[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()


def test_without_one_there_is_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "ours")
    assert environment_of(wrapped(["/usr/bin/env"], parent=os.getpid())) == []


def test_variables_arrive_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "ours")
    variables = {"ONE": "a b=c", "EMPTY": ""}
    assert environment_of(wrapped(["/usr/bin/env"], parent=os.getpid(), environment=variables)) == [
        "ONE=a b=c",
        "EMPTY=",
    ]


def test_ztunnel_is_told_where_its_secrets_are_and_not_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a password")
    launch = ZtunnelLaunch(
        binary=Path("/usr/bin/env"),
        node="local",
        control_plane="127.0.0.1:1",
        hostname="control-plane",
        roots=tmp_path / "roots.pem",
        token=tmp_path / "token",
        agent=tmp_path / "zds.sock",
        certificate_seconds=60,
        log=tmp_path / "log",
        is_live=lambda: False,
    )
    told = environment_of(launch.wrapped(parent=os.getpid()))
    assert f"AUTH_TOKEN={tmp_path}/token" in told
    assert "SECRET_TTL=60s" in told
    assert not any("password" in line for line in told)


def test_a_port_that_is_taken_is_named_before_ztunnel_fails_on_it() -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PlatformError, match=f"port {port}, which ztunnel takes"):
            require_free_port(port)
    require_free_port(port)
