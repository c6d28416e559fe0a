"""The documents are true: every `$ peerauth ...` example prints what stands below it, and links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from peerauth.cli.main import COMMANDS, cli
from peerauth.policy.decision import Dataplane, Decision, EffectiveMode
from peerauth.policy.reception import ClientKind
from peerauth.probe import Outcome, expectation

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EXAMPLE = re.compile(r"^    \$ peerauth (?P<command>.*)\n(?P<output>(?:(?:    .*)?\n)*?)(?=^\S|\Z)", re.MULTILINE)
LINK = re.compile(r"\]\((?P<target>[^)#:]+)(?:#[^)]*)?\)")


def examples() -> Iterator[tuple[str, str, str]]:
    for path in DOCUMENTS:
        for found in EXAMPLE.finditer(path.read_text()):
            output = "\n".join(line[4:].rstrip() for line in found["output"].split("\n")).strip("\n")
            yield str(path.relative_to(ROOT)), found["command"], output


@pytest.mark.parametrize(("document", "command", "output"), list(examples()))
def test_an_example_prints_what_the_document_shows(
    document: str, command: str, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(cli, shlex.split(command), catch_exceptions=False)
    assert result.output.strip("\n") == output, f"{document}: peerauth {command}"


def test_the_readme_has_an_example() -> None:
    assert "README.md" in {document for document, _, _ in examples()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    for found in LINK.finditer(document.read_text()):
        assert (document.parent / found["target"]).exists(), found["target"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_page(command: str) -> None:
    page = ROOT / "docs" / f"{command}.md"
    assert page.exists()
    assert f"peerauth {command}" in page.read_text()


ON_THE_WIRE = {
    "plaintext": ClientKind.PLAINTEXT,
    "TLS without a client certificate": ClientKind.TLS,
    "the same, with a mesh client's ALPN": ClientKind.ISTIO_ALPN_NO_CERT,
    "mutual TLS, certificate of this mesh, a mesh client's ALPN": ClientKind.MTLS,
    "the same without that ALPN": ClientKind.MTLS_NO_ALPN,
    "mutual TLS, certificate of another authority or trust domain": ClientKind.OTHER_CA,
    "HBONE (port 15008) with a certificate of this mesh": ClientKind.HBONE,
}
MET = {
    Outcome.ACCEPTED: "reaches the application",
    Outcome.PASSED_THROUGH: "the application gets the TLS bytes",
    Outcome.REFUSED: "refused",
}


def test_the_table_of_the_modes_is_what_sidecars_are_expected_to_do() -> None:
    section = (ROOT / "docs" / "concepts.md").read_text().partition("## What a mode means on the wire\n\n")[2]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.partition("\n\n")[0].split("\n")]
    (_, *modes), _, *rows = table
    assert [client for client, *_ in rows] == list(ON_THE_WIRE)
    for client, *cells in rows:
        for mode, cell in zip(map(EffectiveMode, modes), cells, strict=True):
            wanted = expectation(ON_THE_WIRE[client], Decision(Dataplane.SIDECAR, mode), 8080).outcome
            assert cell.startswith(MET[wanted]), f"{client}, {mode}"
