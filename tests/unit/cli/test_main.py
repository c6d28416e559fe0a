"""The entry point: what it imports, what it says, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from peerauth.cli.main import COMMANDS, cli

PEERAUTH = [sys.executable, "-c", "from peerauth.cli.main import main; main()"]
HEAVY = ("rich", "grpc", "google.protobuf", "cryptography", "envoy", "yaml", "asyncio")


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, list(arguments))
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["explian"]])
def test_what_needs_no_command_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom peerauth.cli.main import cli\n"
        f"try:\n    cli({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == ""


@pytest.mark.parametrize("command", ["explain", "check"])
def test_looking_at_files_imports_neither_proxies_nor_keys(command: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: foo\n")
    code = (
        "import sys\nfrom peerauth.cli.main import cli\n"
        f"try:\n    cli([{command!r}, '-f', {str(tmp_path)!r}])\nexcept SystemExit:\n    pass\n"
        "print(*(name for name in ('rich', 'grpc', 'google.protobuf', 'cryptography') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_help_teaches_by_examples_and_lists_every_command() -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert "peerauth explain foo/finance:8080 -f manifests/" in out
    assert "Exit codes: 0 fine, 1 findings or a refused expectation, 2 bad input or usage." in out
    assert all(f"  {name}" in out and command.summary in out for name, command in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_registry_is_there_and_has_examples(name: str) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0
    assert "Examples:" in out
    with click.Context(cli) as context:
        assert isinstance(cli.get_command(context, name), click.Command)


def test_the_version_is_the_distributions() -> None:
    assert run("--version")[:2] == (0, "peerauth 0.1.0\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explian"], "error: there is no command 'explian'. Did you mean 'explain'?\n  hint: peerauth --help\n"),
        (["explain"], "error: Missing option '-f' / '--file'.\n  hint: peerauth explain --help\n"),
        (["check", "-f", "x", "-o", "xml"], "error: Invalid value for '-o' / '--output': 'xml' is not one of"),
        (["up", "x", "--ztunnel", sys.executable], "error: --ztunnel needs --capture transparent"),
        (
            ["up", "x", "--capture", "transparent", "--certificate-lifetime", "299s", "--ztunnel", sys.executable],
            "error: --ztunnel needs a --certificate-lifetime of 5m at least",
        ),
        (["check", "-f", "not/there"], "error: not/there does not exist\n  hint: "),
        (["explain", "finance", "-f", "x"], "error: Invalid value for '[TARGET]': 'finance' is not NAMESPACE/NAME"),
        (["explain", "a/b:http", "-f", "x"], "error: Invalid value for '[TARGET]': 'http' is not a port"),
        (["explain", "a/b:0", "-f", "x"], "error: Invalid value for '[TARGET]': '0' is not a port"),
        (["explain", "a/b:65536", "-f", "x"], "error: Invalid value for '[TARGET]': '65536' is not a port"),
        (["explain", "a/b:", "-f", "x"], "error: Invalid value for '[TARGET]': '' is not a port"),
        (["explain", "a/b/c", "-f", "x"], "error: Invalid value for '[TARGET]': 'a/b/c' is not NAMESPACE/NAME"),
    ],
)
def test_usage_errors_leave_through_one_door(arguments: list[str], message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message)


def test_a_reader_that_goes_away_ends_the_command_quietly(tmp_path: Path) -> None:
    pods = "---\n".join(
        f"apiVersion: v1\nkind: Pod\nmetadata:\n  name: p{number}\n  namespace: foo\nspec:\n  containers: []\n"
        for number in range(1000)
    )
    (tmp_path / "pods.yaml").write_text(pods)
    with subprocess.Popen(
        [*PEERAUTH, "explain", "-f", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_an_interrupt_ends_the_command_without_a_traceback(tmp_path: Path) -> None:
    fifo = tmp_path / "documents.yaml"
    os.mkfifo(fifo)
    command = [*PEERAUTH, "check", "-f", str(fifo)]
    # The pipe opens for writing once the command reads it.
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process, fifo.open("w"):
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip() == "interrupted"
