"""The documents are true: every `$ peerauth ...` example prints what stands below it, and links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from peerauth.cli.main import COMMANDS, cli

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
