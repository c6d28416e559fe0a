"""Paths to objects: which files are read, in which order, and what is reported."""

from __future__ import annotations

import contextlib
import gc
import io
from pathlib import Path

import pytest

from peerauth.errors import SourceError
from peerauth.model.inventory import Namespace
from peerauth.sources.files import collection_paused, documents, load
from peerauth.sources.tree import files_of

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(folder: Path, *paths: str) -> list[str]:
    return [str(Path(name).relative_to(folder)) for name in files_of([str(folder / path) for path in paths or [""]])]


def test_a_folder_is_read_recursively_and_sorted(tmp_path: Path) -> None:
    for name in ("b.yaml", "a/z.json", "a/b/c.yml", "c.txt", ".hidden.yaml", ".git/x.yaml", "a.yaml"):
        write(tmp_path, name, "")
    assert names(tmp_path) == ["a/b/c.yml", "a/z.json", "a.yaml", "b.yaml"]


def test_a_named_file_is_read_whatever_it_is_called_and_once(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "")
    assert names(tmp_path, "a.txt", "a.txt") == ["a.txt"]


def test_what_an_ignore_file_names_is_left_out_of_the_folder_but_not_when_named_itself(tmp_path: Path) -> None:
    write(tmp_path, ".peerauthignore", "# alternatives\npolicies/\n*.bak.yaml  # old\nsub/x.yaml\n")
    for name in ("a.yaml", "b.bak.yaml", "policies/p.yaml", "sub/x.yaml", "sub/y.yaml", "sub/policies/q.yaml"):
        write(tmp_path, name, "")
    assert names(tmp_path) == ["a.yaml", "sub/policies/q.yaml", "sub/y.yaml"]
    assert names(tmp_path, "policies") == ["policies/p.yaml"]


def test_a_link_to_a_folder_above_does_not_go_round_for_ever(tmp_path: Path) -> None:
    write(tmp_path, "a/x.yaml", "")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert names(tmp_path) == ["a/x.yaml"]


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"gone\.yaml does not exist"):
        load([str(tmp_path / "gone.yaml")])


def test_everything_wrong_in_a_run_is_reported_with_its_file_and_what_is_right_is_read(tmp_path: Path) -> None:
    bad = write(tmp_path, "a.yaml", NAMESPACE.format("one") + "---\na: [\n---\n" + NAMESPACE.format("two"))
    worse = write(tmp_path, "b.yaml", "kind: Namespace\napiVersion: v1\nmetadata: {name: 7}\n---\nx: 1\nx: 2\n")
    loaded = load([str(tmp_path)])
    assert [found.meta.name for found in loaded.objects if isinstance(found, Namespace)] == ["one", "two"]
    assert [str(found.origin) for found in loaded.diagnostics] == [
        f"{bad}:5:5",
        f"{worse}:3:18",
        f"{worse}:3:1",
        f"{worse}:6:1",
    ]
    assert loaded.documents == 5


def test_other_kinds_are_counted_and_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "---\n".join(f"apiVersion: x/v1\nkind: {kind}\n" for kind in ("Foo", "Bar", "Foo")))
    loaded = load([str(tmp_path)])
    assert (loaded.passed_over, loaded.objects, loaded.diagnostics) == ({"Foo": 2, "Bar": 1}, (), ())


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(NAMESPACE.format("piped").encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    (found,) = load(["-"]).objects
    assert isinstance(found, Namespace)
    assert str(found.meta.origin) == "-:1:1"


def test_documents_come_one_at_a_time(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "---\n".join(NAMESPACE.format(f"n{number}") for number in range(3)))
    stream = documents([str(tmp_path)])
    assert len(next(stream).objects) == 1
    assert len(list(stream)) == 2


def test_the_garbage_collector_is_left_as_it_was() -> None:
    assert gc.isenabled()
    with contextlib.suppress(RuntimeError), collection_paused():
        assert not gc.isenabled()
        raise RuntimeError
    assert gc.isenabled()
