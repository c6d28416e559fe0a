"""Every code of a finding has a page, every page a code, and every page's example produces the finding it explains."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from peerauth.analysis.lint.codes import ALL_CODES
from peerauth.cli.main import cli

PAGES = Path(__file__).parents[3] / "docs" / "findings"
WATCHED_ONLY = {"PA0015"}  # reported by what follows files, never by `check`
HEADINGS = ["What it means", "Example", "Why it matters", "Fix"]


def page(code: str) -> str:
    return (PAGES / f"{code}.md").read_text("utf-8")


def example(text: str) -> tuple[list[str], bytes]:
    """The options of the command that the page shows, and the input that it shows."""
    command = re.search(r"`peerauth check -f example\.yaml(.*?)` reports", text)
    fence = re.search(r"```(yaml|python)\n(.*?)```", text, re.DOTALL)
    assert command is not None
    assert fence is not None
    body = ast.literal_eval(fence[2].strip()) if fence[1] == "python" else fence[2].encode()
    assert isinstance(body, bytes)
    return command[1].split(), body


def test_pages_and_codes_are_the_same_set() -> None:
    assert {path.stem for path in PAGES.glob("PA*.md")} == set(ALL_CODES)


def test_no_two_codes_share_a_name() -> None:
    names = [code.name for code in ALL_CODES.values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("code", sorted(ALL_CODES))
def test_a_page_names_its_code_says_its_severity_and_has_every_part(code: str) -> None:
    known, text = ALL_CODES[code], page(code)
    assert text.startswith(f"# {code}: {known.name}\n")
    word = {"error": "error", "warning": "warning", "info": "information"}[known.severity]
    assert f"\nSeverity: {word}" in text
    assert [heading for heading in re.findall(r"^## (.*)$", text, re.MULTILINE) if heading in HEADINGS] == HEADINGS


@pytest.mark.parametrize("code", sorted(set(ALL_CODES) - WATCHED_ONLY))
def test_the_example_of_a_page_produces_its_finding(code: str, tmp_path: Path) -> None:
    options, body = example(page(code))
    path = tmp_path / "example.yaml"
    path.write_bytes(body)
    result = CliRunner().invoke(cli, ["check", "-f", str(path), *options])
    assert re.search(rf"^(error|warning|info) {code}  ", result.output, re.MULTILINE), result.output
    assert f"  at       {path}" in result.output or code == "PA0502"


@pytest.mark.parametrize("code", sorted(code for code in ALL_CODES if code >= "PA0101"))
def test_the_example_of_a_page_produces_no_other_warning(code: str, tmp_path: Path) -> None:
    options, body = example(page(code))
    path = tmp_path / "example.yaml"
    path.write_bytes(body)
    result = CliRunner().invoke(cli, ["check", "-f", str(path), *options])
    others = re.findall(r"^(?:error|warning) (PA\d+)", result.output, re.MULTILINE)
    assert set(others) <= {code}, result.output
