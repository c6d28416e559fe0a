"""Text for people: lined up, never cut, coloured on a terminal only."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest

from peerauth.cli.render import Role, columns, count, labelled, line, plain, writer


class Terminal(io.StringIO):
    """A stream that says it is a terminal, eighty columns wide."""

    def isatty(self) -> bool:
        return True


def test_columns_line_up_and_lines_end_where_their_text_ends() -> None:
    rows = [["a", "bb", "c"], ["aaa", "", "c"], ["a", "b", ""]]
    assert [plain(one) for one in columns(rows)] == ["a    bb  c", "aaa      c", "a    b"]


def test_a_label_stands_before_the_first_line_only() -> None:
    lines = labelled("ports", [line("8080"), line("9000")], width=7)
    assert [plain(one) for one in lines] == ["  ports  8080", "         9000"]
    assert labelled("ports", [], width=7) == []


def test_off_a_terminal_there_are_no_colours() -> None:
    out = io.StringIO()
    writer(out)([line(("STRICT", Role.GOOD), "  x ")])
    assert out.getvalue() == "STRICT  x\n"


def test_on_a_terminal_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()
    writer(out)([line(("STRICT", Role.GOOD))])
    assert out.getvalue() == "\x1b[32mSTRICT\x1b[0m\n"


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    writer(out)([line(("STRICT", Role.GOOD))])
    assert out.getvalue() == "STRICT\n"


def test_long_names_are_neither_cut_nor_wrapped_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    out = Terminal()
    name = "namespace/" + "x" * 200 + " " + "y" * 100
    writer(out)([line(name, "[markup] is text")])
    assert out.getvalue() == name + "[markup] is text\n"


def test_numbers_have_their_noun() -> None:
    assert [count(1, "policy", "policies"), count(2, "policy", "policies"), count(10_000, "document")] == [
        "1 policy",
        "2 policies",
        "10,000 documents",
    ]


def test_a_command_on_a_terminal_is_coloured_and_json_is_not() -> None:
    pod = b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  namespace: foo\nspec:\n  containers: []\n"
    outputs = {form: _on_a_terminal(["explain", "-f", "-", "-o", form], pod) for form in ("text", "json")}
    assert b"\x1b[" in outputs["text"]
    assert b"\x1b[" not in outputs["json"]


def _on_a_terminal(arguments: list[str], given: bytes) -> bytes:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from peerauth.cli.main import main; main()", *arguments]
    environment = {"TERM": "xterm", "PATH": os.defpath}
    subprocess.run(command, input=given, stdout=theirs, check=True, env=environment)
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 65536):
            written += part
    except OSError:  # the other end is closed: Linux says EIO
        pass
    os.close(ours)
    return written
