"""Reading for the command line: progress on a terminal only, and what makes an input empty."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from peerauth.cli import reading
from peerauth.errors import SourceError
from samples.manifests import documents, pod


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pods.yaml").write_text(documents(*(pod(f"foo/p{number}") for number in range(7))))
    return tmp_path


def test_progress_is_told_on_a_terminal_and_wiped_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_EVERY", 3)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert reading.read([str(folder)]).documents == 7
    assert terminal.getvalue() == "\rreading: 3 documents\rreading: 6 documents\r\x1b[K"


def test_a_short_reading_says_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    reading.read([str(folder)])
    assert terminal.getvalue() == ""


def test_off_a_terminal_there_is_no_progress(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reading, "_EVERY", 3)
    reading.read([str(folder)])
    assert capsys.readouterr().err == ""


def test_a_folder_without_documents_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as raised:
        reading.read([str(tmp_path)])
    assert str(tmp_path) in raised.value.message
