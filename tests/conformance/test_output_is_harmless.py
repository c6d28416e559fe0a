"""Nothing that documents, file names or arguments say steers the terminal that shows it, in whatever form."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PEERAUTH = [sys.executable, "-c", "from peerauth.cli.main import main; main()"]
HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
EVIL = r"\e]0;owned\a\x9b31m\x7f\u202e\u2028"  # as YAML writes it
NAME = b"caf\xe9\x1b]0;owned\x07\xc2\x9b31m\xe2\x80\xae\n.yaml"

WITH_FINDINGS = f"""\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: "a{EVIL}", namespace: foo}}
spec: {{mtls: {{mode: "STRICT{EVIL}\\nerror: made up"}}, "m{EVIL}": 1}}
---
apiVersion: v1
kind: Pod
metadata: {{name: "p{EVIL}", namespace: "n{EVIL}", labels: {{"a{EVIL}": "b{EVIL}"}}}}
spec: {{containers: [{{name: c, ports: [{{containerPort: 80, name: "h{EVIL}"}}]}}]}}
---
apiVersion: "x{EVIL}/v1"
kind: "Kind{EVIL}"
metadata: {{name: x}}
"""
WITHOUT_FINDINGS = f"""\
apiVersion: v1
kind: Namespace
metadata: {{name: foo, labels: {{istio-injection: enabled}}, annotations: {{a: "{EVIL}"}}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: foo, annotations: {{a: "{EVIL}"}}}}
spec: {{mtls: {{mode: STRICT}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: p, namespace: foo, annotations: {{a: "{EVIL}"}}}}
spec: {{containers: [{{name: c, ports: [{{containerPort: 80, name: "h{EVIL}"}}, {{containerPort: 81, name: x}}]}}]}}
---
apiVersion: v1
kind: "Kind{EVIL}"
metadata: {{name: x}}
"""
UNREADABLE = b"a: \xff\x1b]0;owned\x07[\n"


def harmful(*arguments: str | bytes, folder: Path) -> list[str]:
    """What a command writes that it should not: harmful characters, and lines that look as if it had written them."""
    ended = subprocess.run([*PEERAUTH, *arguments], check=False, cwd=folder, capture_output=True)
    assert ended.returncode in (0, 1, 2), ended.stderr.decode()
    text = (ended.stdout + ended.stderr).decode()
    assert "Traceback" not in text
    assert text
    return [*HARMFUL.findall(text), *re.findall("^error: made up", text, re.MULTILINE)]


UP = ("up", ".")
SAID = {"findings": WITH_FINDINGS.encode(), "none": WITHOUT_FINDINGS.encode(), "unreadable": UNREADABLE}
COMMANDS = [
    *(("explain", "-f", ".", "--keep-going", "-o", form) for form in ("text", "json")),
    *(("check", "-f", ".", "-o", form) for form in ("text", "json", "sarif")),
]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        *((command, said) for command in COMMANDS for said in SAID),
        (("up", "."), "findings"),
        (("up", "."), "unreadable"),
    ],
)
def test_documents_and_file_names(command: tuple[str, ...], said: str, tmp_path: Path) -> None:
    file = os.path.join(os.fsencode(tmp_path), NAME)
    with open(file, "wb") as stream:
        stream.write(SAID[said])
    more = ("--state", str(tmp_path / "state")) if command[0] == "up" else ()
    assert harmful(*command, *more, folder=tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["expl\x1b[2Jain"],
        ["explain", "a\x1b[2J/b", "-f", "."],
        ["explain", "a\x1b[2Jb", "-f", "."],
        ["check", "--no\x1b[2J", "-f", "."],
        ["check", "-f", "not\x1b[2J\u202ethere"],
        ["check", "-f", b"not\xe9there"],
        ["check", "-f", ".", "-o", "x\x1b[2J"],
        ["up", ".", "--certificate-lifetime", "\x1b[2J"],
        ["up", ".", "--ca", "\x1b[2J"],
    ],
)
def test_arguments_that_an_error_quotes(arguments: list[str | bytes], tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(WITHOUT_FINDINGS)
    assert harmful(*arguments, folder=tmp_path) == []


def test_columns_line_up_beside_what_was_made_visible(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(WITHOUT_FINDINGS)
    ended = subprocess.run([*PEERAUTH, "explain", "-f", "."], check=True, cwd=tmp_path, capture_output=True, text=True)
    ports = [line for line in ended.stdout.splitlines() if re.match(r"^  (ports| {5}) +8[01] ", line)]
    assert len(ports) == 2
    assert len({line.index("STRICT") for line in ports}) == 1
