"""Runs on one machine are kept apart, and what a dead run left is cleaned by the next."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from peerauth.errors import PlatformError
from peerauth.local.instance import LIMIT, claim


def test_two_runs_get_different_numbers_and_folders(tmp_path: Path) -> None:
    with claim(tmp_path / "run") as first, claim(tmp_path / "run") as second:
        assert first.number < second.number
        assert first.folder != second.folder


def test_runs_of_different_users_share_no_number(tmp_path: Path) -> None:
    """Two users have folders of their own, but one machine's addresses."""
    with claim(tmp_path / "one") as first, claim(tmp_path / "another") as second:
        assert first.number != second.number


def test_a_number_is_free_again_when_its_run_ended(tmp_path: Path) -> None:
    with claim(tmp_path / "run") as first:
        folder = first.folder
    assert not folder.exists()
    with claim(tmp_path / "run") as second:
        assert second.number == first.number


def test_what_a_killed_run_left_is_gone_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    for number in range(LIMIT):
        (tmp_path / "run" / str(number)).mkdir()
        (tmp_path / "run" / str(number) / "old.sock").touch()
    with claim(tmp_path / "run") as instance:
        assert list(instance.folder.iterdir()) == []
        assert stat.S_IMODE(instance.folder.stat().st_mode) == 0o700


def test_what_a_killed_run_left_is_cleaned_by_a_run_with_another_number_and_a_living_one_s_is_not(
    tmp_path: Path,
) -> None:
    with claim(tmp_path / "run") as living:
        left = tmp_path / "run" / "7"
        left.mkdir()
        (tmp_path / "run" / "7.lock").touch()
        (living.folder / "xds.sock").touch()
        with claim(tmp_path / "run") as another:
            assert another.number != 7
            assert not left.exists()
            assert (living.folder / "xds.sock").exists()


def test_a_folder_that_others_can_open_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "run"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(PlatformError, match="only this user"), claim(shared):
        pass


def test_what_someone_removed_under_a_run_is_made_again(tmp_path: Path) -> None:
    with claim(tmp_path / "run") as living:
        assert not living.restore()
        shutil.rmtree(tmp_path / "run")
        assert living.restore()
        assert stat.S_IMODE(living.folder.stat().st_mode) == 0o700
        (living.folder / "xds.sock").touch()
        with claim(tmp_path / "run") as another:
            assert another.number != living.number
            assert (living.folder / "xds.sock").exists()


def test_a_start_leaves_a_living_run_alone_whose_lock_was_removed(tmp_path: Path) -> None:
    with claim(tmp_path / "run") as living:
        (tmp_path / "run" / f"{living.number}.lock").unlink()
        (living.folder / "xds.sock").touch()
        with claim(tmp_path / "run") as another:
            assert another.number != living.number
        assert (living.folder / "xds.sock").exists()


def test_a_folder_that_another_put_in_the_place_of_ours_is_not_used(tmp_path: Path) -> None:
    with claim(tmp_path / "run") as living:
        living.folder.rename(tmp_path / "away")
        living.folder.symlink_to(tmp_path / "away")
        with pytest.raises(PlatformError, match="only this user"):
            living.restore()
        living.folder.unlink()


def test_a_place_where_no_folder_can_be_made_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PlatformError, match="cannot be used") as caught, claim(tmp_path / "file" / "run"):
        pass
    assert "XDG_RUNTIME_DIR" in caught.value.hint
